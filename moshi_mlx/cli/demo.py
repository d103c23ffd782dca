"""`moshi-mlx demo`: Nano, the model in the package, has a recorded conversation."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.checkpoint.nano import RECORDING, captions
from moshi_mlx.cli import options
from moshi_mlx.errors import AudioFileError

if TYPE_CHECKING:
    from moshi_mlx.cli.transcript import Piece

LEAD, TAIL = 0.5, 4.0  # seconds of silence around the recording
PAUSE = 0.9  # seconds without a word after which a new line begins


@dataclass(frozen=True)
class Line:
    """What one side says without a pause. begin, end: seconds."""

    begin: float
    end: float
    who: str
    text: str


def demo(
    folder: Annotated[Path, typer.Argument(help="Where answer.wav and timeline.svg go.")] = Path("demo"),
    model: options.ModelOption = "nano",
    quiet: options.QuietOption = False,
) -> None:
    """Have a recorded conversation: two questions, and a third one that interrupts.

    Needs no network: Nano, a tiny trained Moshi, comes with the package. Both sides' words are printed with their
    times; the answer and a picture of the conversation (waveforms, words) are written to FOLDER.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"cannot make {folder}: {error.strerror or error}") from error

    from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.cli.transcript import Transcript
    from moshi_mlx.conversation import timeline
    from moshi_mlx.runtime.engine import converse
    from moshi_mlx.runtime.moshi import load

    recording = read_audio(RECORDING).pcm
    said = [Line(LEAD + one["begin"], LEAD + one["end"], "you", one["text"]) for one in captions()]
    moshi = load(model or "nano", offline=model == "nano")
    moshi.warm_up()
    source, transcript = FileSource(recording, LEAD, TAIL), Transcript()
    answer = folder / "answer.wav"
    with moshi.session(seed=0) as session, WavSink(str(answer)) as wav:
        stats = converse(session, source, Tee(wav, transcript))
    for line in sorted([*said, *lines(transcript.pieces)], key=lambda line: line.begin):
        print(f"{line.begin:6.2f} s  {line.who:<5}  {line.text}")
    lead = int(source.lead * 1920)
    you = timeline.Track("you", _padded(recording, lead), [(line.begin, line.text) for line in said])
    them = timeline.Track("moshi", read_audio(answer).pcm, transcript.pieces)
    picture = folder / "timeline.svg"
    timeline.save(picture, [you, them])
    if not quiet:
        delays = [transcript.delay_after(line.end) for line in said]
        shown = ", ".join(f"{delay:.2f} s" for delay in delays if delay is not None)
        for text in (stats.summary(), f"reply delays {shown}", f"answer in {answer}, picture in {picture}"):
            print(text, file=sys.stderr)


def lines(pieces: "list[Piece]") -> list[Line]:
    """Words as whole lines: one ends where a pause begins."""
    found: list[Line] = []
    for time, text in pieces:
        if found and time - found[-1].end < PAUSE:
            last = found.pop()
            found.append(Line(last.begin, time, last.who, last.text + text))
        else:
            found.append(Line(time, time, "moshi", text.lstrip()))
    return found


def _padded(pcm, samples: int):
    import numpy as np

    return np.concatenate([np.zeros(samples, np.float32), pcm])
