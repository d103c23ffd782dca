"""The weights of one process of several: which they are, how many bytes, and what cannot be shared."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_TTS, lm_tensors
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.split import Part, part_config
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.part import PartWeights
from moshi_mlx.weights.quantization import SCHEMES
from moshi_mlx.weights.safetensors import header_bytes


def parts(folder: Path, size: int) -> list[PartWeights]:
    found = Checkpoint.resolve(folder)
    block = found.settings.get("quantization")
    return [PartWeights(found.lm_weights, found.lm_config, block, Part(rank, size)) for rank in range(size)]


@pytest.mark.parametrize(("model", "size"), [("tiny_folder", 4), ("tiny_q4", 2)])
def test_parts_are_together_the_whole(model: str, size: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(model)
    whole = parameters(Checkpoint.resolve(folder).load_lm())
    weights = parts(folder, size)
    loaded = [one.load() for one in weights]
    assert {one.fingerprint for one in weights} == {weights[0].fingerprint}
    for one, lm in zip(weights, loaded, strict=True):
        held = [array for name, array in parameters(lm).items() if name.startswith("transformer.")]
        assert one.shared_bytes == sum(array.nbytes for array in held)
    halves = {"in_proj": 3, "linear_in": 2}  # stacked along the rows: queries, keys, values; gates, values
    for name, array in whole.items():
        if not name.startswith("transformer."):
            assert mx.array_equal(parameters(loaded[0])[name], array), name
            continue
        each = [np.array(parameters(lm)[name].astype(mx.float32)) for lm in loaded]
        expected = np.array(array.astype(mx.float32))
        if array.ndim == 1:
            assert all((one == expected).all() for one in each), name
        elif count := halves.get(name.split(".")[-2]):
            stacked = [np.split(one, count) for one in each]
            again = np.concatenate([np.concatenate(of_all) for of_all in zip(*stacked, strict=True)])
            assert (again == expected).all(), name
        else:
            assert (np.concatenate(each, axis=1) == expected).all(), name


def test_a_part_of_moshi_7b_in_q4_is_as_small_as_it_should_be(tmp_path: Path) -> None:
    config = LmConfig.from_dict(MOSHI_7B)
    layout = lm_tensors(config, "mlx", SCHEMES["q4"], "BF16")
    header = header_bytes(layout, {"format": "mlx"})
    file = tmp_path / "holes.safetensors"
    with file.open("wb") as out:
        out.write(header)
        out.truncate(len(header) + sum(tensor.nbytes for tensor in layout.values()))
    whole = LmWeights(file, config).nbytes
    temporal = sum(tensor.nbytes for name, tensor in layout.items() if name.startswith("transformer."))
    for size, most_temporal, most in ((2, 0.52, 0.58), (4, 0.27, 0.37)):
        first, last = (PartWeights(file, config, None, Part(rank, size)) for rank in (0, size - 1))
        assert first.shared_bytes == last.shared_bytes == last.nbytes < most_temporal * temporal
        assert first.nbytes < most * whole


def test_a_feed_forward_is_cut_between_groups_if_not_evenly() -> None:
    shares = [Part(rank, 4).of(11 * 32, 32) for rank in range(4)]
    assert [share.stop - share.start for share in shares] == [64, 96, 96, 96]
    assert shares[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(shares))
    assert shares[-1].stop == 11 * 32


def test_what_cannot_be_shared_is_refused(tiny_q4: Path) -> None:
    config = LmConfig.from_dict(TINY).transformer
    with pytest.raises(ConfigError, match="4 heads cannot be shared by 3 processes; start 1 or 2 or 4"):
        part_config(config, Part(0, 3))
    with pytest.raises(ConfigError, match="2 heads of keys and values cannot be shared by 4 processes"):
        part_config(replace(config, kv_repeat=2), Part(0, 4))
    with pytest.raises(ConfigError, match="96 channels in groups of 32 cannot be shared by 4 processes"):
        part_config(replace(config, ffn_hidden=96), Part(0, 4), 32)
    with pytest.raises(ConfigError, match="attends to a voice cannot be shared"):
        part_config(LmConfig.from_dict(TINY_TTS).transformer, Part(0, 2))
    with pytest.raises(ConfigError, match="64 inputs, quantized in groups of 32, cannot be cut between the heads"):
        parts(tiny_q4, 4)
