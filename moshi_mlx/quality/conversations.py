"""Conversations that a model had with recordings, kept so that other models can be made to read them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.base import Codec
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.step import Draw, FrameStep
from moshi_mlx.sampling_config import SamplingConfig


@dataclass(frozen=True)
class Conversation:
    """What a model heard and said, step by step.

    heard: (T, n_q - dep_q) int32, the user's codes. said: (T, 1 + dep_q) int32, the model's draws, [text, codes].
    """

    heard: np.ndarray
    said: np.ndarray

    def __len__(self) -> int:
        return len(self.said)

    def tokens(self, config: LmConfig) -> np.ndarray:
        """What the model read at each step, (1 + n_q, T) int32."""
        line, columns = DelayLine(config), []
        for heard, said in zip(self.heard, self.said, strict=True):
            columns.append(line.inputs(heard))
            line.accept(int(said[0]), said[1:])
        return np.stack(columns, axis=1)


def hear(
    codec: Codec,
    config: LmConfig,
    frames: Iterable[np.ndarray],
    advance: Callable[[int], None] = lambda steps: None,
) -> np.ndarray:
    """The user's codes of a recording as a session would feed them, (T, n_q - dep_q) int32.

    frames: (1920,) float32 each; as in a session, the first one is not heard. advance: told of every frame.
    """
    stream, codes = codec.stream(), []
    try:
        for frame in frames:
            first = not codes
            codes.append(
                np.zeros(config.input_codebooks) if first else stream.encode(frame)[: config.input_codebooks]
            )
            advance(1)
    finally:
        stream.close()
    return np.stack(codes).astype(np.int32)


def talk(
    lm: Lm,
    heard: Sequence[np.ndarray],
    sampling: SamplingConfig,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[Conversation]:
    """Let a model have conversations, all at once.

    heard: (T, n_q - dep_q) each, the user's codes. seed: of the first one, the next ones count on.
    advance: told how many steps were done.
    """
    config, size, longest = lm.config, len(heard), max(map(len, heard))
    step, state = FrameStep(lm), lm.new_state(size)
    condition = lm.condition()
    if condition is not None:
        condition = mx.repeat(condition, size, axis=0)
    lines, said = [DelayLine(config) for _ in heard], [[] for _ in heard]
    for frame in range(longest):
        tokens = np.full((size, 1 + config.n_q, 1), -1, np.int32)
        running = [row for row in range(size) if frame < len(heard[row])]
        draws: list[Draw | None] = [None] * size
        for row in running:
            tokens[row, :, 0] = lines[row].inputs(heard[row][frame])
            draws[row] = Draw(sampling, seed + row, frame)
        drawn = step(tokens, draws, state, condition)
        for row in running:
            lines[row].accept(int(drawn[row, 0]), drawn[row, 1:])
            said[row].append(drawn[row].astype(np.int32))
        advance(len(running))
    return [Conversation(codes, np.stack(each)) for codes, each in zip(heard, said, strict=True)]
