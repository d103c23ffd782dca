"""Adapters that take turns on one model, whose weights stay as they are."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.layers import parameters
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.sampling_config import GREEDY
from tests.adapter_file import adapter

SHARED = {**TINY, "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2]}


def said(moshi: Moshi, frames: np.ndarray) -> np.ndarray:
    with moshi.session(seed=1, sampling=GREEDY) as session:
        replies = [session.step(frame) for frame in frames]
    return np.concatenate([reply.audio for reply in replies if reply.audio is not None])


def bits(moshi: Moshi) -> dict[str, bytes]:
    held = parameters(moshi.lm)
    mx.eval(held)
    return {name: np.array(array.view(mx.uint8)).tobytes() for name, array in held.items()}


@pytest.mark.parametrize("scheme", [None, "q4", "q8"])
def test_adapters_take_turns_and_leave_the_base_as_it_was(
    scheme: str | None, tmp_path: Path, noise_frames: np.ndarray
) -> None:
    base = write_random_checkpoint(tmp_path / "base", SHARED, layout="mlx", scheme=scheme)
    one, two = (adapter(tmp_path / str(seed), seed, SHARED) for seed in (1, 2))
    frames = noise_frames[:6]
    moshi = load(base, codec="mlx")
    before, plain = bits(moshi), said(moshi, frames)
    found = []
    for name in (one, two, one):
        moshi.use_adapter(name)
        found.append(said(moshi, frames))
    loaded = [said(load(base, codec="mlx", adapter=name), frames) for name in (one, two)]
    for ours, theirs in zip(found, [*loaded, loaded[0]], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
    assert np.abs(loaded[0] - loaded[1]).max() > 0.01
    assert np.abs(loaded[0] - plain).max() > 0.01
    moshi.use_adapter(None)
    assert bits(moshi) == before
    assert np.array_equal(said(moshi, frames), plain)


def test_a_conversation_goes_on_with_the_next_adapter(
    tiny_folder: Path, tmp_path: Path, noise_frames: np.ndarray
) -> None:
    moshi, other = load(tiny_folder, codec="mlx"), adapter(tmp_path / "other", 1)
    with moshi.session(seed=1, sampling=GREEDY) as session:
        steady = [session.step(frame).text_id for frame in noise_frames[:12]]
    with moshi.session(seed=1, sampling=GREEDY) as session:
        begun = [session.step(frame).text_id for frame in noise_frames[:4]]
        moshi.use_adapter(other)
        rest = [session.step(frame).text_id for frame in noise_frames[4:12]]
    assert begun == steady[:4]
    assert rest != steady[4:]


def test_tables_that_an_adapter_brings_are_used_and_given_back(
    tiny_folder: Path, tmp_path: Path, noise_frames: np.ndarray
) -> None:
    moshi = load(tiny_folder, codec="mlx")
    before, frames = bits(moshi), noise_frames[:6]
    shape = moshi.lm.audio_embs[0].weight.shape
    table = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    brought = adapter(tmp_path / "brought", 1, replaced={"emb.0.weight": table})
    moshi.use_adapter(brought)
    merged = said(load(tiny_folder, codec="mlx", adapter=brought), frames)
    np.testing.assert_allclose(said(moshi, frames), merged, atol=1e-3 * np.abs(merged).max())
    assert np.array_equal(np.array(moshi.lm.audio_embs[0].weight), table)
    moshi.use_adapter(None)
    assert bits(moshi) == before


def test_an_adapter_that_does_not_fit_changes_nothing(
    tiny_q4: Path, tiny_folder: Path, tmp_path: Path, noise_frames: np.ndarray
) -> None:
    moshi, frames = load(tiny_q4, codec="mlx"), noise_frames[:3]
    good = adapter(tmp_path / "good", 1)
    moshi.use_adapter(good)
    adapted = said(moshi, frames)
    other = adapter(tmp_path / "other", 1, {**TINY, "num_layers": 1})
    with pytest.raises(CheckpointError, match="was made for another base"):
        moshi.use_adapter(other)
    table = np.zeros((TINY["card"] + 1, TINY["dim"]), np.float32)
    with pytest.raises(CheckpointError, match="quantized in this model; use the bf16 base"):
        moshi.use_adapter(adapter(tmp_path / "table", 1, replaced={"emb.0.weight": table}))
    assert np.array_equal(said(moshi, frames), adapted)
    merged = load(tiny_folder, codec="mlx", adapter=good)
    with pytest.raises(ConfigError, match="load the model without an adapter"):
        merged.use_adapter(None)
