"""`moshi-mlx say`: a text as speech."""

from typing import Annotated

import typer

from moshi_mlx.cli import members, options


def say(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text, a file of text, or - for stdin.", show_default=False),
    ] = None,
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT", help="File for the speech; - for stdout, as WAV.", show_default="it is played"
        ),
    ] = None,
    *,
    model: members.SpeakerOptions,
    voice: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A voice of kyutai/tts-voices, or a file; a second one lets lines of the text take turns.",
            show_default="Kyutai's example",
        ),
    ] = None,
    padding_bonus: Annotated[
        float, typer.Option(min=-10, max=10, help="Pace: above 0 slower, below faster; 1 and -1 can be heard.")
    ] = 0.0,
    jsonl: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Say many texts, several at once: lines of {"text": ..., "voice": ..., "id": ...}, - for stdin. '
            "The one argument is then the folder for ID.wav.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of --jsonl in a step of the model.")] = 8,
    transcript: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File for the words and their times: .srt, .vtt, .json, .txt."),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            help="Speaker that plays: its number or a part of its name, see `moshi-mlx devices`.",
            show_default="default",
        ),
    ] = None,
    sampling: options.SamplingOptions,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Say a text with Kyutai TTS: it is played, or written to OUT, while it is made; words go to stderr.

    From stdin, text is said as it comes, such as that of a language model; the speech waits for words, not for the
    end. <break time="1.5s"/> makes a pause.

    With --jsonl, the text of each line goes into OUT_DIR/ID.wav, as it would alone: `say --jsonl texts.jsonl
    OUT_DIR`. A line may have lists, "turns" and "voices", in place of "text" and "voice".

    Use voices of people only with their consent.

    With --json, {"event": "text", "t": seconds, "text": word} is printed for every word as it becomes known, which
    is before it is heard, and last {"event": "end", ...} with the seed.
    """
    from moshi_mlx.cli.answer import Manner
    from moshi_mlx.cli.speech import say_text
    from moshi_mlx.cli.speech_requests import say_file
    from moshi_mlx.tasks.utterance import Pace

    pace = Pace(bonus=padding_bonus, **options.given(guidance=model.cfg))
    manner = Manner(sampling, {}, transcript, as_json=as_json, quiet=quiet)
    if jsonl is None:
        if text is None:
            raise typer.BadParameter("TEXT is missing: a text, a file of text, or - for stdin")
        say_text(text, output, model, manner, voice or [], pace, speaker)
    elif text is None or output is not None or voice or speaker:
        raise typer.BadParameter("with --jsonl, name a folder for the speech, and no OUT, --voice or --speaker")
    else:
        say_file(jsonl, text, model, manner, pace, batch_size)
