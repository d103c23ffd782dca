"""`moshi-mlx translate`: a recording in another language."""

from typing import Annotated

import typer

from moshi_mlx.cli import members, options


def translate(
    recording: Annotated[str, typer.Argument(metavar="IN", help="Recording to translate; - for stdin.")],
    output: Annotated[
        str | None, typer.Argument(metavar="OUT", help="File for the translation; - for stdout, as WAV.")
    ] = None,
    *,
    model: members.TranslatorOptions,
    tail: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds after the recording in which the model may finish; it says itself when it has.",
            show_default="60.0",
        ),
    ] = None,
    transcript: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File for the words and their times: .srt, .vtt, .json, .txt."),
    ] = None,
    sampling: options.SamplingOptions,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Translate speech with Hibiki: a voice like the speaker's goes to OUT, the words to the terminal.

    IN and OUT are files as for `moshi-mlx run`; OUT is simultaneous with IN and ends with the translation. Words
    appear on stderr as they are spoken and at the end on stdout. They are those of the language that is translated
    into: the model writes no others (`moshi-mlx transcribe IN` gives the speaker's). For live translation use
    `moshi-mlx chat` or `serve` with `--model hibiki-1b`.

    With --json, {"event": "text", "t": seconds, "text": piece} is printed for every piece as it comes, and last
    {"event": "end", "text": everything, "ended": whether the model said so, ...} with the seed and the timing.
    """
    from moshi_mlx.cli.answer import Manner
    from moshi_mlx.cli.translation import translate_recording

    manner = Manner(sampling, {}, transcript, as_json=as_json, quiet=quiet)
    translate_recording(recording, output, model, manner, tail)
