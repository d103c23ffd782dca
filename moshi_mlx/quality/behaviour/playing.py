"""Scenes played to a model: its answers, in folders of the benchmark, many conversations in each step.

What a model says in a scene follows from the seed and the scene's task and id alone: batches of any size, in any
order, give the same answers.
"""

from __future__ import annotations

import queue
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE
from moshi_mlx.quality.behaviour.answer import ended_by_voice, is_answered, write_answer
from moshi_mlx.quality.behaviour.scene import Scene
from moshi_mlx.runtime.engine import Sink, Source, converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stages import Control
from moshi_mlx.sampling_config import MAX_SEED
from moshi_mlx.tasks.transcribe import Transcriber
from moshi_mlx.tasks.words import Word

Advance = Callable[[int], None]


def sample_folder(root: Path, scene: Scene) -> Path:
    """Return where a scene's answer goes: the benchmark's scripts take a folder a task, with a folder a sample."""
    return root / scene.task / scene.id


def unanswered(scenes: Sequence[Scene], root: Path) -> list[Scene]:
    """Return the scenes that have no answer in a folder yet."""
    return [scene for scene in scenes if not is_answered(sample_folder(root, scene))]


def play_scenes(
    moshi: Moshi,
    scenes: Sequence[Scene],
    root: Path,
    size: int = 8,
    seed: int = 0,
    transcriber: Transcriber | None = None,
    advance: Advance = lambda scenes: None,
) -> None:
    """Let a model answer scenes, up to `size` of them in a step, and write the answers below a folder.

    transcriber: writes down the words in place of the inner monologue. advance: told of scenes that are done.
    A scene whose answer is there is played again. Raises what the engine, AudioFileError and DataError stand for.
    """
    recordings = {scene: scene.pcm() for scene in scenes}
    order = sorted(scenes, key=lambda scene: -len(recordings[scene]))  # so that few wait for the longest
    for start in range(0, len(order), size):
        group = order[start : start + size]
        batch = moshi.batch(len(group))
        parties: dict[Session, tuple[Source, Listening]] = {}
        with ExitStack() as sessions:
            for scene in group:
                listening = Listening(len(recordings[scene]))
                source: Source = FileSource(recordings[scene], 0, 0)
                if scene.echo_db is not None:
                    delay = max(scene.echo_delay, max(moshi.lm.config.delays) * FRAME_SECONDS)
                    source = listening.echoing(source, scene.echo_db, delay)
                session = sessions.enter_context(batch.join(seed_of(scene, seed)))
                parties[session] = source, listening
            converse_together({session: (source, sink) for session, (source, sink) in parties.items()})
        sinks = [sink for _, sink in parties.values()]
        words = [sink.words for sink in sinks]
        if transcriber:
            words = [found.words for found in transcriber.transcribe_together([sink.pcm for sink in sinks], size)]
        for scene, sink, said in zip(group, sinks, words, strict=True):
            write_answer(scene, sample_folder(root, scene), sink.pcm, ended_by_voice(said, sink.pcm))
            advance(1)


def seed_of(scene: Scene, seed: int) -> int:
    """Return the seed of a scene's conversation."""
    return (zlib.crc32(f"{scene.task}/{scene.id}".encode()) + seed) % (MAX_SEED + 1)


class Listening(Sink):
    """A sink of `converse`: what a model says while it hears a recording of so many samples."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._frames: list[np.ndarray] = []
        self._transcript = Transcript()
        self._told: list[Callable[[Reply], None]] = []

    def write(self, reply: Reply) -> None:
        """Take one reply."""
        self._transcript.write(reply)
        if reply.audio is not None:
            self._frames.append(reply.audio)
        for tell in self._told:
            tell(reply)

    @property
    def pcm(self) -> np.ndarray:
        """The model's voice, simultaneous with the recording and as long, (samples,) float32 at 24 kHz."""
        whole = np.concatenate([np.zeros(0, np.float32), *self._frames])[: self._samples]
        return np.pad(whole, (0, self._samples - len(whole)))

    @property
    def words(self) -> Sequence[Word]:
        """The words of the inner monologue."""
        seconds = self._samples / SAMPLE_RATE
        return [word for word in self._transcript.words(seconds).words if word.start < seconds]

    def echoing(self, source: Source, gain_db: float, delay: float) -> Echo:
        """Return a source with the model's own voice in it."""
        echo = Echo(source, gain_db, delay)
        self._told.append(echo.played)
        return echo


class Echo:
    """A source of `converse`: another one, and what the model says, weaker and later.

    delay: seconds from a sample of the model's voice to its echo in the frames; at least one frame and the model's
    acoustic delay, since what is said while a frame is heard is played after it.
    """

    def __init__(self, source: Source, gain_db: float, delay: float) -> None:
        self._source = source
        self._gain = np.float32(10 ** (gain_db / 20))
        self._late = max(FRAME_SAMPLES, round(delay * SAMPLE_RATE))
        self._replies: queue.Queue[Reply | None] = queue.Queue()

    def played(self, reply: Reply) -> None:
        """Take what the model says."""
        self._replies.put(reply)

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """Yield (1920,) float32 frames; each waits for the reply to the one before."""
        heard = np.zeros(self._late, np.float32)  # what the model said from `late` samples ago on
        first = True  # an extra frame, with which nothing is simultaneous; see `FileSource`
        for frame in self._source:
            if isinstance(frame, Control):
                yield frame
            elif first:
                first = False
                yield frame
            else:
                if (reply := self._replies.get()) is None:
                    return
                if reply.audio is not None:
                    heard = np.concatenate([heard, reply.audio])
                yield frame + self._gain * heard[:FRAME_SAMPLES]
                heard = heard[FRAME_SAMPLES:]

    def close(self) -> None:
        """End the iteration before its next frame; from any thread."""
        self._replies.put(None)
        self._source.close()
