"""`python -m moshi_mlx.run_inference`: the flags people know, in front of `run`, `translate` and `transcribe`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from moshi_mlx.cli import members, options
from moshi_mlx.cli.main import program, run_program


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
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.hub import survey

    sampling = options.SamplingOptions(seed, text_temperature=temp, audio_temperature=temp)
    model = replace(kyutai.model(offline), cfg=cfg_coef)
    with survey():  # the config alone says what a model does
        found = Checkpoint.find(
            **{name: value for name, value in model.checkpoint.items() if name != "quantization"}
        )
    if not found.lm_config.depth:
        from moshi_mlx.cli.transcription import transcribe_recordings

        if outfile:
            print(f"note: {found.name} writes words alone, so {outfile} is not written", file=sys.stderr)
        transcribe_recordings([infile], None, None, members.SttModelOptions(**vars(model)), None)
        return
    from moshi_mlx.cli.answer import Manner
    from moshi_mlx.cli.answers import answer_given
    from moshi_mlx.cli.translation import translate_recording

    manner = Manner(sampling, silence={})
    if found.translates:
        translate_recording(infile, outfile or None, members.TranslatorOptions(**vars(model)), manner)
    else:
        answer_given(infile, outfile or None, model, manner)


if __name__ == "__main__":
    run_program(program(run_inference))
