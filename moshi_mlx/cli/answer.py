"""A recording in, an answer out: `moshi-mlx run` and `python -m moshi_mlx.run_inference`. Folders: `answers`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink, speech_end
from moshi_mlx.audio.files import Audio, open_audio
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.options import ModelOptions, SamplingOptions
from moshi_mlx.cli.persona import NOBODY, PersonaOptions
from moshi_mlx.cli.words import JsonLines, say, shown_words, tell
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.tasks.captions import FORMATS
from moshi_mlx.weights.atomic import AtomicPath

STREAM = "-"  # standard input or output


@dataclass(frozen=True)
class Manner:
    """How recordings are answered.

    silence: what was given of `FileSource`'s lead and tail; the rest is its defaults.
    transcript: a file for the words and their times, in the format of its suffix; for a folder the suffix alone.
    stereo: both voices go into the answer's file. persona: who the model is to be.
    """

    sampling: SamplingOptions
    silence: Mapping[str, float]
    transcript: str | None = None
    stereo: bool = False
    persona: PersonaOptions = NOBODY
    as_json: bool = False
    quiet: bool = False

    @property
    def events(self) -> JsonLines | None:
        """Where programs read what happens."""
        return JsonLines(sys.stdout) if self.as_json else None

    def say(self, line: str) -> None:
        """Tell the person at the terminal, unless quiet."""
        say(line, self.quiet)

    def tell(self, events: JsonLines | None, note: str) -> None:
        """Say what is not as the person may think, however quiet it should be."""
        tell(note, events)


def answer(recording: str, output: str | None, model: ModelOptions, manner: Manner) -> None:
    """Answer a recording, and report on it.

    What can go wrong cheaply goes wrong first: the recording, the place of the answer, the options, the weights.
    """
    check_output(recording, output, manner)
    audio = open_audio(recording)
    source, events = FileSource(audio.pcm, **manner.silence), manner.events
    with undone("the model was not loaded, and nothing is answered"), opened(output, source, manner) as wav:
        introduce(audio, manner, events)
        tell = partial(manner.tell, events)
        moshi, prompt = loaded(model, manner, tell)
        heard = answered(moshi, prompt, source, wav, manner, events)
    # The answer is complete and has its name from here on.
    report = heard.report(audio, source, output, wav, manner.transcript)
    if events:
        events.emit("end", **report.as_dict())
    elif output != STREAM and not (not manner.quiet and sys.stdout.isatty() and sys.stderr.isatty()):
        print(report.text, flush=True)
    for line in report.lines():
        manner.say(line)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def loaded(model: ModelOptions, manner: Manner, tell: Callable[[str], None]) -> tuple[Moshi, Prompt | None]:
    """Load the model, and make of it who it is to be."""
    found = model.resolve(manner.sampling, tell)
    if found.translates:
        tell(
            f"{found.name} is a translation model: `moshi-mlx translate --model {found.name}` tells it where the "
            "recording ends, and stops where its translation does"
        )
    role = manner.persona.read(found, model.offline, tell)
    moshi = model.load(found, tell)
    return moshi, role.prompt(moshi)


def introduce(audio: Audio, manner: Manner, events: JsonLines | None) -> None:
    """Say what a recording is, and what is not heard of it as it was recorded."""
    manner.say(audio.describe())
    for note in audio.notes:
        manner.tell(events, note)


def opened(output: str | None, source: FileSource, manner: Manner) -> AbstractContextManager[WavSink | None]:
    """The file of an answer, if it is wanted."""
    return WavSink(output, source.heard() if manner.stereo else None) if output else nullcontext()


@dataclass(frozen=True)
class Heard:
    """What came of a conversation with a recording."""

    transcript: Transcript
    stats: Stats
    seed: int
    interrupted: bool

    def report(
        self, audio: Audio, source: FileSource, output: str | None, wav: WavSink | None, transcript: str | None
    ) -> Report:
        """Write the words where they are wanted, and say what became of the recording."""
        seconds = source.frames * FRAME_SECONDS
        if transcript:
            write_words(self.transcript, seconds, transcript)
        return Report(
            text=self.transcript.text,
            stats=self.stats,
            left=max(0.0, seconds - self.stats.frames * FRAME_SECONDS) if self.interrupted else None,
            seed=self.seed,
            delay=self.transcript.delay_after(source.lead * FRAME_SECONDS + speech_end(audio.pcm)),
            output=output,
            file=wav.file if wav else None,
            transcript=transcript,
        )


def answered(
    moshi: Moshi,
    prompt: Prompt | None,
    source: FileSource,
    wav: WavSink | None,
    manner: Manner,
    events: JsonLines | None,
) -> Heard:
    """Let a model hear a recording, and write what it says as it comes."""
    transcript, stats = Transcript(), Stats()
    with (
        moshi.session(manner.sampling.seed, prompt=prompt) as session,
        shown_words(source.frames + 1, manner.quiet) as shown,
        interruptible(source.close) as interruption,
    ):
        converse(session, source, Tee(*(sink for sink in (wav, transcript, events, shown) if sink)), stats)
    return Heard(transcript, stats, session.seed, interruption.came)


@dataclass(frozen=True)
class Report:
    """What became of a recording. delay: seconds from the end of its speech to the next word, None without one.

    left: seconds that were not answered any more, None if nothing was interrupted.
    """

    text: str
    stats: Stats
    left: float | None
    seed: int
    delay: float | None
    output: str | None
    file: AudioWriter | None
    transcript: str | None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C came."""
        return self.left is not None

    def as_dict(self) -> dict[str, object]:
        """The last event of --json."""
        return {
            "text": self.text,
            "interrupted": self.interrupted,
            "seed": self.seed,
            "reply_delay": None if self.delay is None else round(self.delay, 3),
            "output": self.output,
            "output_seconds": self.file.seconds if self.file else None,
            "clipped_samples": self.file.clipped if self.file else None,
            "transcript": self.transcript,
            **self.stats.as_dict(),
        }

    def lines(self) -> list[str]:
        """What the person at the terminal is told at the end."""
        lines = [self.stats.summary()]
        if self.left is not None:
            kept = "what was said before is kept" if self.file or self.transcript else "nothing is written"
            lines.insert(0, f"interrupted: the last {self.left:.1f} s were not answered; {kept}")
        if self.delay is not None:
            lines.append(f"reply delay {self.delay:.2f} s (from the end of the recorded speech to the next word)")
        if self.file:
            clipped = f", {self.file.clipped} samples clipped" if self.file.clipped else ""
            lines.append(f"answer in {self.file.name}: {self.file.seconds:.2f} s{clipped}")
        if self.transcript:
            lines.append(f"words in {self.transcript}")
        return [*lines, f"seed {self.seed}"]


