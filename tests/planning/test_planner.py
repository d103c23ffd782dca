"""Bytes, times and verdicts, against numbers that were worked out by hand, and against the model itself."""

from dataclasses import replace

import pytest

from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.planning.planner import (
    Budget,
    Entry,
    ModelSize,
    codec_streams,
    entry,
    frame_ms,
    plan,
    size_of,
    verdict,
)

MOSHI = size_of(LmConfig.from_dict(MOSHI_7B))
# Scales and biases included: 8 bits in groups of 64, 4 bits in groups of 32 and 64, mxfp4.
BITS_PER_WEIGHT = {"bf16": 16.0, "q8": 8.5, "q4": 5.0, "q4-g64": 4.5, "mxfp4": 4.25}
MODELS = {f"moshiko-{kind}": (MOSHI, BITS_PER_WEIGHT[kind]) for kind in ("q8", "q4", "bf16")}
GIB = 2**30


def mac(gibibytes: int, bandwidth: float | None) -> Budget:
    return Budget(gibibytes * GIB, bandwidth)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [  # GB per frame with 0, 1000, 3000 past positions, as worked out from the arrays of real checkpoints
        ("bf16", (14.75, 15.27, 16.32)),
        ("q8", (7.84, 8.36, 9.41)),
        ("q4", (4.61, 5.13, 6.18)),
        ("q4-g64", (4.15, 4.67, 5.72)),
        ("mxfp4", (3.92, 4.44, 5.49)),
    ],
)
def test_bytes_per_frame_of_moshi_7b(kind: str, expected: tuple[float, ...]) -> None:
    read = [MOSHI.frame_bytes(BITS_PER_WEIGHT[kind], context) / 1e9 for context in (0, 1000, 3000)]
    assert [round(gigabytes, 2) for gigabytes in read] == list(expected)


@pytest.mark.parametrize(("kind", "expected"), [("q4", (4.89, 5.45)), ("mxfp4", (4.20, 4.75))])
def test_bytes_per_frame_with_an_int8_window(kind: str, expected: tuple[float, ...]) -> None:
    read = [MOSHI.frame_bytes(BITS_PER_WEIGHT[kind], context, 8) / 1e9 for context in (1000, 3000)]
    assert read == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("kind", "expected"), [("bf16", 16.95), ("q8", 9.74), ("q4", 6.38), ("q4-g64", 5.90), ("mxfp4", 5.66)]
)
def test_resident_bytes_with_a_full_window(kind: str, expected: float) -> None:
    assert round(MOSHI.resident_bytes(BITS_PER_WEIGHT[kind], 3000) / 1e9, 2) == expected


def model_parameters(config: LmConfig) -> int:
    """Counted from the model's own arrays, which are never evaluated; those that steps share count once."""
    from moshi_mlx.models.layers import parameters
    from moshi_mlx.models.lm import Lm
    from moshi_mlx.weights.key_map import mlx_origin

    arrays = {mlx_origin(name, config).key: array.size for name, array in parameters(Lm(config)).items()}
    return sum(arrays.values())


@pytest.mark.parametrize(
    "changes",
    [{}, {"depformer_weights_per_step_schedule": [0, 1, 2, 3, 4, 4, 4, 4]}, {"kv_repeat": 4}],
    ids=["moshi", "shared-steps", "shared-heads"],
)
def test_the_size_is_that_of_the_model(changes: dict) -> None:
    config = LmConfig.from_dict({**MOSHI_7B, **changes})
    assert size_of(config).stored == pytest.approx(model_parameters(config), rel=1e-3)


def test_keys_and_values_are_counted_as_the_ring_holds_them() -> None:
    from moshi_mlx.checkpoint.random_checkpoint import TINY
    from moshi_mlx.models.lm import Lm

    config = LmConfig.from_dict({**TINY, "num_heads": 2})
    held = sum(array.size for array in Lm(config).new_state().temporal.arrays())
    size = size_of(config)
    assert held >= size.per_position * size.window
    assert held <= size.per_position * (size.window + 1)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(None, "unknown"), (67.99, "good"), (68.0, "thin"), (79.99, "thin"), (80.0, "no"), (1e4, "no")],
)
def test_verdicts_at_their_edges(ms: float | None, expected: str) -> None:
    assert verdict(ms) == expected


def test_the_time_of_a_frame() -> None:
    assert frame_ms(8.5e9, 100) == pytest.approx(100 + 5)


def test_memory_is_counted_in_gib_and_a_share_of_it_is_left() -> None:
    size = ModelSize(0, 0, 0, 1)
    need = 1.4e9  # codec and margin
    assert entry("m", size, 16, 0, Budget(int(need / 0.7) + 1, None)).fits
    assert not entry("m", size, 16, 0, Budget(int(need / 0.7) - 1, None)).fits
    # 11.14 GB are needed: 70 % of 16 GiB hold them, 70 % of 15.9 GB, which is what 16 "GB" of disk would be, not
    assert entry("m", MOSHI, 8.5, 3000, mac(16, None)).fits
    assert not entry("m", MOSHI, 8.5, 3000, Budget(15_900_000_000, None)).fits


@pytest.mark.parametrize(
    ("gibibytes", "bandwidth", "expected"),
    [
        (16, 68, None),  # M1
        (8, 100, None),  # M2 Air: time enough, memory not
        (16, 100, ("moshiko-q4", 3000, 8, "thin")),  # M2, M3
        (24, 120, ("moshiko-q4", 3000, 16, "good")),  # M4
        (18, 150, ("moshiko-q4", 3000, 16, "good")),  # M3 Pro
        (16, 200, ("moshiko-q8", 3000, 16, "good")),  # M1 Pro
        (64, 400, ("moshiko-q8", 3000, 16, "good")),  # Max
        (16, None, ("moshiko-q4", 3000, 16, "unknown")),  # a chip of the future: the least to read
        (16, 88, ("moshiko-q4", 3000, 8, "thin")),
        (16, 85.5, ("moshiko-q4", 1500, 16, "thin")),  # too slow for a whole window
    ],
)
def test_what_is_recommended(gibibytes: int, bandwidth: float | None, expected: tuple | None) -> None:
    best = plan(MODELS, mac(gibibytes, bandwidth)).recommended
    assert (best and (best.model, best.context, best.kv_bits, best.verdict)) == expected


def test_every_model_is_planned_at_every_context() -> None:
    planned = plan(MODELS, mac(16, 100))
    lengths = [(found.context, found.kv_bits) for found in planned.entries if found.model == "moshiko-bf16"]
    assert lengths == [(0, 16), (1500, 16), (3000, 16), (3000, 8)]
    assert len(planned.entries) == 3 * 4
    asked = plan(MODELS, mac(16, 100), context=1000).entries
    assert {found.context for found in asked} == {0, 500, 1000}
    beyond = plan(MODELS, mac(16, 100), context=9000).entries
    assert max(found.context for found in beyond) == 3000


def test_heads_too_narrow_for_int8_have_no_such_plan() -> None:
    narrow = replace(MOSHI, int8_window=False)
    assert {found.kv_bits for found in plan({"m": (narrow, 5)}, mac(16, 100)).entries} == {16}
    config = {**MOSHI_7B, "num_heads": 256}
    assert not size_of(LmConfig.from_dict(config)).int8_window


def test_a_cpu_is_too_slow_for_7b_and_may_do_for_less() -> None:
    cpu = Budget(64 * GIB, 400, cpu=True)
    judged: list[Entry] = [*plan(MODELS, cpu).entries, *plan({"m": (ModelSize(10, 10, 1, 9), 16)}, cpu).entries]
    assert {(found.verdict, found.ms) for found in judged[:-4]} == {("no", None)}
    assert {(found.verdict, found.ms) for found in judged[-4:]} == {("unknown", None)}


@pytest.mark.parametrize(
    ("cost", "cores", "streams"), [(0.065, 2, 1), (0.04, 10, 14), (0.01, 1, 3), (0.5, 4, 0), (0.06, 3, 2)]
)
def test_streams_of_a_codec_that_takes_each_by_itself(cost: float, cores: int, streams: int) -> None:
    """Three quarters of all processors but half a one, 80 ms each."""
    assert codec_streams(cost, cores) == streams
