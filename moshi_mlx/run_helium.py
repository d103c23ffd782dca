"""`python -m moshi_mlx.run_helium`: the flags people know, in front of mlx-lm, which runs Helium."""

import sys
from typing import Annotated

import typer

from moshi_mlx.cli.main import program, run_program
from moshi_mlx.errors import ConfigError

HELIUM = "kyutai/helium-1-preview-2b"
KYUTAIS_MLX = "-mlx"  # how repositories end whose files have the names of Kyutai's own program


def run_helium(
    *,
    hf_repo: Annotated[str, typer.Option(help="Helium in the layout of transformers or mlx-lm.")] = HELIUM,
    prompt: Annotated[str, typer.Option(help="The text to continue.")] = "Aujourd'hui, il est temps",
    nsteps: Annotated[int, typer.Option(min=1, help="The most tokens to add.")] = 20,
    verbose: Annotated[bool, typer.Option("--verbose", help="Accepted without effect.")] = False,
) -> None:
    """Continue a text with Helium, Kyutai's text model. mlx-lm runs it: `python -m mlx_lm generate` has more."""
    try:
        from mlx_lm import load, stream_generate
    except ImportError as error:
        raise ConfigError("Helium is run by mlx-lm, which is not installed here: pip install mlx-lm") from error
    if hf_repo.endswith(KYUTAIS_MLX):
        # mlx-lm reads transformers' layout; Kyutai's repository without the suffix has the same weights in it.
        hf_repo = hf_repo.removesuffix(KYUTAIS_MLX)
        print(f"note: taking {hf_repo}, the same weights in the layout that mlx-lm reads", file=sys.stderr)
    model, tokenizer = load(hf_repo)[:2]
    print(prompt, end="", flush=True)
    for piece in stream_generate(model, tokenizer, prompt, max_tokens=nsteps):
        print(piece.text, end="", flush=True)
    print()


if __name__ == "__main__":
    run_program(program(run_helium))
