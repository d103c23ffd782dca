"""What is said, and traced, of what changes during a conversation."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moshi_mlx.conversation.observer import EVERY, AudioMonitor, Observer
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.trace import Trace


class Told(Observer):
    """Takes note of everything."""

    def __init__(self) -> None:
        self.drops: list[tuple[float, int, int]] = []
        self.states: list[tuple[float, str]] = []

    def losses(self, time: float, dropped: int, underruns: int) -> None:
        self.drops.append((time, dropped, underruns))

    def echo(self, time: float, control: Any) -> None:
        self.states.append((time, control.state))


class Talk:
    """Devices and echo at will."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.audio = SimpleNamespace(dropped=0, underruns=0, lag=0.2)
        self.control = SimpleNamespace(state="learning")
        self.told = Told()
        duplex: Any = SimpleNamespace(status=lambda: self.audio)
        control: Any = self.control
        self._monitor = AudioMonitor(duplex, control, self.told, trace)
        self._frames = 0

    def go_on(self, frames: int = EVERY) -> None:
        for _ in range(frames):
            self._monitor.write(Reply(None, "", self._frames * 0.08))
            self._frames += 1


def test_losses_are_told_when_there_are_more_and_no_oftener_than_every_second() -> None:
    talk = Talk()
    talk.go_on()
    assert not talk.told.drops
    talk.audio.dropped = 1
    talk.go_on(EVERY - 1)
    talk.audio.dropped, talk.audio.underruns = 3, 1
    talk.go_on(1)
    talk.go_on(3 * EVERY)
    assert talk.told.drops == [(0.08 * (2 * EVERY - 1), 3, 1)]
    talk.audio.underruns = 2
    talk.go_on()
    assert [losses for _, *losses in talk.told.drops] == [[3, 1], [3, 2]]


def test_the_echo_is_told_when_its_state_changes() -> None:
    talk = Talk()
    talk.go_on()
    assert not talk.told.states, "it begins with learning"
    for state in ("cancelling", "cancelling", "lost"):
        talk.control.state = state
        talk.go_on()
    assert [state for _, state in talk.told.states] == ["cancelling", "lost"]


def test_the_trace_has_losses_where_they_happen_and_the_lag_at_every_reply(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json")
    talk = Talk(trace)
    talk.go_on(2)
    talk.audio.dropped = 2
    talk.go_on(1)
    talk.audio.underruns, talk.audio.lag = 1, 0.3
    talk.go_on(2)
    trace.close()
    *events, _ = json.loads((tmp_path / "t.json").read_text())
    assert [event["name"] for event in events] == ["lag", "lag", "dropped", "lag", "underrun", "lag", "lag"]
    assert [event["args"]["ms"] for event in events if event["ph"] == "C"] == [200.0, 200.0, 200.0, 300.0, 300.0]
