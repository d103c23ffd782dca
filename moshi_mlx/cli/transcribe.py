"""`moshi-mlx transcribe`: write down what is said in recordings, or into the microphone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from moshi_mlx.cli import members, options


def transcribe(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IN... [OUT]",
            help="Recordings or folders of them, - for stdin; last OUT.srt, .vtt, .json, .txt, or - for stdout.",
            show_default=False,
        ),
    ] = None,
    *,
    model: members.SttModelOptions,
    kind: Annotated[
        Literal["srt", "vtt", "json", "txt"] | None,
        typer.Option(
            "--format",
            help="Format of what is written; without OUT, into a file beside each recording.",
            show_default="that of OUT",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--into", help="Folder for these files.", show_default="beside each recording")
    ] = None,
    vad_heads: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Voice activity heads for a model without, which find pauses: a path or hf://owner/name/file.",
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Transcribe the microphone until Ctrl-C.")] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            help="Microphone of --live: its number or a part of its name.",
            show_default="default",
        ),
    ] = None,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Write down what is said, with the time of every word. Needs a speech-to-text model: stt-1b or stt-2.6b.

    Recordings are wav, flac, ogg, opus or mp3 files of any rate. The words of one recording appear on stdout as
    they are found, unless OUT is a file; several recordings go through the model together, a line of stdout each.
    A line, or a subtitle, ends at a pause. Ctrl-C keeps what was found so far.

    With --json: {"event": "word", "word": ..., "start": seconds, "end": seconds}, {"event": "pause", "pause":
    seconds, "p": probability} where the model expects two seconds of silence, last {"event": "end", "text": ...};
    with several recordings each has "file", too.
    """
    if live and folder:
        raise typer.BadParameter(f"--live writes one file, OUT: leave out --into {folder}")
    if microphone and not live:
        raise typer.BadParameter(f"--input {microphone} is the microphone of --live: give both, or leave it out")
    if live:
        if as_json and places == ["-"]:
            raise typer.BadParameter("--json and OUT - both want standard output")
        from moshi_mlx.cli.live_transcription import transcribe_live

        transcribe_live(places or [], kind, model, vad_heads, microphone, as_json=as_json, quiet=quiet)
    else:
        from moshi_mlx.cli.transcription import transcribe_recordings

        transcribe_recordings(places or [], kind, folder, model, vad_heads, as_json=as_json, quiet=quiet)
