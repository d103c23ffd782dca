"""How any config is read: each field is asked for once, and what nobody asked for is refused. No MLX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any

from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError, fetch_again

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 6, 40, 12
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120

DEEPEST = 64  # levels of a JSON file: what looks into it, or shows it, may need as many calls within each other
LARGEST = 2**31  # no size, count or period is larger; NaN and infinity are not below it


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
        return ConfigError(f"{self._kind} '{self._prefix}{key}' is {shown(value)}; {problem}")

    def get(self, key: str, *default: Any) -> Any:
        """Return a value of any type."""
        if key not in self.left and not default:
            raise ConfigError(f"{self._kind} '{self._prefix}{key}' is missing")
        value = self.left.pop(key, None)
        return default[0] if value is None and default else value

    def number(self, key: str, *default: float, least: float = 0, below: int = LARGEST) -> float:
        """Return a number in a range."""
        value = self.get(key, *default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
            raise self.error(key, value, f"it must be a number, at least {least} and below {below}")
        return float(value)

    def integer(self, key: str, *default: int, least: int = 0, below: int = LARGEST) -> int:
        """Return a whole number in a range."""
        value = self.number(key, *default, least=least, below=below)
        if value != int(value):
            raise self.error(key, value, "it must be a whole number")
        return int(value)

    def size(self, key: str, *default: int) -> int:
        """Return a whole number of at least 1."""
        return self.integer(key, *default, least=1)

    def list_of(self, kind: type, key: str, *default: Iterable[Any]) -> list[Any]:
        """Return a list of words (str) or whole numbers (int)."""
        value = self.get(key, *default)
        if not isinstance(value, list | tuple | range) or not all(type(each) is kind for each in value):
            raise self.error(key, value, f"it must be a list of {'words' if kind is str else 'whole numbers'}")
        return list(value)

    def choice(self, key: str, default: Any, choices: tuple[Any, ...]) -> Any:
        """Return one of the values that are supported."""
        value = self.get(key, default)
        if value not in choices:
            raise self.error(key, value, f"only {' or '.join(map(repr, choices))} is supported")
        return value

    def only(self, key: str, value: Any, default: Any = ...) -> None:
        """Refuse all values but one. default: what an absent field means in PyTorch, `value` unless given."""
        self.choice(key, value if default is ... else default, (value,))

    def section(self, key: str, *default: Mapping[str, Any]) -> ConfigReader:
        """Return a reader for a group of fields."""
        value = self.get(key, *default)
        if not isinstance(value, Mapping):
            raise self.error(key, value, "it must be a group of fields")
        return ConfigReader(value, self._kind, f"{self._prefix}{key}.")

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
        self.unsupported(*self.left)


def shown(value: Any) -> str:
    """Return a value of a config for a message: whole if it is short, without its middle or depths if not."""
    return _SHORT.repr(value)


def read_json(
    path: Path, kind: str = "", error: type[MoshiError] = CheckpointError, remedy: str = ""
) -> dict[str, Any]:
    """Read a JSON object, such as a config, from a file. kind, remedy: for the message, such as "the recipe".

    Raises `error`, in one line, for a file that cannot be read or holds anything else.
    """
    name = f"{kind} {path}".lstrip()
    try:
        found = json.loads(path.read_bytes())
    except OSError as cause:
        raise error(f"cannot read {name}: {cause.strerror or cause}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{name} is not JSON: {cause}; {remedy or fetch_again(path)}") from cause
    if not isinstance(found, dict):
        raise error(f"{name} is not a JSON object: a group of fields expected, {type(found).__name__} found")
    if _is_deeper(found, DEEPEST):
        raise error(f"{name} is nested deeper than {DEEPEST} levels; {remedy or fetch_again(path)}")
    return found


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether groups and lists contain each other more than `most` times. Without recursion."""
    level = [value]
    for _ in range(most):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in inside for each in values if isinstance(each, dict | list)]
        if not level:
            return False
    return True
