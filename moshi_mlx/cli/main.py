"""The `moshi-mlx` command: its subcommands, and the one place where errors become a line and an exit code."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Annotated, Any, get_origin

import typer

from moshi_mlx.checkpoint.download import check_environment
from moshi_mlx.cli import config_file, models, standard_streams
from moshi_mlx.cli.bench import bench
from moshi_mlx.cli.chat import chat
from moshi_mlx.cli.demo import demo
from moshi_mlx.cli.devices import devices
from moshi_mlx.cli.doctor import doctor
from moshi_mlx.cli.eval import eval_
from moshi_mlx.cli.finetune import finetune
from moshi_mlx.cli.history import history
from moshi_mlx.cli.interruption import INTERRUPTED, told
from moshi_mlx.cli.options import ModelOptions, WrongUsage
from moshi_mlx.cli.processes import shared
from moshi_mlx.cli.quality import quality
from moshi_mlx.cli.quantize import quantize
from moshi_mlx.cli.run import run
from moshi_mlx.cli.say import say
from moshi_mlx.cli.serve import serve
from moshi_mlx.cli.transcribe import transcribe
from moshi_mlx.cli.translate import translate
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.version import __version__

HELP = ("-h", "--help")
COMMANDS = (
    chat,
    serve,
    run,
    transcribe,
    translate,
    say,
    demo,
    history,
    finetune,
    quantize,
    quality,
    eval_,
    bench,
    devices,
    doctor,
)


def program(*commands: Callable[..., None], **how: Any) -> typer.Typer:
    """Make a program of commands. Its help is plain: the same on every terminal, in docs/cli.md and in a pipe."""
    settings = {"help_option_names": [*HELP]}
    how = {"add_completion": False, "pretty_exceptions_show_locals": False, **how}
    app = typer.Typer(**how, rich_markup_mode=None, context_settings=settings)
    for command in commands:
        name = command.__name__.rstrip("_")  # list_, for Python has a list
        app.command(name, short_help=_summary(command), context_settings=settings)(grouped(command))
    return app


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: in place of a dataclass stand the options among its fields."""
    parameters = inspect.signature(command, eval_str=True).parameters
    annotations = {name: one.annotation for name, one in parameters.items()}
    groups = {name: one for name, one in annotations.items() if inspect.isclass(one) and is_dataclass(one)}
    options = {name: _options(group) for name, group in groups.items()}

    @wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{option.name: values.pop(option.name) for option in options[name]})
        try:
            with shared(command.__name__, values) as settings:
                command(**settings)
        except KeyboardInterrupt as interrupt:  # typer would say nothing
            print(told(interrupt), file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    flat = [each for name, one in parameters.items() for each in options.get(name, [one])]
    flat = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in flat]
    run.__signature__ = inspect.Signature(flat)  # pyright: ignore[reportAttributeAccessIssue]
    run.talks = ModelOptions in groups.values()  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {one.name: one.annotation for one in flat}
    return run


def _options(group: type) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(group).parameters.values() if get_origin(one.annotation) is Annotated]


def _summary(command: Callable[..., None]) -> str:
    """The first sentence of what a command says of itself, whole: click would cut it where a line ends."""
    paragraph = " ".join((inspect.getdoc(command) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


app = program(*COMMANDS, name="moshi-mlx", no_args_is_help=True, add_completion=True)
app.add_typer(
    program(*models.COMMANDS, name="models", no_args_is_help=True, help=models.HELP), short_help=models.HELP
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"moshi-mlx {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    no_config: Annotated[
        bool, typer.Option("--no-config", help=f"Take no defaults from the file {config_file.NAME}.")
    ] = False,
) -> None:
    """Talk to Moshi, the full-duplex speech-text model, on this machine."""
    if set(HELP) & set(sys.argv):
        return
    check_environment()
    if no_config:
        return
    try:
        path = config_file.place()
        settings = config_file.read_settings(path)
        context.default_map = config_file.defaults(settings, context.command, path)
    except ConfigError:
        if context.invoked_subcommand != "doctor":  # which shows it among the rest
            raise


def main() -> None:
    """Run `moshi-mlx`, as `run_program`."""
    run_program(app)


def run_program(app: typer.Typer) -> None:
    """Run a program; what it raises for people becomes one line on stderr.

    Exit code 0 when all went well, 1 after an error, 2 for wrong usage, 130 after Ctrl-C, 141 where nobody reads
    standard output any more.
    """
    try:
        standard_streams.prepare()
        try:
            app()
        finally:
            standard_streams.finish()
    except standard_streams.ReaderLeft:
        standard_streams.give_up()
        sys.exit(standard_streams.READER_LEFT)
    except MoshiError as error:
        print(f"error: {error}", file=sys.stderr)
        standard_streams.give_up()
        sys.exit(2 if isinstance(error, WrongUsage) else 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
