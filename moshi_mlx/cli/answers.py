"""All recordings of a folder answered: `moshi-mlx run FOLDER`, one after the other or several in every step."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink
from moshi_mlx.audio.files import Audio, open_audio, recordings_in
from moshi_mlx.cli.answer import STREAM, Heard, Manner, answer, answered, ending_of, introduce, loaded, opened
from moshi_mlx.cli.interruption import interruptible, undone
from moshi_mlx.cli.options import ModelOptions
from moshi_mlx.cli.words import JsonLines
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.runtime.engine import Sink, converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.weights.progress import progress_bar


@dataclass(frozen=True)
class _Task:
    """A recording that can be read, and where its answer and its words go."""

    recording: str
    audio: Audio
    source: FileSource
    place: str | None
    transcript: str | None
    events: JsonLines | None


def answer_given(given: str, output: str | None, model: ModelOptions, manner: Manner, batch: int = 1) -> None:
    """Answer what was given: a recording, or all of a folder, of which `batch` in every step of the model."""
    if os.path.isdir(given):
        answer_all(given, output, model, manner, batch)
    else:
        answer(given, output, model, manner)


def answer_all(folder: str, output: str | None, model: ModelOptions, manner: Manner, batch: int = 1) -> None:
    """Answer a folder's recordings, each as if it were alone; what cannot be read is told, and left out.

    batch: how many are answered in every step of the model.
    """
    recordings = recordings_in(folder)
    places = _places(recordings, output, manner)
    done, unread = 0, 0

    def state() -> str:
        left = len(recordings) - done - unread
        return f"{done} of {len(recordings)} recordings are answered, {left} are not"

    with undone(state):
        moshi, prompt = loaded(model, manner, partial(manner.tell, manner.events))
        waiting = list(zip(recordings, places, strict=True))
        while waiting:
            tasks: list[_Task] = []
            while waiting and len(tasks) < batch:
                recording, (place, transcript) = waiting.pop(0)
                events = JsonLines(sys.stdout, file=recording) if manner.as_json else None
                try:
                    audio = open_audio(recording)
                except AudioFileError as error:
                    print(f"error: {error}", file=sys.stderr)
                    unread += 1
                    continue
                source = FileSource(audio.pcm, **manner.silence)
                tasks.append(_Task(recording, audio, source, place, transcript, events))
            if tasks:
                interrupted = _answer(moshi, prompt, tasks, manner)
                done += len(tasks) - interrupted
                if interrupted:
                    raise KeyboardInterrupt
    if unread:
        raise typer.Exit(1)


def _answer(moshi: Moshi, prompt: Prompt | None, tasks: Sequence[_Task], manner: Manner) -> int:
    """Answer recordings at the same time, and report on each. Returns how many were not answered to their end."""
    with ExitStack() as files:
        wavs = [files.enter_context(opened(task.place, task.source, manner)) for task in tasks]
        for task in tasks:
            introduce(task.audio, manner, task.events)
        if len(tasks) == 1:
            (task,), (wav,) = tasks, wavs
            heard = [answered(moshi, prompt, task.source, wav, manner, task.events)]
        else:
            heard = _together(moshi, prompt, tasks, wavs, manner)
    interrupted = 0
    for task, wav, one in zip(tasks, wavs, heard, strict=True):
        report = one.report(task.audio, task.source, task.place, wav, task.transcript)
        interrupted += report.interrupted
        if task.events:
            task.events.emit("end", **report.as_dict())
        else:
            print(f"{task.recording}: {report.text}", flush=True)
        for line in report.lines():
            manner.say(line)
    return interrupted


def _together(
    moshi: Moshi, prompt: Prompt | None, tasks: Sequence[_Task], wavs: Sequence[WavSink | None], manner: Manner
) -> list[Heard]:
    """Let a model hear several recordings in the same steps. Their reports have the times of all of them."""
    batch, stats = moshi.batch(len(tasks)), Stats()
    transcripts = [Transcript() for _ in tasks]
    frames = max(task.source.frames for task in tasks)

    def stop() -> None:
        for task in tasks:
            task.source.close()

    with (
        ExitStack() as sessions,
        progress_bar(f"{len(tasks)} recordings", frames, False if manner.quiet else None, "frames") as advance,
        interruptible(stop) as interruption,
    ):
        parties: dict[Session, tuple[FileSource, Sink]] = {}
        longest = next(task for task in tasks if task.source.frames == frames)
        for task, wav, transcript in zip(tasks, wavs, transcripts, strict=True):
            session = sessions.enter_context(batch.join(manner.sampling.seed, prompt=prompt))
            counter = _Counter(advance) if task is longest else None
            sinks = (wav, transcript, task.events, counter)
            parties[session] = task.source, Tee(*(sink for sink in sinks if sink))
        converse_together(parties, stats)
        seeds = [session.seed for session in parties]
    return [
        Heard(transcript, stats, seed, interruption.came and stats.frames < task.source.frames)
        for task, transcript, seed in zip(tasks, transcripts, seeds, strict=True)
    ]


class _Counter:
    """A sink that moves a bar by a frame for each reply."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def write(self, reply: object) -> None:
        self._advance(1)


def _places(recordings: Sequence[str], output: str | None, manner: Manner) -> list[tuple[str | None, str | None]]:
    """Where answer and words of every recording go: into the folder OUT; words alone beside the recording."""
    if manner.stereo and not output:
        raise typer.BadParameter("--stereo puts both voices into OUT: name a folder")
    if output == STREAM or (output and os.path.isfile(output)):
        raise AudioFileError(f"{len(recordings)} recordings cannot all be answered in {output}: name a folder")
    ending = ending_of(manner.transcript) if manner.transcript else None
    if manner.transcript and Path(manner.transcript).suffix:
        raise typer.BadParameter(f"--transcript {manner.transcript}: for a folder give the format alone, {ending}")
    if output:
        with system_errors(f"cannot make {output}", AudioFileError):
            Path(output).mkdir(parents=True, exist_ok=True)
    found = []
    for recording in map(Path, recordings):
        into = Path(output) if output else recording.parent
        place = str(into / f"{recording.stem}.wav") if output else None
        words = str(into / f"{recording.stem}.{ending}") if ending else None
        found.append((place, words))
    names = [name for pair in found for name in pair if name]
    heard = {_identity(recording) for recording in recordings} - {None}
    for name in names:
        if names.count(name) > 1:
            raise AudioFileError(f"two recordings would be answered in {name}: give one of them another name")
        if _identity(name) in heard:
            raise AudioFileError(f"{name} is a recording itself: name another folder")
    return found


def _identity(name: str) -> tuple[int, int] | None:
    """What a file is, however its name is spelled; None for no file."""
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino
