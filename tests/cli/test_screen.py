"""What a person is told of a conversation: on a terminal, in a log, and as events."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from moshi_mlx.audio.echo.control import EchoControl, EchoState
from moshi_mlx.audio.watchdog import DeviceEvent
from moshi_mlx.cli.screen import Screen
from moshi_mlx.conversation.turns import Turn
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stats import Stats
from tests.cli.test_dashboard import CALM


class Stream(io.StringIO):
    """Standard output or error; a terminal if one wants."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Live:
    """Someone whose keys are pressed."""

    def __init__(self) -> None:
        self.muted = False

    def push_to_talk(self) -> bool:
        self.muted = not self.muted
        return not self.muted


def write(screen: Screen, text: str) -> None:
    for sink in screen.sinks:
        sink.write(Reply(None, text, 1.0))


def cancelling(erle: float = 24.4) -> EchoControl:
    control = EchoControl("linear")
    control.state, control.erle = "cancelling", erle
    return control


def events(out: Stream) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_log_has_the_turns_and_what_becomes_of_the_echo() -> None:
    err = Stream(terminal=False)
    screen = Screen(False, False, err)
    screen.turn(Turn("moshi", 3.0, 4.0, "Hello"))
    screen.echo(1.0, cancelling())
    lost = cancelling()
    lost.state = "lost"
    screen.echo(2.0, lost)
    screen.losses(2.0, 3, 1)
    lines = err.getvalue().splitlines()
    assert lines[:2] == ["   0:03  Moshi  Hello", "the echo is attenuated by 24 dB"]
    assert lines[2].startswith("the model hears itself: use headphones")
    assert len(lines) == 3, "losses come so often that the last line of all is enough"


def test_every_state_of_the_echo_can_be_said() -> None:
    err = Stream(terminal=False)
    screen, control = Screen(False, False, err), EchoControl("auto")
    for control.state in set(get_args(EchoState)) - {"off"}:  # it never changes to off
        screen.echo(1.0, control)
    assert len(set(err.getvalue().splitlines())) == 4


def test_events_tell_of_losses_and_of_the_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream(terminal=False)
    monkeypatch.setattr(sys, "stdout", out)
    screen = Screen(True, True, Stream(terminal=False))
    screen.losses(2.0, 3, 1)
    screen.echo(2.96, cancelling())
    assert events(out) == [
        {"event": "drops", "t": 2.0, "dropped": 3, "underruns": 1},
        {"event": "echo", "t": 2.96, "state": "cancelling", "erle_db": 24.4},
    ]


@pytest.mark.parametrize("same", [False, True])
def test_events_on_the_same_terminal_are_torn_by_nothing(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    out, err = Stream(terminal=same), Stream(terminal=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    screen = Screen(True, False, err)
    with screen.shown(lambda: pytest.fail("there is no display") if same else CALM, SimpleNamespace(), {}):  # pyright: ignore
        write(screen, " Hello")
        screen.turn(Turn("moshi", 1.0, 2.0, "Hello"))
    assert ("Hello" in err.getvalue()) is not same
    assert events(out) == [
        {"event": "text", "t": 1.0, "text": " Hello"},
        {"event": "turn", "speaker": "moshi", "t": 1.0, "end": 2.0},
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_keeps_back_neither_notes_nor_what_becomes_of_a_device(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    out, err = Stream(terminal=False), Stream(terminal)
    monkeypatch.setattr(sys, "stdout", out)
    screen = Screen(True, True, err)
    screen.say("loading")
    screen.state("ready")
    assert err.getvalue() == ""
    screen.note("all zeros")
    screen.device_event(DeviceEvent("lost", "the microphone has gone"))
    assert err.getvalue() == "note: all zeros\nthe microphone has gone\n"
    assert events(out)[1:] == [
        {"event": "note", "text": "all zeros"},
        {"event": "device", "kind": "lost", "message": "the microphone has gone"},
    ]


def test_push_to_talk_opens_and_closes_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream(terminal=False)
    monkeypatch.setattr(sys, "stdout", out)
    screen, live = Screen(True, False, Stream(terminal=False)), Live()
    live.muted = True
    for _ in range(3):
        screen._pressed(" ", live, {})  # pyright: ignore[reportArgumentType]
    assert [event["state"] for event in events(out)] == ["listening", "muted", "listening"]


def test_other_keys_do_what_they_were_given() -> None:
    err = Stream(terminal=False)
    screen = Screen(False, False, err)
    for key in "sxs":
        screen._pressed(key, Live(), {"s": lambda: "kept"})  # pyright: ignore[reportArgumentType]
    assert err.getvalue() == "kept\nkept\n"


def test_a_warning_in_a_log_is_a_line() -> None:
    err = Stream(terminal=False)
    Screen(False, False, err).state("loop")
    assert err.getvalue().startswith("Moshi repeats itself")


@pytest.mark.parametrize(
    ("interrupted", "save", "says"),
    [
        (True, None, "nothing of it is kept (--keep keeps a conversation)"),
        (True, Path("talk"), "all that was said is kept"),
        (False, None, ""),
    ],
)
def test_ctrl_c_says_what_becomes_of_the_conversation(interrupted: bool, save: Path | None, says: str) -> None:
    err = Stream(terminal=False)
    Screen(False, False, err).end(Stats(), {"dropped": 0, "underruns": 0}, 1, interrupted, save)
    told = [line for line in err.getvalue().splitlines() if line.startswith("interrupted")]
    assert told == ([f"interrupted: the conversation has ended, and {says}"] if says else [])
