"""Mimi in MLX: PyTorch's answers, chunking, windows, rows; its quantizer against its definition in numpy."""

from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.mimi import FRAMES_PER_PASS, Mimi, SplitResidualVectorQuantizer
from moshi_mlx.models.mimi_config import MimiConfig, published_shapes
from tests.memory import active_memory
from tests.random_mimi import (
    GOLDEN_FRAMES,
    GOLDEN_STRIDE,
    GOLDEN_WINDOWS,
    SMALL_MIMI,
    gliding_tone,
    mimi_tensor,
    with_window,
)

CONFIG = MimiConfig.from_dict(SMALL_MIMI)
WINDOW = CONFIG.transformer.context // CONFIG.positions_per_frame  # frames
LENGTH = 5 * WINDOW
DIM, CODEBOOK_DIM, BINS, CODEBOOKS = 12, 8, 32, 5  # of a quantizer alone


def build(config: MimiConfig) -> Mimi:
    mimi = Mimi(config, config.n_q)
    weights = {name: mx.array(mimi_tensor(name, shape)) for name, shape in published_shapes(config).items()}
    mimi.load_weights(list(Mimi.sanitize(weights, config, config.n_q).items()))
    return mimi


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return build(CONFIG)


@pytest.fixture(scope="module")
def pcm() -> mx.array:
    """(2, LENGTH frames): two streams."""
    audio = gliding_tone(2 * LENGTH)
    return mx.array(audio.reshape(2, -1))


@pytest.fixture(scope="module")
def codes(mimi: Mimi, pcm: mx.array) -> mx.array:
    return mimi.encode(pcm)


