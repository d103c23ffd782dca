"""The `moshi-mlx` command: its subcommands, and the one place where errors become a line and an exit code."""

import sys
from typing import Annotated

import typer

from moshi_mlx.cli.bench import bench
from moshi_mlx.cli.chat import chat
from moshi_mlx.cli.demo import demo
from moshi_mlx.cli.devices import devices
from moshi_mlx.cli.doctor import doctor
from moshi_mlx.cli.quality import quality
from moshi_mlx.cli.quantize import quantize
from moshi_mlx.cli.run import run
from moshi_mlx.cli.serve import serve
from moshi_mlx.errors import MoshiError
from moshi_mlx.version import __version__

app = typer.Typer(
    name="moshi-mlx",
    help="Talk to Moshi, the full-duplex speech-text model, on this machine.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help: the same text on every terminal, in docs/cli.md and in a pipe
)
app.command()(chat)
app.command()(serve)
app.command()(run)
app.command()(demo)
app.command()(quantize)
app.command()(quality)
app.command()(bench)
app.command()(devices)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"moshi-mlx {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Talk to Moshi, the full-duplex speech-text model, on this machine."""


def main() -> None:
    """Entry point: exit code 0 when all went well, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    reported(app)


def reported(program) -> None:
    """Run a program; what it raises for people becomes one line on stderr and exit code 1."""
    try:
        program()
    except MoshiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
