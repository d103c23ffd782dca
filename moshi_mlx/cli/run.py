"""`moshi-mlx run`: answer a recording."""

import os
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.persona import PersonaOptions


def run(
    recording: Annotated[
        str, typer.Argument(metavar="IN", help="Recording to answer, or a folder of them; - for stdin.")
    ],
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT",
            help="File for the answer, in the format of its suffix; - for stdout. A folder if IN is one.",
        ),
    ] = None,
    *,
    model: options.ModelOptions,
    lead: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds of silence before the recording, in which Moshi greets.",
            show_default="2.0",
        ),
    ] = None,
    tail: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds of silence after the recording, in which Moshi answers.",
            show_default="10.0",
        ),
    ] = None,
    stereo: Annotated[
        bool, typer.Option("--stereo", help="Put both voices into OUT: IN on the left, the answer on the right.")
    ] = False,
    transcript: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File for the words and their times: .srt, .vtt, .json, .txt; for a folder only the format: srt.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Of a folder, recordings to answer in each step of the model.", show_default="1"
        ),
    ] = None,
    sampling: options.SamplingOptions,
    persona: PersonaOptions,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Answer a recording: Moshi hears IN as it would live, and its voice goes to OUT.

    IN is a wav, flac, ogg, opus or mp3 file of any rate; its channels are mixed down to one. The words appear on
    stderr as they are spoken and, when Moshi has finished, on stdout (unless the answer or --json goes there).
    OUT is what its suffix names: wav, flac, mp3, ogg, opus, aiff, au, caf or w64. It is simultaneous with IN
    between its silences. Ctrl-C keeps what was said so far. Of a folder, each recording is answered as if it were
    alone, in a wav of its name in the folder OUT; --batch answers several at once, which takes less time for each
    and more memory.

    With --json, {"event": "text", "t": seconds, "text": piece} is printed for every piece as it comes, t counted
    from the start of OUT, {"event": "note", "text": line} for whatever is not heard as it was recorded, and
    last {"event": "end", "text": everything, ...} with the seed and the timing; of a folder, each with "file".
    """
    from moshi_mlx.cli.answer import Manner
    from moshi_mlx.cli.answers import answer_given

    if batch and not os.path.isdir(recording):
        raise typer.BadParameter(f"--batch answers the recordings of a folder together; {recording} is none")
    silence = options.given(lead=lead, tail=tail)
    manner = Manner(sampling, silence, transcript, stereo, persona, as_json=as_json, quiet=quiet)
    answer_given(recording, output, model, manner, batch or 1)
