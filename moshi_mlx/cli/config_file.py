"""The file of defaults: what a person always wants, so that it need not be typed.

    model = "moshiko-q8"      # before the first table: for every command that loads a model to talk with
    [serve]                   # a table: for that command alone
    port = 9000

Keys are the long names of options, without their dashes. What is given on the command line wins.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from moshi_mlx.errors import ConfigError, MoshiError, system_errors
from moshi_mlx.sampling_config import SamplingConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

NAME = "moshi-mlx.toml"

Defaults = dict[str, dict[str, Any]]  # command -> parameter -> value


def place() -> Path:
    """Return where the file is, or would be: in $XDG_CONFIG_HOME, else in ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / NAME


def read_settings(path: Path) -> dict[str, Any]:
    """Read the file as it is written; without one there are no settings. Raises ConfigError, naming the file."""
    try:
        with system_errors(f"cannot read {path}", ConfigError), suppress(FileNotFoundError, NotADirectoryError):
            return tomllib.loads(path.read_bytes().decode())
    except ValueError as error:  # of the encoding, or of TOML
        raise ConfigError(f"{path} is not TOML: {error}") from error
    return {}


def defaults(settings: Mapping[str, Any], group: Any, path: Path) -> Defaults:
    """Say what every option of every command is by default, from settings that were read.

    group: the command of all commands. What stands before the first table is for those that load a model to talk.
    Raises ConfigError with the file, the key and the nearest name for a key or a value that is wrong.
    """
    commands = group.commands
    shared = [command for command in commands.values() if getattr(command.callback, "talks", False)]
    found: Defaults = {name: {} for name in commands}
    for key, value in settings.items():
        if isinstance(value, dict):
            if key not in commands:
                raise ConfigError(f"{path}: there is no command [{key}]{_nearest(key, commands)}")
            continue
        having = {command.name: option for command in shared if (option := _option(command, key))}
        if not having:
            alone = [name for name, command in commands.items() if _option(command, key)]
            known = [each for command in shared for each in _keys(command)]
            other = f"; write it below [{alone[0]}]" if alone else _nearest(key, known)
            raise ConfigError(f"{path}: no command that talks has an option {key}{other}")
        for name, option in having.items():
            found[name][option.name] = _checked(option, value, commands[name], f"{path}: {key}")
    for name, table in settings.items():
        for key, value in table.items() if isinstance(table, dict) else ():
            option = _option(commands[name], key)
            if option is None:
                raise ConfigError(f"{path}: {name} has no option {key}{_nearest(key, _keys(commands[name]))}")
            found[name][option.name] = _checked(option, value, commands[name], f"{path}: {key} of [{name}]")
    return found


def lines(settings: Mapping[str, Any]) -> list[str]:
    """The settings for people, one a line."""
    general = [f"{key} = {value}" for key, value in settings.items() if not isinstance(value, dict)]
    tables = [(name, table) for name, table in settings.items() if isinstance(table, dict)]
    return general + [f"{name}: {key} = {value}" for name, table in tables for key, value in table.items()]


def _option(command: Any, key: str) -> Any:
    return _keys(command).get(key.replace("_", "-"))


def _keys(command: Any) -> dict[str, Any]:
    """The options of a command by the names they have in the file."""
    settable = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    return {name[2:]: one for one in settable for name in one.opts if name.startswith("--")}


def _nearest(key: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.replace("_", "-"), list(names), 1)
    return f"; did you mean {close[0]}?" if close else "; `--help` lists them"


def _checked(option: Any, value: Any, command: Any, where: str) -> Any:
    """The value as it would be had it been typed. Raises ConfigError if it could not be typed."""
    if option.is_flag != isinstance(value, bool):
        raise ConfigError(
            f"{where} is {_shown(value)}; {'true or false' if option.is_flag else 'a value'} expected"
        )
    many = option.multiple or option.nargs != 1
    if many and not isinstance(value, list):
        value = [value]
    if isinstance(value, dict) or (isinstance(value, list) and not many):
        raise ConfigError(f"{where} is {_shown(value)}; one value expected")
    typed = [_typed(one) for one in value] if many else _typed(value)
    try:
        read = option.process_value(typer.Context(command), typed)
        if option.name in SamplingConfig.__dataclass_fields__:
            SamplingConfig(**{option.name: read})
    except typer.BadParameter as error:
        choices = re.findall(r"'([^']*)'", error.message)[1:]  # the first is what was given
        close = difflib.get_close_matches(str(value), choices, 1)
        near = f"; did you mean {close[0]}?" if close else ""
        why = error.message.removeprefix("Value error, ").rstrip(".")
        raise ConfigError(f"{where} is {value}: {why}{near}") from error
    except MoshiError as error:
        raise ConfigError(f"{where}: {error}") from error
    return typed


def _typed(value: Any) -> Any:
    """As a shell would have given it."""
    if isinstance(value, bool):
        return value
    text = str(value)
    return os.path.expanduser(text) if text.startswith("~/") else text


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
