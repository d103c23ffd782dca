"""`moshi-mlx demo`: Nano, the model in the package, has a recorded conversation."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.checkpoint.nano import NAME, RECORDING, captions
from moshi_mlx.cli import options
from moshi_mlx.errors import AudioFileError, system_errors

LEAD, TAIL = 0.5, 4.0  # seconds of silence around the recording


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where answer.wav and timeline.svg go.", show_default="demo")
    ] = Path("demo"),
    model: Annotated[str, typer.Option("--model", "-m", help=options.MODEL_HELP)] = NAME,
    quiet: options.QuietOption = False,
) -> None:
    """Have a recorded conversation: two questions, and a third one that interrupts.

    Needs no network: Nano, a tiny trained Moshi, comes with the package. Both sides' words are printed with their
    times; the answer and a plot of the conversation (waveforms, words) are written to FOLDER.
    """
    with system_errors(f"cannot make {folder}", AudioFileError):
        folder.mkdir(parents=True, exist_ok=True)

    import numpy as np

    from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.conversation.timeline import Track, save
    from moshi_mlx.conversation.transcript import Transcript, Utterance, utterances
    from moshi_mlx.frames import FRAME_SAMPLES
    from moshi_mlx.runtime.engine import converse
    from moshi_mlx.runtime.moshi import load

    recording = read_audio(RECORDING).pcm
    said = [Utterance(LEAD + one["begin"], LEAD + one["end"], "you", one["text"]) for one in captions()]
    moshi = load(model, offline=model == NAME)
    moshi.warm_up()
    source, transcript = FileSource(recording, LEAD, TAIL), Transcript()
    answer, timeline = folder / "answer.wav", folder / "timeline.svg"
    with moshi.session(seed=0) as session, WavSink(answer) as wav:
        stats = converse(session, source, Tee(wav, transcript))
    for one in sorted([*said, *utterances(transcript.pieces, "moshi")], key=lambda one: one.begin):
        print(f"{one.begin:6.2f} s  {one.speaker:<5}  {one.text}")
    heard = np.pad(recording, (source.lead * FRAME_SAMPLES, 0))
    you = Track("you", heard, [(one.begin, one.text) for one in said])
    save(timeline, [you, Track("moshi", read_audio(answer).pcm, transcript.pieces)])
    if not quiet:
        delays = [transcript.delay_after(one.end) for one in said]
        shown = ", ".join(f"{delay:.2f} s" for delay in delays if delay is not None)
        for line in (stats.summary(), f"reply delays {shown}", f"answer in {answer}, timeline in {timeline}"):
            print(line, file=sys.stderr)
