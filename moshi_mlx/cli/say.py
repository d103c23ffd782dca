"""`moshi-mlx say`: a text as speech."""

from typing import Annotated

import typer

from moshi_mlx.cli import members, options


def say(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, a file of text, or - for stdin.")],
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="[OUT]", help="File for the speech; - for stdout, as WAV.", show_default="it is played"
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

    Use voices of people only with their consent.

    With --json, {"event": "text", "t": seconds, "text": word} is printed for every word as it becomes known, which
    is before it is heard, and last {"event": "end", ...} with the seed.
    """
    from moshi_mlx.cli.answer import Manner
    from moshi_mlx.cli.speech import say_text
    from moshi_mlx.tasks.utterance import Pace

    pace = Pace() if model.cfg is None else Pace(guidance=model.cfg)
    manner = Manner(sampling, {}, transcript, as_json=as_json, quiet=quiet)
    say_text(text, output, model, manner, voice or [], pace, speaker)
