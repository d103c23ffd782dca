"""Mimi, the audio codec: 24 kHz audio to codes at 12.5 Hz and back, as two independent streams.

Weights are the module, streams are states: `encode_step` and `decode_step` continue one, `encode` and `decode`
take a whole recording. How a stream is cut into steps does not change the result.
Source: Moshi paper §3.3; moshi/models/compression.py, moshi/quantization/vq.py, core_vq.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.layers import Linear
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, check_published
from moshi_mlx.models.seanet import ConvState, Downsample, SeanetDecoder, SeanetEncoder, SeanetState, Upsample
from moshi_mlx.models.transformer import Transformer

FRAMES_PER_PASS = 25  # 2 s of a whole recording, which bounds the memory of one pass
USAGE_FLOOR = 1e-5  # divides the sum of a codebook entry that was never used, instead of zero


@dataclass
class HalfState:
    """The stream of the encoder or of the decoder: the state of each part, for all rows of a batch."""

    seanet: SeanetState
    transformer: KVCache
    resample: ConvState

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return [*self.seanet.arrays(), *self.transformer.arrays(), *self.resample.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget its stream, without touching the others."""
        self.seanet.reset_row(row)
        self.transformer.reset_row(row)
        self.resample.reset_row(row)

    @staticmethod
    def joined(parts: Sequence[tuple[HalfState, Sequence[int]]]) -> HalfState:
        """Return a state of its own that holds rows of others: parts of (state, its rows)."""
        return HalfState(
            SeanetState.joined([(state.seanet, rows) for state, rows in parts]),
            KVCache.joined([(state.transformer, rows) for state, rows in parts]),
            ConvState.joined([(state.resample, rows) for state, rows in parts]),
        )


