"""The microphone in, words out: `moshi-mlx transcribe --live`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing

import typer

from moshi_mlx.audio.devices import choose
from moshi_mlx.audio.duplex import Microphone
from moshi_mlx.audio.file_stream import Tee
from moshi_mlx.audio.portaudio import unsuppressed_stderr
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible
from moshi_mlx.cli.members import SttModelOptions
from moshi_mlx.cli.transcription import Lines, Target, emit, loaded, separated
from moshi_mlx.cli.words import JsonLines, say
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.transcribe import WordSink, collected
from moshi_mlx.tasks.words import Pause, Word

LIVE = "live"  # stands for the recording


def transcribe_live(
    places: Sequence[str],
    kind: str | None,
    model: SttModelOptions,
    vad_heads: str | None,
    microphone: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Transcribe the microphone until Ctrl-C, which is how it ends well; arguments as of the command."""
    given, output = separated([LIVE, *places])
    if given != [LIVE]:
        raise typer.BadParameter(f"--live hears the microphone: leave out {given[1]}")
    target = Target.chosen(given, output, kind, None, as_json)
    with ExitStack() as stack:
        stack.enter_context(unsuppressed_stderr())
        choose("input", microphone)
        events = JsonLines(sys.stdout) if as_json else None
        transcriber = loaded(model, vad_heads, events)
        transcriber.moshi.warm_up(sampling=GREEDY)
        shown = _Shown(events, Lines() if target.streams else None)
        sink = WordSink(transcriber.live_words(), found=shown.write)
        session = stack.enter_context(transcriber.moshi.session(0, GREEDY))
        transcriber.settle(session, sink)
        with closing(Microphone(microphone, lambda event: say(event.message, quiet))) as source:
            say("\n".join(source.describe()), quiet)
            say("listening; Ctrl-C ends", quiet)
            if events:
                events.emit("state", state="ready")
            stats = Stats()
            with interruptible(source.close) as interruption:
                converse(session, source, Tee(source, sink), stats)
        sink.finish()
    shown.finish()
    transcription = collected(sink.events, stats.frames * FRAME_SECONDS)
    path = target.write(LIVE, transcription)
    if events:
        events.emit("end", text=transcription.text, seconds=transcription.seconds, dropped=source.dropped)
    say(
        f"{len(transcription.words)} words in {transcription.seconds:.0f} s, {source.dropped} frames dropped"
        + (f"; {path}" if path else ""),
        quiet,
    )
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


class _Shown:
    """Where words go as they are found."""

    def __init__(self, events: JsonLines | None, lines: Lines | None) -> None:
        self._events, self._lines = events, lines

    def write(self, event: Word | Pause) -> None:
        if self._events:
            emit(self._events, event)
        if self._lines:
            self._lines.write(event)

    def finish(self) -> None:
        if self._lines:
            self._lines.finish()