def write_words(transcript: Transcript, seconds: float, name: str) -> None:
    """Write the words of a recording of so many seconds, in the format that the file's name ends in."""
    with AtomicPath(Path(name), AudioFileError) as part:
        part.write_text(FORMATS[ending_of(name)](transcript.words(seconds)), encoding="utf-8")


def check_output(recording: str, output: str | None, manner: Manner) -> None:
    """Refuse places for the answer that cannot be, before anything is loaded."""
    if output == STREAM and manner.as_json:
        raise typer.BadParameter("--json and an answer to - both want standard output")
    if manner.stereo and not output:
        raise typer.BadParameter("--stereo puts both voices into OUT: name it")
    for written in (output, manner.transcript):
        if (
            written
            and os.path.isfile(written)
            and os.path.exists(recording)
            and os.path.samefile(recording, written)
        ):
            raise AudioFileError(f"{written} is the recording itself: give the answer another name")
    if manner.transcript:
        ending = ending_of(manner.transcript)
        if not Path(manner.transcript).suffix:
            raise typer.BadParameter(
                f"--transcript {ending}: of one recording, name the file, such as words.{ending}"
            )
        parent = Path(manner.transcript).absolute().parent
        if not parent.is_dir():
            raise AudioFileError(f"cannot write {manner.transcript}: the folder {parent} does not exist")


def ending_of(transcript: str) -> str:
    """The format that a transcript's name, or its suffix alone, asks for. Raises BadParameter for none."""
    ending = (Path(transcript).suffix[1:] or transcript).lower()
    if ending not in FORMATS:
        raise typer.BadParameter(f"--transcript {transcript}: a name that ends in {', '.join(FORMATS)} expected")
    return ending
