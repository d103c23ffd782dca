"""Conversations that a model had with recordings, kept so that other models can be made to read them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.codec.base import Codec, CodecStream, or_raise
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.wordless import unfused
from moshi_mlx.sampling_config import SamplingConfig

TOGETHER = 8  # recordings that are heard, and answered, at a time, unless told otherwise
LEAD, TAIL = 0.5, 4.0  # seconds of silence around a recording


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
        """Return what the model read at each step, (1 + n_q, T) int32."""
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
    """Return the user's codes of a recording as a session would feed them, (T, n_q - dep_q) int32.

    frames: (1920,) float32 each; as in a session, the first one is not heard. advance: told of every frame.
    """
    return hear_together(codec, config, [frames], advance)[0]


def hear_together(
    codec: Codec,
    config: LmConfig,
    recordings: Sequence[Iterable[np.ndarray]],
    advance: Callable[[int], None] = lambda steps: None,
) -> list[np.ndarray]:
    """As `hear`, of several recordings, a frame of each at a time."""
    streams, codes = codec.streams(), [[] for _ in recordings]
    running = {streams.stream(): (iter(frames), heard) for frames, heard in zip(recordings, codes, strict=True)}
    try:
        while running:
            given: dict[CodecStream, np.ndarray] = {}
            for stream, (frames, heard) in list(running.items()):
                frame = next(frames, None)
                if frame is None:
                    stream.close()
                    del running[stream]
                    continue
                advance(1)
                if heard:
                    given[stream] = frame
                else:
                    heard.append(np.zeros(config.input_codebooks))
            for stream, found in streams.encode(given)().items() if given else ():
                made: np.ndarray = or_raise(found)
                running[stream][1].append(made[: config.input_codebooks])
    finally:
        for stream in running:
            stream.close()
    return [np.stack(heard).astype(np.int32) for heard in codes]


def hear_recordings(
    checkpoint: Checkpoint,
    recordings: Sequence[np.ndarray],
    codec: str = "auto",
    advance: Callable[[int], None] = lambda steps: None,
    batch: int = TOGETHER,
) -> list[np.ndarray]:
    """Return the user's codes of recordings, as `hear` does, with silence around them.

    recordings: (samples,) float32 at 24 kHz each. codec: "rust", "mlx" or "auto". advance: told of every frame.
    batch: how many are heard at a time; one by one with a codec that has processes for each.
    """
    loaded, heard = checkpoint.load_codec(codec), []
    size = 1 if loaded.threaded else batch
    for start in range(0, len(recordings), size):
        sources = [FileSource(pcm, LEAD, TAIL) for pcm in recordings[start : start + size]]
        heard += hear_together(loaded, checkpoint.lm_config, sources, advance)
    return heard


def steps_to_hear(recordings: Sequence[np.ndarray]) -> int:
    """Return how many frames `hear_recordings` will count."""
    return sum(FileSource(pcm, LEAD, TAIL).frames + 1 for pcm in recordings)


def talk(
    lm: Lm,
    heard: Sequence[np.ndarray],
    sampling: SamplingConfig,
    seed: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
    batch: int = TOGETHER,
) -> list[Conversation]:
    """Let a model have conversations, `batch` of them in every step.

    heard: (T, n_q - dep_q) each, the user's codes. seed: of the first one, the next ones count on.
    advance: told how many steps were done.
    """
    talks: list[Conversation] = []
    for start in range(0, len(heard), batch):
        talks += _talk(lm, heard[start : start + batch], sampling, seed + start, advance)
    return talks


def _talk(
    lm: Lm,
    heard: Sequence[np.ndarray],
    sampling: SamplingConfig,
    seed: int,
    advance: Callable[[int], None],
) -> list[Conversation]:
    batch = Batch(unfused(lm), len(heard))
    sessions = {batch.join(seed + row, sampling): codes for row, codes in enumerate(heard)}
    for session, codes in sessions.items():
        session.remember(len(codes))
    for frame in range(max(map(len, heard))):
        talking = {session: codes[frame] for session, codes in sessions.items() if frame < len(codes)}
        batch.generate(talking)
        for session in talking:
            if frame + 1 == len(sessions[session]):
                session.close()
        advance(len(talking))
    return [Conversation(codes, session.remembered()[1]) for session, codes in sessions.items()]
