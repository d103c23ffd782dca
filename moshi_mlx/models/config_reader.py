"""Reading a config: from a JSON file, and key by key, so that nothing in it goes unread."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError

LARGEST = 2**31  # no size, count or period is larger; NaN and infinity are not below it


def read_json(
    path: Path, kind: str = "", error: type[MoshiError] = CheckpointError, remedy: str = "fetch it again"
) -> dict[str, Any]:
    """Read a JSON object, such as a config, from a file.

    kind, remedy: what the file is ("the recipe") and what to do about a wrong one, for the message.
    Raises `error`, in one line, for a file that cannot be read or holds anything else.
    """
    name = f"{kind} {path}".lstrip()
    try:
        found = json.loads(path.read_bytes())
    except OSError as cause:
        raise error(f"cannot read {name}: {cause.strerror or cause}") from cause
    except ValueError as cause:
        raise error(f"{name} is not JSON: {cause}; {remedy}") from cause
    if not isinstance(found, dict):
        raise error(f"{name} is not a JSON object: a group of fields expected, {type(found).__name__} found")
    return found


class ConfigReader:
    """Reads each key of a config once and knows at the end which ones nobody asked for."""

    def __init__(self, config: Mapping[str, Any], where: str = "config field") -> None:
        self.left = dict(config)
        self.where = where

    def get(self, key: str, *default: Any) -> Any:
        if key not in self.left and not default:
            raise ConfigError(f"{self.where} '{key}' is missing")
        return self.left.pop(key, *default)

    def _typed(self, key: str, kind: str, convert: Any, default: tuple[Any, ...]) -> Any:
        value = self.get(key, *default)
        if value is None and default:
            return default[0]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
            raise ConfigError(f"{self.where} '{key}' is {value!r}: {kind} expected")
        if convert(value) != value:
            raise ConfigError(f"{self.where} '{key}' is {value!r}: {kind} expected")
        return convert(value)

    def integer(self, key: str, *default: int) -> int:
        value = self._typed(key, "a whole number", int, default)
        if value < 0:
            raise ConfigError(f"{self.where} '{key}' is {value}: it cannot be negative")
        return value

    def size(self, key: str, *default: int) -> int:
        """A whole number of at least 1."""
        value = self.integer(key, *default)
        if value < 1:
            raise ConfigError(f"{self.where} '{key}' is {value}: at least 1 expected")
        return value

    def number(self, key: str, *default: float | None) -> Any:
        return self._typed(key, "a number", float, default)

    def positive(self, key: str, *default: float | None) -> Any:
        """A number above 0."""
        value = self.number(key, *default)
        if value is not None and value <= 0:
            raise ConfigError(f"{self.where} '{key}' is {value}: more than 0 expected")
        return value

    def section(self, key: str) -> "ConfigReader":
        """A group of fields, empty if absent."""
        value = self.get(key, None)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.where} '{key}' is {value!r}: a group of fields expected")
        return ConfigReader(value, f"{self.where} {key}:")

    def strings(self, key: str, *default: Iterable[str]) -> list[str]:
        value = self.get(key, *default)
        if value is None and default:
            value = default[0]
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{self.where} '{key}' is {value!r}: a list of words expected")
        return list(value)

    def integers(self, key: str, *default: Iterable[int]) -> list[int]:
        value = self.get(key, *default)
        if value is None and default:
            value = default[0]
        if not isinstance(value, (list, tuple, range)) or not value or not all(type(v) is int for v in value):
            raise ConfigError(f"{self.where} '{key}' is {value!r}: a list of whole numbers expected")
        return list(value)

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.get(key, default)
        if value not in choices:
            raise ConfigError(f"{self.where} '{key}' is {value!r}: one of {', '.join(choices)} expected")
        return value

    def only(self, key: str, value: Any, default: Any = ...) -> None:
        """The one value we have; `default` is what an absent key means in PyTorch, `value` unless told."""
        found = self.get(key, None)
        if found is None:
            found = value if default is ... else default
        if found != value:
            raise ConfigError(f"{self.where} '{key}' is {found!r}: only {value!r} is supported")

    def absent(self, *keys: str) -> None:
        for key in keys:
            if value := self.get(key, None):
                raise ConfigError(f"{self.where} '{key}' is {value!r}: not supported")

    def ignore(self, *keys: str) -> None:
        for key in keys:
            self.left.pop(key, None)

    def ignore_prefix(self, prefix: str) -> None:
        self.ignore(*[key for key in self.left if key.startswith(prefix)])

    def finish(self) -> None:
        self.absent(*list(self.left))
