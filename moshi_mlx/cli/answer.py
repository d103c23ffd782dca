"""What `moshi-mlx run` and `python -m moshi_mlx.run_inference` have in common: a recording in, an answer out."""

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import typer

from moshi_mlx.errors import AudioFileError

if TYPE_CHECKING:
    from moshi_mlx.audio.wav import WavWriter
    from moshi_mlx.runtime.stats import Stats

STREAM = "-"  # standard input or output
INTERRUPTED = 130  # exit code after Ctrl-C


def answer(
    recording: str,
    output: str | None,
    *,
    checkpoint: Mapping[str, Any],
    codec: str = "auto",
    kv_bits: int | None = None,
    silence: Mapping[str, float],
    seed: int | None = None,
    sampling: Mapping[str, Any],
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Answer a recording and report on it.

    checkpoint, silence, sampling: what was given of the arguments of `Checkpoint.resolve`, `FileSource` and
    `SamplingConfig`; the rest is their defaults.
    What can go wrong cheaply goes wrong first: the recording, the place of the answer, the options, the weights.
    """
    _check_output(recording, output, as_json)

    from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink, speech_end
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.cli.interruption import interruptible
    from moshi_mlx.cli.transcript import JsonLines, Transcript, live
    from moshi_mlx.frames import FRAME_SECONDS

    say = _silent if quiet else _say
    audio = read_audio(recording)
    say(audio.describe())
    source = FileSource(audio.pcm, **silence)
    with WavSink(output) if output else nullcontext() as wav:
        from dataclasses import replace

        from moshi_mlx.checkpoint.checkpoint import Checkpoint
        from moshi_mlx.runtime.engine import converse
        from moshi_mlx.runtime.moshi import assemble
        from moshi_mlx.runtime.stats import Stats

        found = Checkpoint.resolve(**checkpoint)
        if found.note:
            say(f"note: {found.note}")
        chosen = replace(found.sampling, **sampling)
        moshi = assemble(found, codec, kv_bits)
        events = JsonLines(sys.stdout) if as_json else None
        transcript = Transcript()
        stats, interrupted = Stats(), True
        with moshi.session(seed, chosen) as session, live(source.frames + 1, quiet) as shown:
            try:
                sinks = [sink for sink in (wav, transcript, events, shown) if sink]
                with interruptible(source.close) as interruption:
                    converse(session, source, Tee(*sinks), stats)
                interrupted = interruption.came
            except KeyboardInterrupt:  # the second one
                source.close()
    # The answer is complete and has its name from here on.
    delay = transcript.delay_after(source.lead * FRAME_SECONDS + speech_end(audio.pcm))
    if events:
        file = wav.file if wav else None
        events.emit("end", **_end(transcript.text, stats, interrupted, session.seed, delay, output, file))
    elif output != STREAM and not (shown and sys.stdout.isatty() and sys.stderr.isatty()):
        print(transcript.text, flush=True)
    for line in _summary(stats, interrupted, session.seed, delay, wav.file if wav else None):
        say(line)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _check_output(recording: str, output: str | None, as_json: bool) -> None:
    if output == STREAM and as_json:
        raise typer.BadParameter("--json and an answer to - both want standard output")
    if output and os.path.isfile(output) and os.path.exists(recording) and os.path.samefile(recording, output):
        raise AudioFileError(f"{output} is the recording itself: give the answer another name")


def _end(
    text: str,
    stats: "Stats",
    interrupted: bool,
    seed: int,
    delay: float | None,
    output: str | None,
    file: "WavWriter | None",
) -> dict[str, object]:
    """The last event of --json."""
    return {
        "text": text,
        "interrupted": interrupted,
        "seed": seed,
        "reply_delay": None if delay is None else round(delay, 3),
        "output": output,
        "output_seconds": file.seconds if file else None,
        "clipped_samples": file.clipped if file else None,
        **stats.as_dict(),
    }


def _summary(
    stats: "Stats", interrupted: bool, seed: int, delay: float | None, file: "WavWriter | None"
) -> list[str]:
    """What the person at the terminal is told at the end."""
    lines = [*(["interrupted"] if interrupted else []), stats.summary()]
    if delay is not None:
        lines.append(f"reply delay {delay:.2f} s (from the end of the recorded speech to the next word)")
    if file:
        clipped = f", {file.clipped} samples clipped" if file.clipped else ""
        lines.append(f"answer in {file.name}: {file.seconds:.2f} s{clipped}")
    return [*lines, f"seed {seed}"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
