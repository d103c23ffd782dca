"""`python -m moshi_mlx.local`: the flags people know, in front of `moshi-mlx chat`."""

from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.main import reported

app = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False, rich_markup_mode=None)


@app.command()
def local(
    quantized: options.QuantizedOption = None,
    hf_repo: Annotated[
        str | None,
        typer.Option(help="As --model of `moshi-mlx chat`.", show_default="moshiko of that quantization"),
    ] = None,
    moshi_weight: options.FileOption = None,
    mimi_weight: options.FileOption = None,
    tokenizer: options.FileOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many frames of 80 ms.", show_default="never")
    ] = None,
) -> None:
    """Talk with Moshi. `moshi-mlx chat` does the same and has more options."""
    from moshi_mlx.cli.talk import Setup, talk

    name = hf_repo or options.moshiko(quantized)
    files = options.given(lm_weights=moshi_weight, mimi_weights=mimi_weight, tokenizer=tokenizer)
    talk(Setup(options.given(name=name, quantization=quantized, **files)), frames=steps)


if __name__ == "__main__":
    reported(app)
