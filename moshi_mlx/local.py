"""`python -m moshi_mlx.local`: the flags people know, in front of `moshi-mlx chat`."""

from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.main import reported
from moshi_mlx.cli.talk import Setup, talk

app = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False, rich_markup_mode=None)
FileOption = Annotated[
    str | None, typer.Option(help="Instead of the model's own: a path or hf://owner/name/file.")
]


@app.command()
def local(
    quantized: options.QuantizedOption = None,
    hf_repo: Annotated[
        str | None,
        typer.Option(help="As --model of `moshi-mlx chat`.", show_default="moshiko of that quantization"),
    ] = None,
    moshi_weight: FileOption = None,
    mimi_weight: FileOption = None,
    tokenizer: FileOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many frames of 80 ms.", show_default="never")
    ] = None,
) -> None:
    """Talk with Moshi. `moshi-mlx chat` does the same and has more options."""
    kinds = {None: "q4", "4": "q4", "8": "q8"}
    name = hf_repo or f"moshiko-{kinds.get(quantized, 'q4')}"
    files = options.given(lm_weights=moshi_weight, mimi_weights=mimi_weight, tokenizer=tokenizer)
    talk(Setup(options.given(name=name, quantization=quantized, **files)), frames=steps)


if __name__ == "__main__":
    reported(app)
