"""What `moshi-mlx eval` does: scenes played to models and servers, and the answers judged."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx.checkpoint.names import DEFAULT_STT_MODEL
from moshi_mlx.cli.eval_over import play_over, seconds_late, server_name
from moshi_mlx.errors import ConfigError, some
from moshi_mlx.quality.behaviour.answer import is_answered, read_answer, voice_at_16_khz
from moshi_mlx.quality.behaviour.measures import measure
from moshi_mlx.quality.behaviour.playing import play_scenes, sample_folder, unanswered
from moshi_mlx.quality.behaviour.scene import INPUT, Scene, read_scenes
from moshi_mlx.quality.behaviour.summary import Behaviour, Place, summed_up
from moshi_mlx.quality.behaviour.systems import System, folder_of, load_system, resolve_system, settle
from moshi_mlx.quality.behaviour.voice import VoiceDetector
from moshi_mlx.tasks.transcribe import Transcriber, load_transcriber
from moshi_mlx.weights.progress import progress_bar

Samples = dict[Place, dict[str, dict[str, float]]]


@dataclass
class Evaluation:
    """Scenes, and how they are played. done: how many answers this run has made."""

    scenes: Sequence[Scene]
    into: Path
    seed: int
    words: str
    stt_model: str | None
    codec: str
    batch: int
    offline: bool
    bar: bool | None
    done: int = 0

    def play(self, systems: Sequence[System]) -> dict[str, Path]:
        """Let every model answer what it has not answered yet. Returns where each one's answers are."""
        folders = [system.folder for system in systems]
        if len(set(folders)) < len(folders):
            twice = next(one for one in folders if folders.count(one) > 1)
            raise ConfigError(f"two models would have their answers in {self.into / twice}: evaluate them apart")
        checkpoints = [resolve_system(system, self.offline) for system in systems]
        roots = {system.name: self.into / system.folder for system in systems}
        transcriber: Transcriber | None = None
        for system, checkpoint in zip(systems, checkpoints, strict=True):
            root = roots[system.name]
            settle(root, {"model": system.name, **self._settings()})
            scenes = unanswered(self.scenes, root)
            if not scenes:
                continue
            if self.words == "stt" and transcriber is None:
                transcriber = load_transcriber(self._stt, codec=self.codec, offline=self.offline)
            moshi = load_system(system, checkpoint, self.codec, self.offline)
            with progress_bar(system.name, len(scenes), self.bar, "scenes") as advance:

                def answered(count: int, advance=advance) -> None:
                    self.done += count
                    advance(count)

                play_scenes(moshi, scenes, root, self.batch, self.seed, transcriber, answered)
        return roots

    def play_over(self, url: str) -> dict[str, Path]:
        """Let a server answer what it has not answered yet, in real time. Returns where its answers are."""
        name = server_name(url)
        root = self.into / folder_of(name)
        settle(root, {"model": name, **self._settings()})
        plain = [scene for scene in self.scenes if scene.echo_db is None]
        if left_out := len(self.scenes) - len(plain):
            print(
                f"note: {name}: {left_out} scenes with an echo are left out: a server hears no echo",
                file=sys.stderr,
            )
        scenes = unanswered(plain, root)
        transcriber = None
        if self.words == "stt" and scenes:
            transcriber = load_transcriber(self._stt, codec=self.codec, offline=self.offline)
        with progress_bar(name, len(scenes), self.bar, "scenes") as advance:
            for scene in scenes:
                play_over(url, scene, sample_folder(root, scene), self.seed, transcriber)
                self.done += 1
                advance(1)
        return {name: root}

    def summed_up(self, name: str, samples: Samples) -> Behaviour:
        """Return the figures of a model."""
        if not samples:
            raise ConfigError(f"{name} has no answers to judge")
        return summed_up(name, samples)

    @property
    def _stt(self) -> str:
        return self.stt_model or DEFAULT_STT_MODEL

    def _settings(self) -> dict[str, str | int]:
        return {"seed": self.seed, "words": self._stt if self.words == "stt" else self.words}


def answers_in(
    root: Path, detector: VoiceDetector, scenes: Iterable[Scene] | None = None
) -> tuple[Samples, list[str]]:
    """Judge all answers in a folder. Returns what was measured, and what a person should know of it.

    scenes: those to judge; all that the folder holds unless given.
    """
    samples: Samples = {}
    notes: dict[str, list[str]] = {}
    late = 0.0
    for scene in read_scenes(root) if scenes is None else scenes:
        folder = scene.folder if scenes is None else sample_folder(root, scene)
        if folder is None or not is_answered(folder):
            continue
        answer, late = read_answer(folder), late + seconds_late(folder)
        if answer.note:
            notes.setdefault(answer.note, []).append(scene.id)
        user = detector.segments(voice_at_16_khz(folder / INPUT))
        found = measure(scene, answer, user, detector.segments(answer.pcm))
        samples.setdefault((scene.task, scene.condition), {})[scene.id] = found
    behind = [f"it was behind, and its answers have {late:.1f} s of silence for that"] if late else []
    return samples, behind + [f"{note} ({some(ids)})" for note, ids in notes.items()]
