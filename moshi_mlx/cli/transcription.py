"""Recordings in, words out: what `moshi-mlx transcribe` does with files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from moshi_mlx.audio.files import STDIN, Audio, open_audio, recordings_in
from moshi_mlx.checkpoint.names import Folder, locate
from moshi_mlx.cli.answer import STREAM
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.members import SttModelOptions
from moshi_mlx.cli.options import SamplingOptions
from moshi_mlx.cli.words import JsonLines, say, tell
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.tasks.captions import FORMATS
from moshi_mlx.tasks.transcribe import TOGETHER, SttTiming, Transcriber, collected
from moshi_mlx.tasks.words import Pause, Transcription, Word, begins_segment
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.extra_heads import add_extra_heads
from moshi_mlx.weights.progress import progress_bar


def transcribe_recordings(
    places: Sequence[str],
    kind: str | None,
    folder: Path | None,
    model: SttModelOptions,
    vad_heads: str | None,
    *,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Transcribe files; arguments as of the command. What can go wrong cheaply goes wrong first.

    A recording among several that cannot be read is told, and the others are done; the exit code is 1 then.
    """
    recordings, output = wanted(places)
    target = Target.chosen(recordings, output, kind, folder, as_json)
    events = JsonLines(sys.stdout) if as_json else None
    first = open_audio(recordings[0]) if len(recordings) == 1 else None
    if first:
        say(first.describe(), quiet)
        for note in first.notes:
            tell(note, events)
    with undone("nothing is transcribed"):
        transcriber = loaded(model, vad_heads, events)
    if first:
        _transcribe_one(first, transcriber, target, events, quiet)
    elif not _transcribe_many(recordings, transcriber, target, events, quiet):
        raise typer.Exit(1)


def wanted(places: Sequence[str]) -> tuple[list[str], str | None]:
    """Split the arguments into recordings, those of folders one by one, and OUT. Raises AudioFileError."""
    given, output = separated(places)
    recordings: list[str] = []
    for place in given:
        if not Path(place).is_dir():
            recordings.append(place)
            continue
        recordings += recordings_in(place)
    return recordings, output


def separated(places: Sequence[str]) -> tuple[list[str], str | None]:
    """Split the arguments into what is to be transcribed, as it was given, and OUT."""
    last = places[-1] if places else ""
    has_output = Path(last).suffix[1:].lower() in FORMATS or (last == STREAM and len(places) > 1)
    given, output = (list(places[:-1]), last) if has_output else (list(places), None)
    if not given:
        raise typer.BadParameter("name a recording, - for standard input, or --live for the microphone")
    return given, output


@dataclass(frozen=True)
class Target:
    """Where transcriptions go."""

    kind: str
    output: str | None  # the file of the only one, - for stdout
    folder: Path | None  # of files of their own, None for that of the recording
    beside: bool  # each in a file of its own
    streams: bool  # words go to stdout as they come

    @classmethod
    def chosen(
        cls, recordings: Sequence[str], output: str | None, kind: str | None, folder: Path | None, as_json: bool
    ) -> Target:
        """Decide from the arguments. Raises AudioFileError or BadParameter for what contradicts itself."""
        if output == STREAM and as_json:
            raise typer.BadParameter("--json and OUT - both want standard output")
        if output and output != STREAM and len(recordings) > 1:
            raise AudioFileError(
                f"{len(recordings)} recordings cannot all go to {output}: leave it out and give --format "
                f"{Path(output).suffix[1:]}, which writes a file beside each recording"
            )
        if output == STREAM and kind not in (None, "txt") and len(recordings) > 1:
            raise AudioFileError(
                f"{len(recordings)} recordings cannot all go to standard output as {kind}: leave - out, which "
                "writes a file beside each recording, or give --json"
            )
        if output and folder:
            raise typer.BadParameter(f"--into {folder} and OUT {output} contradict each other")
        ending = Path(output).suffix[1:].lower() if output and output != STREAM else None
        if ending and kind and ending != kind:
            raise typer.BadParameter(f"--format {kind} and OUT {output} contradict each other")
        beside = not output and (kind is not None or folder is not None)
        if beside and STDIN in recordings and not folder:
            raise AudioFileError("standard input has no folder for a file beside it: give --into or OUT")
        chosen = kind or ending or "txt"
        streams = not beside and not as_json and ending is None and chosen == "txt"
        target = cls(chosen, output, folder, beside, streams)
        target._check(recordings)
        return target

    def write(self, name: str, transcription: Transcription) -> str | None:
        """Write what was found in a recording where it belongs; return the file's name, None for none."""
        text = FORMATS[self.kind](transcription)
        if self.output == STREAM and not self.streams:
            sys.stdout.write(text)
            sys.stdout.flush()
        path = self._path(name)
        if path is None:
            return None
        with AtomicPath(path, AudioFileError) as part:
            part.write_text(text, encoding="utf-8")
        return str(path)

    def _check(self, recordings: Sequence[str]) -> None:
        """Refuse now what could not be written later."""
        names: dict[Path, str] = {}
        for recording in recordings:
            path = self._path(recording)
            if path is None:
                continue
            if path in names:
                raise AudioFileError(f"{names[path]} and {recording} would both be written to {path}")
            if not path.parent.is_dir():
                raise AudioFileError(f"cannot write {path}: there is no folder {path.parent}")
            names[path] = recording

    def _path(self, name: str) -> Path | None:
        if not self.beside:
            return Path(self.output) if self.output and self.output != STREAM else None
        own = Path("stdin") if name == STDIN else Path(name)
        return (self.folder or own.parent) / f"{own.stem}.{self.kind}"


