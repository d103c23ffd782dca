"""`python -m moshi_mlx.run_inference`: the flags people know, in front of `moshi-mlx run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.main import program, run_program
from moshi_mlx.errors import ConfigError

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
    cfg_coef: Annotated[float, typer.Option(help="Only 1 (no guidance) is supported.")] = 1.0,
    seed: options.SeedOption = None,
    offline: options.OfflineOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Accepted without effect.")] = False,
) -> None:
    """Answer a recording, as `moshi-mlx run` does, or with a speech-to-text model transcribe it."""
    from moshi_mlx.cli.answer import Manner, answer

    if cfg_coef != 1.0:
        raise ConfigError(f"--cfg-coef {cfg_coef}: classifier-free guidance is not supported, only 1 is")
    sampling = options.SamplingOptions(seed, text_temperature=temp, audio_temperature=temp)
    model = kyutai.model(offline)
    try:
        answer(infile, outfile or None, _AnyModel(**vars(model)), Manner(sampling, silence={}))
    except _ListensOnly:  # known once its config is there, before its weights are loaded
        from moshi_mlx.cli.transcription import transcribe_recordings

        transcribe_recordings([infile], None, None, options.SttModelOptions(**vars(model)), None)


class _ListensOnly(Exception):
    """The model is a speech-to-text model."""


class _AnyModel(options.ModelOptions):
    """A model that talks, or one that listens only."""

    def check(self, found: Checkpoint) -> None:
        if not found.lm_config.depth:
            raise _ListensOnly


if __name__ == "__main__":
    run_program(program(run_inference))