@pytest.mark.parametrize("window", GOLDEN_WINDOWS)
def test_codes_and_audio_equal_pytorch_through_its_windows(window: int) -> None:
    mimi = build(MimiConfig.from_dict(with_window(window)))
    with np.load(Path(__file__).parents[1] / "assets" / f"mimi_golden_{window}.npz") as golden:
        assert window < 2 * GOLDEN_FRAMES, "the window should wrap"
        assert sorted(published_shapes(CONFIG)) == list(golden["names"])
        codes = mimi.encode(mx.array(gliding_tone(GOLDEN_FRAMES))[None])
        np.testing.assert_array_equal(np.array(codes)[0], golden["codes"])
        pcm = np.array(mimi.decode(codes))[0]
        tolerance = 1e-5 * np.abs(golden["samples"]).max()
        np.testing.assert_allclose(pcm[::GOLDEN_STRIDE], golden["samples"], rtol=0, atol=tolerance)
        np.testing.assert_allclose(pcm[-FRAME_SAMPLES:], golden["last_frame"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("chunks", [[1] * LENGTH, [3, 1, 6] * (LENGTH // 10), [LENGTH - 2, 2]], ids=str)
def test_how_a_stream_is_cut_does_not_change_it(
    mimi: Mimi, pcm: mx.array, codes: mx.array, chunks: list[int]
) -> None:
    state, encoded, decoded = mimi.new_state(2), [], []
    edges = np.cumsum([0, *chunks]).tolist()
    for start, end in pairwise(edges):
        encoded.append(mimi.encode_step(pcm[:, start * FRAME_SAMPLES : end * FRAME_SAMPLES], state))
        decoded.append(mimi.decode_step(codes[:, :, start:end], state))
        mx.eval(encoded[-1], decoded[-1], state.arrays())
    np.testing.assert_array_equal(np.array(mx.concatenate(encoded, axis=2)), np.array(codes))
    whole = np.array(mimi.decode(codes))
    pieces = np.array(mx.concatenate(decoded, axis=1))
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


def test_a_recording_that_ends_inside_a_frame_is_filled_up_with_silence(mimi: Mimi, pcm: mx.array) -> None:
    samples = (FRAMES_PER_PASS + 3) * FRAME_SAMPLES + 100
    filled = mx.pad(pcm[:, :samples], [(0, 0), (0, FRAME_SAMPLES - 100)])
    codes = mimi.encode(pcm[:, :samples])
    assert codes.shape == (2, CONFIG.n_q, FRAMES_PER_PASS + 4)
    np.testing.assert_array_equal(np.array(codes), np.array(mimi.encode(filled)))


def test_a_reset_row_is_fresh_and_its_neighbour_goes_on(mimi: Mimi, pcm: mx.array, codes: mx.array) -> None:
    half = LENGTH // 2
    cut = half * FRAME_SAMPLES
    state = mimi.new_state(2)
    mimi.encode_step(pcm[:, :cut], state)
    mimi.decode_step(codes[:, :, :half], state)
    state.reset_row(1)
    encoded = np.array(mimi.encode_step(pcm[:, cut:], state))
    decoded = np.array(mimi.decode_step(codes[:, :, half:], state))
    whole = np.array(mimi.decode(codes))
    fresh = np.array(mimi.decode(codes[1:, :, half:]))
    tolerance = 1e-5 * np.abs(whole).max()
    np.testing.assert_array_equal(encoded[0], np.array(codes)[0, :, half:])
    np.testing.assert_array_equal(encoded[1], np.array(mimi.encode(pcm[1:, cut:]))[0])
    np.testing.assert_allclose(decoded[0], whole[0, cut:], rtol=0, atol=tolerance)
    np.testing.assert_allclose(decoded[1], fresh[0], rtol=0, atol=tolerance)
    assert np.abs(decoded[1] - whole[1, cut:]).max() > 100 * tolerance


def test_fewer_codebooks_give_the_first_codes(mimi: Mimi, pcm: mx.array, codes: mx.array) -> None:
    weights = {name: mx.array(mimi_tensor(name, shape)) for name, shape in published_shapes(CONFIG).items()}
    fewer = Mimi(CONFIG, 2)
    fewer.load_weights(list(Mimi.sanitize(weights, CONFIG, 2).items()))
    np.testing.assert_array_equal(np.array(fewer.encode(pcm)), np.array(codes)[:, :2])


@pytest.fixture
def no_buffer_cache():
    """Without it, active memory counts whatever larger buffers were at hand."""
    limit = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(limit)


@pytest.mark.usefixtures("no_buffer_cache")
def test_memory_of_a_stream_does_not_grow(mimi: Mimi, pcm: mx.array, codes: mx.array) -> None:
    state, used = mimi.new_state(), set()
    active_memory()  # what earlier tests left is freed now and not meanwhile
    for frame in range(LENGTH):
        where = slice(frame * FRAME_SAMPLES, (frame + 1) * FRAME_SAMPLES)
        step = mimi.encode_step(pcm[:1, where], state), mimi.decode_step(codes[:1, :, frame : frame + 1], state)
        mx.eval(step, state.arrays())
        del step
        used.add(mx.get_active_memory())
    assert max(used) - min(used) < 4 * FRAME_SAMPLES, "less than one frame of audio that stayed"


def test_more_codebooks_than_the_file_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 codebooks are asked of a Mimi that has 6"):
        Mimi(CONFIG, 9)


@pytest.fixture(scope="module")
def quantizer() -> SplitResidualVectorQuantizer:
    rng = np.random.RandomState(0)
    quantizer = SplitResidualVectorQuantizer(DIM, CODEBOOK_DIM, BINS, CODEBOOKS)
    for part in (quantizer.rvq_first, quantizer.rvq_rest):
        part.input_proj.weight = mx.array(rng.standard_normal((CODEBOOK_DIM, DIM)).astype(np.float32))
        part.output_proj.weight = mx.array(rng.standard_normal((DIM, CODEBOOK_DIM)).astype(np.float32))
        for level, layer in enumerate(part.vq.layers):
            embedding = mx.array(rng.standard_normal((BINS, CODEBOOK_DIM)).astype(np.float32)) * 3 / (1 + level)
            layer.codebook.embedding, layer.codebook.half_norm = embedding, embedding.square().sum(axis=1) / 2
    return quantizer


def test_acoustic_codebooks_quantize_the_latent_and_not_what_the_semantic_one_left(quantizer) -> None:
    x = np.random.RandomState(1).standard_normal((2, 9, DIM)).astype(np.float32)
    codes = np.array(quantizer.encode(mx.array(x)))
    expected, decoded = [], 0
    for part in (quantizer.rvq_first, quantizer.rvq_rest):
        rest = x @ np.array(part.input_proj.weight).T
        start = rest
        for layer in part.vq.layers:
            embedding = np.array(layer.codebook.embedding)
            nearest = np.square(rest[..., None, :] - embedding).sum(-1).argmin(-1)
            rest = rest - embedding[nearest]
            expected.append(nearest)
        decoded = decoded + (start - rest) @ np.array(part.output_proj.weight).T
    assert codes.shape == (2, CODEBOOKS, 9)
    np.testing.assert_array_equal(codes, np.stack(expected, axis=1))
    np.testing.assert_allclose(np.array(quantizer.decode(mx.array(codes))), decoded, rtol=1e-4, atol=1e-4)


def test_one_codebook_is_the_semantic_one_alone(quantizer) -> None:
    alone = SplitResidualVectorQuantizer(DIM, CODEBOOK_DIM, BINS, 1)
    alone.rvq_first = quantizer.rvq_first
    x = mx.array(np.random.RandomState(2).standard_normal((1, 4, DIM)).astype(np.float32))
    codes = alone.encode(x)
    np.testing.assert_array_equal(np.array(codes), np.array(quantizer.encode(x))[:, :1])
    np.testing.assert_array_equal(
        np.array(alone.decode(codes)), np.array(quantizer.rvq_first.decode(quantizer.encode(x)[:, :1]))
    )
