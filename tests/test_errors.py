"""What people are told is one line, whatever is named in it."""

import pickle

import pytest

from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.models.config_reader import ConfigReader


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\x1b[1mb", r"a\r\x1b[1mb"),
        ("a\u2028b", r"a\u2028b"),
        ("größe 12\u00a0MB", "größe 12\u00a0MB"),
    ],
)
def test_a_message_is_one_line(named: str, shown: str) -> None:
    error = MoshiError(f"{named} is missing")
    assert str(error) == f"{shown} is missing"
    assert str(pickle.loads(pickle.dumps(error))) == f"{shown} is missing"


def test_a_field_that_nobody_knows_is_named_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^config field '\\n' is True; this is not supported$"):
        ConfigReader({"\n": True}).finish()