def loaded(model: SttModelOptions, vad_heads: str | None, events: JsonLines | None) -> Transcriber:
    """Find and load the model, with voice activity heads of another file if there is one."""

    def note(text: str) -> None:
        tell(text, events)

    found = model.resolve(SamplingOptions(), note)
    timing = SttTiming.from_settings(found.settings)
    heads = locate(Folder(Path()), vad_heads, model.offline) if vad_heads else None
    moshi = model.load(found, note)
    if heads:
        add_extra_heads(moshi.lm, heads)
    transcriber = Transcriber(moshi, timing)
    if events and not transcriber.finds_pauses:
        note(
            f"{found.name} has no voice activity heads, so pauses are only told from the times of words; "
            "--vad-heads takes them from another file"
        )
    return transcriber


class Lines:
    """Prints words as they come, a segment a line."""

    def __init__(self) -> None:
        self._segment: list[Word] = []
        self._pauses: list[Pause] = []

    def write(self, event: Word | Pause) -> None:
        """Take what was found next."""
        if isinstance(event, Pause):
            self._pauses.append(event)
            return
        if self._segment and begins_segment(self._segment, event, self._pauses):
            self._segment = []
            sys.stdout.write("\n")
        sys.stdout.write(f" {event.text}" if self._segment else event.text)
        sys.stdout.flush()
        self._segment.append(event)
        self._pauses = [pause for pause in self._pauses if pause.time > event.start]

    def finish(self) -> None:
        """End the last line."""
        if self._segment:
            print(flush=True)


def emit(events: JsonLines, event: Word | Pause, **file: str) -> None:
    """Print an event as JSON."""
    if isinstance(event, Word):
        events.emit("word", word=event.text, start=event.start, end=event.end, **file)
    else:
        events.emit("pause", pause=event.time, p=round(event.probability, 4), **file)


def _transcribe_one(
    audio: Audio, transcriber: Transcriber, target: Target, events: JsonLines | None, quiet: bool
) -> None:
    source, began = transcriber.source(audio.pcm), time.perf_counter()
    lines = Lines() if target.streams else None
    found: list[Word | Pause] = []
    bar_wanted = False if quiet or (lines and sys.stdout.isatty()) else None
    with (
        interruptible(source.close) as interruption,
        progress_bar("transcribing", source.frames, bar_wanted, "frames") as advance,
    ):
        for event in transcriber.events(source, advance):
            found.append(event)
            if events:
                emit(events, event)
            if lines:
                lines.write(event)
    if lines:
        lines.finish()
    transcription = collected(found, audio.seconds)
    path = target.write(audio.name, transcription)
    seconds, decoder = time.perf_counter() - began, transcriber.decoder
    if events:
        events.emit(
            "end",
            text=transcription.text,
            words=len(transcription.words),
            seconds=round(audio.seconds, 3),
            took=round(seconds, 3),
            frames=decoder.frames,
            passes=decoder.passes,
            interrupted=interruption.came,
            output=path,
        )
    speed = decoder.frames * FRAME_SECONDS / seconds
    say(
        f"{len(transcription.words)} words in {seconds:.1f} s, {speed:.1f} times as fast as spoken "
        f"({decoder.frames} frames in {decoder.passes} passes)" + (f"; {path}" if path else ""),
        quiet,
    )
    if interruption.came:
        say("interrupted", quiet)
        raise typer.Exit(INTERRUPTED)


def _transcribe_many(
    names: Sequence[str], transcriber: Transcriber, target: Target, events: JsonLines | None, quiet: bool
) -> bool:
    """Return whether all recordings could be read."""
    unread, began, heard, finished = 0, time.perf_counter(), 0.0, 0
    with undone(lambda: f"{finished} of {len(names)} recordings are transcribed"):
        for start in range(0, len(names), TOGETHER):
            group = list(_readable(names[start : start + TOGETHER], events))
            unread += len(names[start : start + TOGETHER]) - len(group)
            frames = sum(transcriber.source(audio.pcm).frames for _, audio in group)
            with progress_bar("transcribing", frames, False if quiet else None, "frames") as advance:
                done = transcriber.transcribe_together([audio.pcm for _, audio in group], TOGETHER, advance)
            for (name, audio), transcription in zip(group, done, strict=True):
                heard += audio.seconds
                path = target.write(name, transcription)
                finished += 1
                if events:
                    for event in sorted([*transcription.words, *transcription.pauses], key=_when):
                        emit(events, event, file=name)
                    events.emit(
                        "end", text=transcription.text, seconds=round(audio.seconds, 3), output=path, file=name
                    )
                elif target.streams:
                    print(f"{name}: {transcription.text}", flush=True)
                if path:
                    say(f"{path}: {len(transcription.words)} words", quiet)
    seconds = time.perf_counter() - began
    say(f"{heard:.1f} s of recordings in {seconds:.1f} s", quiet)
    return not unread


def _readable(names: Sequence[str], events: JsonLines | None) -> Iterator[tuple[str, Audio]]:
    for name in names:
        try:
            audio = open_audio(name)
        except AudioFileError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        for note in audio.notes:
            tell(note, events)
        yield name, audio


def _when(event: Word | Pause) -> float:
    return event.start if isinstance(event, Word) else event.time
