"""What a frame costs on any machine: its gates, and bytes against those of real arrays and the published shape."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from benchmarks.gates import COUNT_GATES, missed
from moshi_mlx.bench.counts import Counts, codec_kernels, count, traffic
from moshi_mlx.bench.shapes import KINDS, SHAPES, random_lm, skeleton
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_TTS
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.layers import parameter_bytes, parameters
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.weights.key_map import mlx_origin

pytestmark = pytest.mark.slow

TINY_LM = LmConfig.from_dict(TINY)


@pytest.fixture(scope="module")
def counts() -> Counts:
    return count("moshi-7b", MOSHI_7B, "q4", frames=24)  # the window, a dozen, is full when the second half begins


def test_a_frame_stays_within_its_gates(counts: Counts) -> None:
    assert not missed(counts.as_dict(), COUNT_GATES)


def test_the_matmuls_are_those_of_the_architecture(counts: Counts) -> None:
    temporal = 32 * 4  # in_proj, out_proj, linear_in, linear_out; and the text head
    depth = 8 * (6 * 4 + 1)  # and the head of each codebook; the inputs of all steps are one product
    assert counts.kinds["QuantizedMatmul"] == temporal + 1 + depth + 1


def test_every_norm_of_a_sum_is_one_kernel_with_it(counts: Counts) -> None:
    joined = 32 * 2 - 1 + 8 * (6 * 2 - 1)  # the last sum of a stack is not normed within it
    assert counts.plain_kernels - counts.kernels == joined
    assert counts.plain_primitives - counts.primitives == joined


def test_compiled_code_was_traced_and_then_never_again(counts: Counts) -> None:
    assert counts.warm_traces > 0
    assert counts.traces == 0


def test_bytes_come_with_the_counts(counts: Counts) -> None:
    assert counts.traffic[0].total / 1e9 == pytest.approx(4.610, abs=0.001)
    assert counts.traffic[3000].keys_values == 3000 * 512 * 1024


@pytest.mark.parametrize(("name", "size"), [("hibiki-1b", 3_600_043_224), ("hibiki-2b", 5_574_762_720)])
def test_published_shapes_have_the_bytes_of_the_published_files(name: str, size: int) -> None:
    config = LmConfig.from_dict(SHAPES[name])
    arrays = {
        mlx_origin(key, config).key: each.nbytes for key, each in parameters(skeleton(config, "bf16")).items()
    }
    assert 0 < size - sum(arrays.values()) < 300_000  # a header, and the conditioner that is left out


def test_the_help_names_every_shape() -> None:
    help_text = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    assert all(name in help_text for name in SHAPES)


def test_a_text_model_has_a_temporal_transformer_alone() -> None:
    counts = count("helium-2b", SHAPES["helium-2b"], "q4", frames=24, contexts=(0,))
    assert counts.kinds["QuantizedMatmul"] == 24 * 4 + 1
    # 24 layers of (3 + 1) x 2560^2 and 3 x 2560 x 7040, and the head, at 5 bits a weight with scale and bias
    weights = 24 * (4 * 2560**2 + 3 * 2560 * 7040) + 48_000 * 2560
    assert counts.traffic[0].weights == pytest.approx(weights * 5 / 8, rel=0.001)


@pytest.mark.parametrize(("kind", "gigabytes"), [("bf16", 14.75), ("q8", 7.84), ("q4", 4.61), ("mxfp4", 3.92)])
def test_moshi_7b_reads_what_its_parameters_say(kind: str, gigabytes: float) -> None:
    assert traffic(LmConfig.from_dict(MOSHI_7B), kind, 0).total / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_as_large_as_computed(kind: str) -> None:
    lm = random_lm(TINY_LM, kind)
    arrays = {mlx_origin(name, TINY_LM).key: each for name, each in parameters(skeleton(TINY_LM, kind)).items()}
    assert parameter_bytes(lm) == sum(array.nbytes for array in arrays.values())
    assert all(mx.isfinite(array).all() for array in parameters(lm).values() if array.dtype == mx.bfloat16)


def test_of_a_table_only_the_rows_looked_up_are_read() -> None:
    rows = 256 + 1 + 16 * (64 + 1) + (256 + 1) + 7 * (64 + 1)
    read = 1 + 16 + 8
    shared_norms = 7 * 2 * 2  # seven more steps read the norms of the first
    left_out = parameter_bytes(random_lm(TINY_LM, "f32")) - traffic(TINY_LM, "f32", 0).weights
    assert left_out == (rows - read - shared_norms) * 64 * 4


def test_texts_of_a_batch_share_most_of_what_is_read() -> None:
    """Four at once read at most half as much again as one, with a full window and five speakers each."""
    config = LmConfig.from_dict(SHAPES["tts-1.6b"])
    one, four = traffic(config, "q4", 500), traffic(config, "q4", 500, batch=4)
    assert one.keys_values == (500 + 5 * 125) * 16 * 2 * 2048 * 2
    assert four.total / one.total == pytest.approx(1.26, abs=0.01)  # in larger weights it is less
    temporal = 16 * (4 * 2048**2 + 3 * 2048 * 5632 + 2 * 2048**2)  # of the cross attention, queries and output
    depth = 32 * (4 * (4 * 1024**2 + 3 * 1024 * 2048) + 1024 * 2048 + 2048 * 1024)
    heads = 8000 * 2048 + 2 * 2048**2 + 2 * 128 * 1024 + 31 * 128 * 1024  # of text, of pairs, of low rank
    assert traffic(config, "bf16", 0).weights == pytest.approx(2 * (temporal + depth + heads), rel=0.001)


def test_a_text_is_counted_where_its_audio_has_begun() -> None:
    counts = count("tiny", TINY_TTS, "q4", frames=8, contexts=(0,))
    assert counts.kinds["QuantizedMatmul"] > 8 * (2 * 4 + 1), "the depth transformer runs"
    assert (counts.syncs, counts.traces) == (1, 0)


def test_conversations_share_the_weights_but_not_the_window() -> None:
    one, four = traffic(TINY_LM, "q4", 50), traffic(TINY_LM, "q4", 50, batch=4)
    assert four.keys_values == 4 * one.keys_values
    assert four.weights < 1.05 * one.weights


def test_several_cost_the_codec_the_kernels_of_one() -> None:
    narrow = replace(
        MIMI,
        seanet=replace(MIMI.seanet, dimension=16, n_filters=2),
        transformer=replace(MIMI.transformer, dim=16, num_heads=2, ffn_hidden=16),
        bins=16,
        codebook_dim=8,
    )
    one = codec_kernels(narrow, 1)
    assert codec_kernels(narrow, 4) == one
    assert min(one.values()) > 50
