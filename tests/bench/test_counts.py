"""The gates on what a frame costs that do not depend on the machine."""

import pytest

from benchmarks.gates import COUNT_GATES, missed
from moshi_mlx.bench.counts import Counts, count
from moshi_mlx.bench.shapes import SHAPES
from moshi_mlx.models.config import MOSHI_7B


@pytest.fixture(scope="module")
def counts() -> Counts:
    return count("moshi-7b", MOSHI_7B, "q4", frames=48)


def test_a_frame_stays_within_its_gates(counts: Counts) -> None:
    assert not missed(counts.as_dict(), COUNT_GATES)


def test_the_matmuls_are_those_of_the_architecture(counts: Counts) -> None:
    temporal = 32 * 4  # in_proj, out_proj, linear_in, linear_out; and the text head
    depth = 8 * (6 * 4 + 1)  # and the head of each codebook; the inputs of all steps are one product
    assert counts.kinds["QuantizedMatmul"] == temporal + 1 + depth + 1


def test_compiled_code_was_traced_and_then_never_again(counts: Counts) -> None:
    assert counts.warm_traces > 0
    assert counts.traces == 0


def test_bytes_come_with_the_counts(counts: Counts) -> None:
    assert counts.traffic[0].total / 1e9 == pytest.approx(4.610, abs=0.001)
    assert counts.traffic[3000].keys_values == 3000 * 512 * 1024


def test_a_text_model_has_a_temporal_transformer_alone() -> None:
    counts = count("helium-2b", SHAPES["helium-2b"], "q4", frames=24, contexts=(0,))
    assert counts.kinds["QuantizedMatmul"] == 24 * 4 + 1
    # 24 layers of (3 + 1) x 2560^2 and 3 x 2560 x 7040, and the head, at 5 bits a weight with scale and bias
    weights = 24 * (4 * 2560**2 + 3 * 2560 * 7040) + 48_000 * 2560
    assert counts.traffic[0].weights == pytest.approx(weights * 5 / 8, rel=0.001)
