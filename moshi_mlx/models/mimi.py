"""Mimi, the audio codec: 24 kHz audio to codes at 12.5 Hz and back, as two independent streams.

Weights are the module, streams are states: `encode_step` and `decode_step` continue one, `encode` and
`decode` take a whole recording. How a stream is cut into steps does not change its result.
Source: Moshi paper §3.3; moshi/models/compression.py.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.conv import ConvState, Downsample, Upsample
from moshi_mlx.models.mimi_config import MIMI, MimiConfig
from moshi_mlx.models.mimi_weights import from_published
from moshi_mlx.models.rvq import SplitResidualVectorQuantizer
from moshi_mlx.models.seanet import SeanetDecoder, SeanetEncoder, SeanetState
from moshi_mlx.models.transformer import Transformer

FRAMES_PER_PASS = 25  # of a whole recording: 2 s bound what is held in memory at once


@dataclass
class HalfState:
    """The encoder's stream or the decoder's: one of each part, for all rows of a batch."""

    seanet: SeanetState
    transformer: KVCache
    resample: ConvState

    def arrays(self) -> list[mx.array]:
        """Every array held, to be evaluated together with what a step returns."""
        return [*self.seanet.arrays(), *self.transformer.arrays(), *self.resample.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget, without touching the others."""
        self.seanet.reset_row(row)
        self.transformer.reset_row(row)
        self.resample.reset_row(row)


@dataclass
class MimiState:
    """Both directions of one stream; they do not share anything."""

    encoder: HalfState
    decoder: HalfState

    def arrays(self) -> list[mx.array]:
        """Every array held, to be evaluated together with what a step returns."""
        return [*self.encoder.arrays(), *self.decoder.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget, without touching the others."""
        self.encoder.reset_row(row)
        self.decoder.reset_row(row)


class Mimi(nn.Module):
    """The codec with its first `codebooks` codebooks."""

    def __init__(self, config: MimiConfig = MIMI, codebooks: int = 8) -> None:
        super().__init__()
        if not 1 <= codebooks <= config.n_q:
            raise ConfigError(f"{codebooks} codebooks asked of a Mimi that has {config.n_q}")
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
        """A fresh stream in both directions."""
        return MimiState(self.new_encoder_state(batch), self.new_decoder_state(batch))

    def new_encoder_state(self, batch: int = 1) -> HalfState:
        positions = self.encoder_transformer.transformer.new_state(batch, self._positions_per_frame)
        downsample = self.downsample.new_state(batch)
        assert downsample is not None
        return HalfState(self.encoder.new_state(batch), positions, downsample)

    def new_decoder_state(self, batch: int = 1) -> HalfState:
        positions = self.decoder_transformer.transformer.new_state(batch, self._positions_per_frame)
        return HalfState(self.decoder.new_state(batch), positions, self.upsample.new_state(batch))

    def encode_step(self, pcm: mx.array, state: MimiState) -> mx.array:
        """Turn n frames of audio into codes, continuing the stream in `state.encoder`.

        pcm: (B, n * 1920) float32 in [-1, 1] at 24 kHz. Returns (B, K, n) int32, the semantic codebook first.
        """
        assert pcm.shape[1] % FRAME_SAMPLES == 0, pcm.shape
        half = state.encoder
        x = self.encoder(pcm[:, :, None], half.seanet)  # (B, n * positions, dim)
        x = self.encoder_transformer(x, half.transformer)
        return self.quantizer.encode(self.downsample(x, half.resample))

    def decode_step(self, codes: mx.array, state: MimiState) -> mx.array:
        """Turn codes of n frames into audio, continuing the stream in `state.decoder`.

        codes: (B, K, n) ints below the number of bins. Returns (B, n * 1920) float32.
        """
        half = state.decoder
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
        weights: dict[str, mx.array], config: MimiConfig = MIMI, codebooks: int = 8
    ) -> dict[str, mx.array]:
        """A published file's weights under our names and in our layouts; unused codebooks are dropped.

        Raises CheckpointError that names missing or extra keys, or keys of wrong shape.
        """
        return from_published(weights, config, codebooks)


class _ProjectedTransformer(nn.Module):
    """One level of the published names: a transformer."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.transformer = Transformer(config)

    def __call__(self, x: mx.array, state: KVCache) -> mx.array:
        return self.transformer(x, state)
