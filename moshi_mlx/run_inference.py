"""`python -m moshi_mlx.run_inference`: the flags people know, in front of `moshi-mlx run`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import members, options
from moshi_mlx.cli.main import program, run_program

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint


def run_inference(
    infile: Annotated[str, typer.Argument(metavar="INFILE", help="Recording to answer.")],
    outfile: Annotated[
        str | None, typer.Argument(metavar="OUTFILE", help="File for the answer, in the format of its suffix.")
    ] = None,
    *,
    kyutai: options.KyutaiOptions,
    temp: Annotated[
        float | None, typer.Option(help="Temperature of text and audio.", show_default="the model's")
    ] = None,
    cfg_coef: Annotated[float, typer.Option(help="Guidance of Hibiki, as --cfg of `moshi-mlx translate`.")] = 1.0,
    seed: options.SeedOption = None,
    offline: options.OfflineOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Accepted without effect.")] = False,
) -> None:
    """Answer a recording, as `moshi-mlx run` does; with Hibiki translate it, with speech to text transcribe it."""
    from moshi_mlx.cli.answer import Manner, answer

    sampling = options.SamplingOptions(seed, text_temperature=temp, audio_temperature=temp)
    model = replace(kyutai.model(offline), cfg=cfg_coef)
    manner = Manner(sampling, silence={})
    try:
        answer(infile, outfile or None, _AnyModel(**vars(model)), manner)
    except _Translates:
        from moshi_mlx.cli.translation import translate_recording

        translate_recording(infile, outfile or None, members.TranslatorOptions(**vars(model)), manner)
    except _ListensOnly:  # known once its config is there, before its weights are loaded
        from moshi_mlx.cli.transcription import transcribe_recordings

        transcribe_recordings([infile], None, None, members.SttModelOptions(**vars(model)), None)


class _ListensOnly(Exception):
    """The model is a speech-to-text model."""


class _Translates(Exception):
    """The model translates."""


class _AnyModel(options.ModelOptions):
    """A model that talks, or tells by an exception what else it does."""

    def check(self, found: Checkpoint) -> None:
        if not found.lm_config.depth:
            raise _ListensOnly
        if found.translates:
            raise _Translates


if __name__ == "__main__":
    run_program(program(run_inference))