@dataclass
class MimiState:
    """Both directions of one stream; they share nothing."""

    encoder: HalfState
    decoder: HalfState

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return [*self.encoder.arrays(), *self.decoder.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget its stream, without touching the others."""
        self.encoder.reset_row(row)
        self.decoder.reset_row(row)


class Mimi(nn.Module):
    """The codec with its first `codebooks` codebooks.

    Raises ConfigError if the config has fewer.
    """

    def __init__(self, config: MimiConfig = MIMI, codebooks: int = 8) -> None:
        super().__init__()
        if not 1 <= codebooks <= config.n_q:
            raise ConfigError(f"{codebooks} codebooks are asked of a Mimi that has {config.n_q}")
        dim, stride = config.seanet.dimension, config.positions_per_frame
        self.encoder = SeanetEncoder(config.seanet)
        self.decoder = SeanetDecoder(config.seanet)
        self.encoder_transformer = _ProjectedTransformer(config.transformer)
        self.decoder_transformer = _ProjectedTransformer(config.transformer)
        self.downsample = Downsample(dim, stride)
        self.upsample = Upsample(dim, stride)
        self.quantizer = SplitResidualVectorQuantizer(dim, config.codebook_dim, config.bins, codebooks)
        self._positions_per_frame = stride

    def new_state(self, batch: int = 1) -> MimiState:
        """Return the state of a fresh stream of `batch` rows, in both directions."""
        return MimiState(self.new_encoder_state(batch), self.new_decoder_state(batch))

    def new_encoder_state(self, batch: int = 1) -> HalfState:
        """Return the state of a fresh stream to encode."""
        positions = self.encoder_transformer.transformer.new_state(batch, self._positions_per_frame)
        return HalfState(self.encoder.new_state(batch), positions, self.downsample.new_state(batch))

    def new_decoder_state(self, batch: int = 1) -> HalfState:
        """Return the state of a fresh stream to decode."""
        positions = self.decoder_transformer.transformer.new_state(batch, self._positions_per_frame)
        return HalfState(self.decoder.new_state(batch), positions, self.upsample.new_state(batch))

    def encode_step(self, pcm: mx.array, state: MimiState) -> mx.array:
        """Turn n frames of audio into codes, continuing the stream in `state.encoder`.

        pcm: (B, n * 1920) float32 in [-1, 1] at 24 kHz. Returns (B, K, n) int32, the semantic codebook first.
        """
        return self.encode_half(pcm, state.encoder)

    def encode_half(self, pcm: mx.array, half: HalfState) -> mx.array:
        """As `encode_step`, of a stream that only encodes."""
        assert pcm.shape[1] % FRAME_SAMPLES == 0, pcm.shape
        x = self.encoder(pcm[:, :, None], half.seanet)  # (B, n * positions, dim)
        x = self.encoder_transformer(x, half.transformer)
        return self.quantizer.encode(self.downsample(x, half.resample))

    def decode_step(self, codes: mx.array, state: MimiState) -> mx.array:
        """Turn codes of n frames into audio, continuing the stream in `state.decoder`.

        codes: (B, K, n) ints below the number of bins. Returns (B, n * 1920) float32.
        """
        return self.decode_half(codes, state.decoder)

    def decode_half(self, codes: mx.array, half: HalfState) -> mx.array:
        """As `decode_step`, of a stream that only decodes."""
        x = self.upsample(self.quantizer.decode(codes), half.resample)  # (B, n * positions, dim)
        x = self.decoder_transformer(x, half.transformer)
        return self.decoder(x, half.seanet)[:, :, 0]

    def encode(self, pcm: mx.array) -> mx.array:
        """Turn a whole recording into codes; the last frame is filled up with silence.

        pcm: (B, samples) float32 at 24 kHz. Returns (B, K, ceil(samples / 1920)) int32, evaluated.
        """
        pcm = mx.pad(pcm, [(0, 0), (0, -pcm.shape[1] % FRAME_SAMPLES)])
        state, passes = self.new_state(len(pcm)), []
        for start in range(0, pcm.shape[1], FRAMES_PER_PASS * FRAME_SAMPLES):
            passes.append(self.encode_step(pcm[:, start : start + FRAMES_PER_PASS * FRAME_SAMPLES], state))
            mx.eval(passes[-1], state.encoder.arrays())
        return mx.concatenate(passes, axis=2)

    def decode(self, codes: mx.array) -> mx.array:
        """Turn the codes of a whole recording into audio.

        codes: (B, K, frames). Returns (B, frames * 1920) float32, evaluated.
        """
        state, passes = self.new_state(len(codes)), []
        for start in range(0, codes.shape[2], FRAMES_PER_PASS):
            passes.append(self.decode_step(codes[:, :, start : start + FRAMES_PER_PASS], state))
            mx.eval(passes[-1], state.decoder.arrays())
        return mx.concatenate(passes, axis=1)

    @staticmethod
    def sanitize(
        weights: Mapping[str, mx.array], config: MimiConfig = MIMI, codebooks: int = 8
    ) -> dict[str, mx.array]:
        """Return the weights of a published file under our names and in our layouts.

        Two names differ: `in_proj_weight` is `in_proj.weight`, and `_codebook` is `codebook`, because MLX takes no
        name with a leading underscore for a weight. What is fixed after training is computed here, once: codebooks
        from their running sums, kernels as matrices. Codebooks beyond the first `codebooks` are dropped.
        Raises CheckpointError that names missing or extra tensors, or tensors of wrong shape.
        Source: moshi/models/loaders.py `get_mimi`.
        """
        check_published(weights, config)
        ours = {}
        for name, array in weights.items():
            if "._codebook." not in name:
                ours[name.replace("in_proj_weight", "in_proj.weight")] = lay_out(name, array)
        kept = [("rvq_first", 0), *(("rvq_rest", index) for index in range(codebooks - 1))]
        for part, index in kept:
            prefix = f"quantizer.{part}.vq.layers.{index}"
            usage = mx.maximum(weights[f"{prefix}._codebook.cluster_usage"].astype(mx.float32), USAGE_FLOOR)
            embedding = weights[f"{prefix}._codebook.embedding_sum"].astype(mx.float32) / usage[:, None]
            ours[f"{prefix}.codebook.embedding"] = embedding
            ours[f"{prefix}.codebook.half_norm"] = embedding.square().sum(axis=1) / 2
        return ours


def lay_out(name: str, array: mx.array) -> mx.array:
    """Return a tensor of a published file as its layer multiplies with it, float32. name: in that file."""
    array = array.astype(mx.float32)
    if name == "upsample.convtr.convtr.convtr.weight":
        return mx.contiguous(array[:, 0].T)  # (C, 1, kernel) -> (kernel, C)
    if name.endswith("convtr.weight"):
        # (in, out, 2 * stride) -> (2 * in, stride * out): the second half of the kernel acts one position
        # later, so the rows of the previous input come first.
        inputs, outputs, kernel = array.shape
        halves = array.reshape(inputs, outputs, 2, kernel // 2).transpose(2, 0, 3, 1)[::-1]
        return mx.contiguous(halves.reshape(2 * inputs, -1))
    if name.endswith(("conv.weight", "put_proj.weight")):
        return mx.contiguous(array.transpose(0, 2, 1).reshape(len(array), -1))  # (out, in, k) -> (out, k * in)
    return array


class _ProjectedTransformer(nn.Module):
    """A transformer, one level deeper because published names have that level."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.transformer = Transformer(config)

    def __call__(self, x: mx.array, state: KVCache) -> mx.array:
        return self.transformer(x, state)


class SplitResidualVectorQuantizer(nn.Module):
    """Latents to `codebooks` codes each, the semantic one first, and back.

    The semantic codebook and the chain of the acoustic ones quantize the same latent, each through a projection of
    its own; what they decode to is added up.
    """

    def __init__(self, dim: int, codebook_dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.rvq_first = ResidualVectorQuantizer(dim, codebook_dim, bins, 1)
        self.rvq_rest = ResidualVectorQuantizer(dim, codebook_dim, bins, codebooks - 1)

    def encode(self, x: mx.array) -> mx.array:
        """x: (B, T, dim). Returns (B, K, T) int32."""
        B, T, dim = x.shape
        flat = x.reshape(B * T, dim)  # or MLX would flatten and unflatten around every product
        codes = mx.concatenate([*self.rvq_first.encode(flat), *self.rvq_rest.encode(flat)], axis=1)
        return codes.astype(mx.int32).reshape(B, T, -1).swapaxes(1, 2)

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, K, T), all below `bins`. Returns (B, T, dim)."""
        x = self.rvq_first.decode(codes[:, :1])
        return x + self.rvq_rest.decode(codes[:, 1:]) if codes.shape[1] > 1 else x


class ResidualVectorQuantizer(nn.Module):
    """A chain of codebooks between two projections; each quantizes what the ones before it left over."""

    def __init__(self, dim: int, codebook_dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.input_proj = Linear(dim, codebook_dim)
        self.output_proj = Linear(codebook_dim, dim)
        self.vq = ResidualVectorQuantization(codebook_dim, bins, codebooks)

    def encode(self, x: mx.array) -> list[mx.array]:
        """x: (N, dim). Returns codes (N, 1) uint32, one array per codebook."""
        return self.vq.encode(self.input_proj(x))

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, K, T). Returns (B, T, dim)."""
        return self.output_proj(self.vq.decode(codes))


class ResidualVectorQuantization(nn.Module):
    """The chain of codebooks."""

    def __init__(self, dim: int, bins: int, codebooks: int) -> None:
        super().__init__()
        self.layers = [VectorQuantization(dim, bins) for _ in range(codebooks)]

    def encode(self, x: mx.array) -> list[mx.array]:
        """x: (N, codebook dim). Returns codes (N, 1) uint32, one array per codebook."""
        codes: list[mx.array] = []
        for layer in self.layers:
            if codes:
                x = x - self.layers[len(codes) - 1].codebook.decode(codes[-1][:, 0])
            codes.append(layer.codebook.encode(x))
        return codes

    def decode(self, codes: mx.array) -> mx.array:
        """codes: (B, K, T). Returns (B, T, codebook dim)."""
        x = self.layers[0].codebook.decode(codes[:, 0])
        for k, layer in enumerate(self.layers[1:], start=1):
            x = x + layer.codebook.decode(codes[:, k])
        return x


class VectorQuantization(nn.Module):
    """A codebook, one level deeper because published names have that level."""

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.codebook = Codebook(dim, bins)


class Codebook(nn.Module):
    """`bins` vectors, of which the nearest in Euclidean distance stands for a latent."""

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.embedding = mx.zeros((bins, dim))
        self.half_norm = mx.zeros((bins,))  # |embedding|² / 2, so that |x - e|² is smallest where this - x·e is

    def encode(self, x: mx.array) -> mx.array:
        """x: (N, dim). Returns (N, 1) uint32."""
        return mx.addmm(self.half_norm, x, self.embedding.T, alpha=-1.0).argmin(axis=-1, keepdims=True)

    def decode(self, codes: mx.array) -> mx.array:
        """codes: any shape. Returns (*codes.shape, dim)."""
        return self.embedding[codes]
