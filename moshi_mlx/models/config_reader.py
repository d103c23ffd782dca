"""Reading a config: from a JSON file, and field by field, so that nothing in it goes unread."""

from __future__ import annotations

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
    except (ValueError, RecursionError) as cause:
        raise error(f"{name} is not JSON: {cause}; {remedy}") from cause
    if not isinstance(found, dict):
        raise error(f"{name} is not a JSON object: a group of fields expected, {type(found).__name__} found")
    return found


class ConfigReader:
    """Reads the fields of a config, and refuses in the end what nobody has asked for.

    A default stands for a field that is absent or null; without one the field must be there.
    Every method raises ConfigError, which names the field and its value.
    """

    def __init__(self, config: Mapping[str, Any], kind: str = "config field", prefix: str = "") -> None:
        self.left = dict(config)  # what nobody has asked for yet
        self._kind, self._prefix = kind, prefix

    def error(self, key: str, value: Any, problem: str) -> ConfigError:
        """Return the error to raise for the value of a field. problem: what is wrong with it, as a clause."""
        return ConfigError(f"{self._kind} '{self._prefix}{key}' is {value!r}; {problem}")

    def get(self, key: str, *default: Any) -> Any:
        """Return a value of any type."""
        if key not in self.left and not default:
            raise ConfigError(f"{self._kind} '{self._prefix}{key}' is missing")
        value = self.left.pop(key, None)
        return default[0] if value is None and default else value

    def integer(self, key: str, *default: int, least: int = 0, below: int = LARGEST) -> int:
        """Return a whole number from `least` to `below` - 1."""
        value = self.get(key, *default)
        if not _is_number(value) or not least <= value < below or value != int(value):
            raise self.error(key, value, f"it must be a whole number from {least} to {below - 1}")
        return int(value)

    def size(self, key: str, *default: int) -> int:
        """Return a whole number of at least 1."""
        return self.integer(key, *default, least=1)

    def number(self, key: str, *default: float, above: float = -LARGEST) -> float:
        """Return a number that is larger than `above`."""
        value = self.get(key, *default)
        if not _is_number(value) or not above < value < LARGEST:
            raise self.error(key, value, f"it must be a number between {above} and {LARGEST}")
        return float(value)

    def positive(self, key: str, *default: float) -> float:
        """Return a number above 0."""
        return self.number(key, *default, above=0)

    def words(self, key: str, *default: Iterable[str]) -> list[str]:
        """Return a list of words, which may be empty."""
        value = self.get(key, *default)
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise self.error(key, value, "it must be a list of words")
        return list(value)

    def integers(self, key: str, *default: Iterable[int]) -> list[int]:
        """Return a list of at least one whole number."""
        value = self.get(key, *default)
        if (
            not isinstance(value, list | tuple | range)
            or not value
            or any(type(each) is not int for each in value)
        ):
            raise self.error(key, value, "it must be a list of whole numbers")
        return list(value)

    def choice(self, key: str, default: Any, choices: tuple[Any, ...]) -> Any:
        """Return one of `choices`. default: for an absent field only."""
        value = self.left.pop(key, default)
        if value not in choices:
            raise self.error(key, value, f"it must be one of {', '.join(map(repr, choices))}")
        return value

    def section(self, key: str, *default: Mapping[str, Any]) -> ConfigReader:
        """Return a reader for a group of fields."""
        value = self.get(key, *default)
        if not isinstance(value, Mapping):
            raise self.error(key, value, "it must be a group of fields")
        return ConfigReader(value, self._kind, f"{self._prefix}{key}.")

    def only(self, key: str, value: Any, default: Any = ...) -> None:
        """Refuse all values but one. default: what an absent field means in PyTorch, `value` unless given."""
        found = self.get(key, value if default is ... else default)
        if found != value:
            raise self.error(key, found, f"only {value!r} is supported")

    def unsupported(self, *keys: str) -> None:
        """Refuse fields that ask for something: whose value is not null, false or empty."""
        for key in keys:
            if value := self.get(key, None):
                raise self.error(key, value, "this is not supported")

    def ignore(self, *keys: str) -> None:
        """Pass over fields, whatever they say."""
        for key in keys:
            self.left.pop(key, None)

    def finish(self) -> None:
        """Refuse the fields that nobody has asked for, if they ask for something."""
        self.unsupported(*list(self.left))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
