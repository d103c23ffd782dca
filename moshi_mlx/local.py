"""`python -m moshi_mlx.local`: the flags people know, in front of `moshi-mlx chat`."""

from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.main import program, run_program


def local(
    *,
    kyutai: options.KyutaiOptions,
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many frames of 80 ms.", show_default="never")
    ] = None,
) -> None:
    """Talk with Moshi. `moshi-mlx chat` does the same and has more options."""
    from moshi_mlx.cli.talk import talk

    talk(kyutai.model(), options.DeviceOptions(), options.SamplingOptions(), frames=steps)


if __name__ == "__main__":
    run_program(program(local))
