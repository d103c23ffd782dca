"""`python -m moshi_mlx.run_inference`: the flags people know, in front of `moshi-mlx run`."""

from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.answer import answer
from moshi_mlx.cli.main import reported
from moshi_mlx.errors import ConfigError

app = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False, rich_markup_mode=None)


@app.command()
def run_inference(
    infile: Annotated[str, typer.Argument(metavar="INFILE", help="The recording to answer.")],
    outfile: Annotated[str | None, typer.Argument(metavar="OUTFILE", help="Where the answer goes, a wav.")] = None,
    hf_repo: Annotated[
        str | None, typer.Option(help="As --model of `moshi-mlx run`.", show_default="moshiko-q4")
    ] = None,
    moshi_weights: options.FileOption = None,
    mimi_weights: options.FileOption = None,
    tokenizer: options.FileOption = None,
    lm_config: options.FileOption = None,
    temp: Annotated[
        float | None, typer.Option(help="Temperature of text and audio.", show_default="the model's")
    ] = None,
    cfg_coef: Annotated[float, typer.Option(help="Only 1 (no guidance) is supported.")] = 1.0,
    seed: options.SeedOption = None,
    offline: options.OfflineOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Accepted and without effect.")] = False,
) -> None:
    """Answer a recording. `moshi-mlx run` does the same and has more options."""
    if cfg_coef != 1.0:
        raise ConfigError(f"--cfg-coef {cfg_coef}: classifier-free guidance is not supported, only 1 is")
    files = options.given(
        lm_weights=moshi_weights, mimi_weights=mimi_weights, tokenizer=tokenizer, config=lm_config
    )
    answer(
        infile,
        outfile or None,
        checkpoint=options.given(name=hf_repo, offline=offline, **files),
        silence={},
        seed=seed,
        sampling=options.given(text_temperature=temp, audio_temperature=temp),
    )


if __name__ == "__main__":
    reported(app)
