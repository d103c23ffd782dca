"""Split residual vector quantization against its definition, written out in numpy."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models.rvq import SplitResidualVectorQuantizer

DIM, CODEBOOK_DIM, BINS, CODEBOOKS = 12, 8, 32, 5


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
