"""Split residual vector quantization: latents to codes and back.

The first (semantic) codebook and the chain of the others (acoustic) quantize the same latent, each through its own
projection; what they decode to is added. Source: moshi/quantization/vq.py, core_vq.py; Moshi paper §3.3.2.
"""

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.layers import Linear


class SplitResidualVectorQuantizer(nn.Module):
    """`codebooks` codes per latent, the semantic one first."""

    def __init__(self, dim: int, codebook_dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.rvq_first = ResidualVectorQuantizer(dim, codebook_dim, bins, 1)
        self.rvq_rest = ResidualVectorQuantizer(dim, codebook_dim, bins, codebooks - 1)

    def encode(self, x: mx.array) -> mx.array:
        """x: (B, T, dim). Returns (B, K, T) int32."""
        return mx.stack([*self.rvq_first.encode(x), *self.rvq_rest.encode(x)], axis=1)

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, K, T), all below `bins`. Returns (B, T, dim)."""
        x = self.rvq_first.decode(codes[:, :1])
        return x + self.rvq_rest.decode(codes[:, 1:]) if codes.shape[1] > 1 else x


class ResidualVectorQuantizer(nn.Module):
    """A chain of codebooks between two projections, each quantizing what the ones before left over."""

    def __init__(self, dim: int, codebook_dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.input_proj = Linear(dim, codebook_dim)
        self.output_proj = Linear(codebook_dim, dim)
        self.vq = ResidualVectorQuantization(codebook_dim, bins, codebooks)

    def encode(self, x: mx.array) -> list[mx.array]:
        """x: (B, T, dim). Returns codes (B, T) int32, one array per codebook."""
        return self.vq.encode(self.input_proj(x))

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, K, T). Returns (B, T, dim)."""
        return self.output_proj(self.vq.decode(codes))


class ResidualVectorQuantization(nn.Module):
    """The chain itself."""

    def __init__(self, dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.layers = [VectorQuantization(dim, bins) for _ in range(codebooks)]

    def encode(self, x: mx.array) -> list[mx.array]:
        codes = []
        for layer in self.layers:
            if codes:
                x = x - self.layers[len(codes) - 1].codebook.decode(codes[-1])
            codes.append(layer.codebook.encode(x))
        return codes

    def decode(self, codes: mx.array) -> mx.array:
        x = self.layers[0].codebook.decode(codes[:, 0])
        for k, layer in enumerate(self.layers[1:], start=1):
            x = x + layer.codebook.decode(codes[:, k])
        return x


class VectorQuantization(nn.Module):
    """One level of the published names: a codebook."""

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.codebook = Codebook(dim, bins)


class Codebook(nn.Module):
    """Nearest neighbour among `bins` vectors, in Euclidean distance."""

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.embedding = mx.zeros((bins, dim))
        self.half_norm = mx.zeros((bins,))  # |embedding|² / 2, so that |x - e|² is smallest where this - x·e is

    def encode(self, x: mx.array) -> mx.array:
        """x: (B, T, dim). Returns (B, T) int32."""
        return mx.addmm(self.half_norm, x, self.embedding.T, alpha=-1.0).argmin(axis=-1).astype(mx.int32)

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, T). Returns (B, T, dim)."""
        return self.embedding[codes]
