"""Our own Mimi, in MLX."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.base import check_codes
from moshi_mlx.errors import CheckpointError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.layers import keep_transposes
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MimiConfig


class MlxCodec:
    """Our own Mimi; to be used on the thread that owns MLX."""

    name = "mlx"
    threaded = False

    def __init__(self, weights: Path, config: MimiConfig, codebooks: int) -> None:
        self.codebooks = codebooks
        self._bins = config.bins
        self._mimi = Mimi(config, codebooks)
        try:
            published = mx.load(str(weights), format="safetensors")
            assert isinstance(published, dict)
            self._mimi.load_weights(list(Mimi.sanitize(published, config, codebooks).items()))
        except (RuntimeError, CheckpointError) as error:
            raise CheckpointError(f"cannot load {weights}: {str(error).splitlines()[0]}") from error
        mx.eval(self._mimi.parameters())
        keep_transposes(self._mimi)

    def stream(self) -> MlxStream:
        """Return a fresh stream for one conversation."""
        return MlxStream(self._mimi, self._bins)


class MlxStream:
    """One conversation with our own Mimi: a state of one row."""

    def __init__(self, mimi: Mimi, bins: int) -> None:
        self._mimi = mimi
        self._bins = bins
        self._state = mimi.new_state()
        mx.eval(self._state.arrays())  # so that another thread may take the first step

    def encode(self, frame: np.ndarray) -> np.ndarray:
        assert frame.shape == (FRAME_SAMPLES,), frame.shape
        codes = self._mimi.encode_step(mx.array(frame, mx.float32)[None], self._state)
        mx.eval(codes, self._state.encoder.arrays())
        return np.array(codes)[0, :, 0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        check_codes(codes, self._bins)
        pcm = self._mimi.decode_step(mx.array(codes, mx.int32)[None, :, None], self._state)
        mx.eval(pcm, self._state.decoder.arrays())
        return np.array(pcm)[0]

    def reset_encoder(self) -> None:
        self._state.encoder = self._mimi.new_encoder_state()
        mx.eval(self._state.encoder.arrays())

    def reset_decoder(self) -> None:
        self._state.decoder = self._mimi.new_decoder_state()
        mx.eval(self._state.decoder.arrays())

    def close(self) -> None:
        pass
