"""A recording in, an answer out: `moshi-mlx run` and `python -m moshi_mlx.run_inference`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import typer

from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink, speech_end
from moshi_mlx.audio.files import read_audio
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible
from moshi_mlx.cli.options import ModelOptions, SamplingOptions
from moshi_mlx.cli.words import JsonLines, shown_words
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.stats import Stats

STREAM = "-"  # standard input or output


def answer(
    recording: str,
    output: str | None,
    model: ModelOptions,
    sampling: SamplingOptions,
    silence: Mapping[str, float],
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Answer a recording and report on it.

    silence: what was given of `FileSource`'s lead and tail; the rest is its defaults.
    What can go wrong cheaply goes wrong first: the recording, the place of the answer, the options, the weights.
    """
    _check_output(recording, output, as_json)
    events = JsonLines(sys.stdout) if as_json else None
    say = _silent if quiet else _say

    def tell(note: str) -> None:
        """Say what is not as the person may think, however quiet it should be."""
        _say(f"note: {note}")
        if events:
            events.emit("note", text=note)

    audio = read_audio(recording)
    say(audio.describe())
    for note in audio.notes:
        tell(note)
    source = FileSource(audio.pcm, **silence)
    with WavSink(output) if output else nullcontext() as wav:
        moshi = model.load(model.resolve(sampling, tell), tell)
        transcript, stats = Transcript(), Stats()
        with moshi.session(sampling.seed) as session, shown_words(source.frames + 1, quiet) as shown:
            sinks = [sink for sink in (wav, transcript, events, shown) if sink]
            with interruptible(source.close) as interruption:
                converse(session, source, Tee(*sinks), stats)
    # The answer is complete and has its name from here on.
    delay = transcript.delay_after(source.lead * FRAME_SECONDS + speech_end(audio.pcm))
    file = wav.file if wav else None
    report = _Report(transcript.text, stats, interruption.came, session.seed, delay, output, file)
    if events:
        events.emit("end", **report.as_dict())
    elif output != STREAM and not (shown and sys.stdout.isatty() and sys.stderr.isatty()):
        print(transcript.text, flush=True)
    for line in report.lines():
        say(line)
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


@dataclass(frozen=True)
class _Report:
    """What became of a recording. delay: seconds from the end of its speech to the next word, None without one."""

    text: str
    stats: Stats
    interrupted: bool
    seed: int
    delay: float | None
    output: str | None
    file: AudioWriter | None

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
            **self.stats.as_dict(),
        }

    def lines(self) -> list[str]:
        """What the person at the terminal is told at the end."""
        lines = [*(["interrupted"] if self.interrupted else []), self.stats.summary()]
        if self.delay is not None:
            lines.append(f"reply delay {self.delay:.2f} s (from the end of the recorded speech to the next word)")
        if self.file:
            clipped = f", {self.file.clipped} samples clipped" if self.file.clipped else ""
            lines.append(f"answer in {self.file.name}: {self.file.seconds:.2f} s{clipped}")
        return [*lines, f"seed {self.seed}"]


def _check_output(recording: str, output: str | None, as_json: bool) -> None:
    if output == STREAM and as_json:
        raise typer.BadParameter("--json and an answer to - both want standard output")
    if output and os.path.isfile(output) and os.path.exists(recording) and os.path.samefile(recording, output):
        raise AudioFileError(f"{output} is the recording itself: give the answer another name")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
