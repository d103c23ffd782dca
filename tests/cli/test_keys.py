"""Keys from a real pseudo-terminal."""

import os
import pty
import queue
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

from moshi_mlx.cli.keys import Keys


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """The two ends of a terminal: where a person types, and what the program reads."""
    person, program = pty.openpty()
    with os.fdopen(program, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield person, stdin
    os.close(person)


def test_keys_arrive_one_by_one_without_enter(terminal) -> None:
    person, stdin = terminal
    pressed: queue.Queue[str] = queue.Queue()
    before = termios.tcgetattr(stdin)
    with Keys(pressed.put):
        os.write(person, b"m q\xc3\xa9")
        assert [pressed.get(timeout=60) for _ in range(4)] == ["m", " ", "q", "é"]
    assert termios.tcgetattr(stdin) == before
    os.write(person, b"x\n")
    assert stdin.readline() == "x\n", "what is typed later is not swallowed"


def test_a_pipe_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    program = textwrap.dedent("""
        import sys
        from moshi_mlx.cli.keys import Keys
        with Keys(print):
            print(sys.stdin.read(), end="")
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], input="abc", capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout, done.stderr) == ("abc", "")


def test_the_terminal_is_restored_after_an_error(terminal) -> None:
    _, stdin = terminal
    before = termios.tcgetattr(stdin)
    keys = Keys(lambda key: None)
    with pytest.raises(KeyError), keys:
        raise KeyError(termios.tcgetattr(stdin) != before)
    assert termios.tcgetattr(stdin) == before
