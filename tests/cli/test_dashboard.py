"""What the live terminal shows."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from moshi_mlx.cli import dashboard as dashboard_module
from moshi_mlx.cli.dashboard import ALL_KEYS, KEYS, Dashboard, Figures, lines, meter, status, time_bar
from moshi_mlx.conversation.turns import Turn


def audio(**changes: Any) -> Any:
    """The audio of a calm conversation, but for some changes."""
    calm = {"input_level": -30.0, "output_level": -90.0, "lag": 0.0, "muted": False, "lost": [], "volume": 1.0}
    return SimpleNamespace(**calm | {"dropped": 0, "underruns": 0} | changes)


CALM = Figures(audio(), 20.0, "")


def shown(dashboard: Dashboard) -> list[str]:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(dashboard.render())
    return [line.rstrip() for line in captured.get().splitlines()]


def drawn(dashboard: Dashboard, console: Console) -> str:
    """The same with its control codes."""
    with console.capture() as captured:
        console.print(dashboard.render())
    return captured.get()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)


def test_the_words_of_the_turn_at_hand_stand_above_the_figures(console: Console) -> None:
    seen = shown(Dashboard(lambda: replace(CALM, words="Hello, nice to meet you."), console))
    assert seen[0].split(maxsplit=1) == ["Moshi", "Hello, nice to meet you."]
    assert "mic ████····" in " ".join(seen)
    assert seen[-1] == KEYS


def test_only_the_latest_lines_of_a_long_turn_are_shown(console: Console) -> None:
    words = " ".join(f"word{index}" for index in range(4000))
    seen = shown(Dashboard(lambda: replace(CALM, words=words), console))
    assert len(seen) <= Dashboard.WORDS + 5
    assert any("word3999" in line for line in seen)
    assert not any("word1 " in line for line in seen)


def test_every_turn_stays_in_a_block_of_its_own(console: Console) -> None:
    with Dashboard(lambda: CALM, console) as dashboard:
        dashboard.turn(Turn("user", 2.0, 3.5))
        words = "The capital [bold]of[/bold] France is Paris, " + "and " * 20
        dashboard.turn(Turn("moshi", 64.0, 66.0, words, True))
    assert isinstance(console.file, io.StringIO)
    left = [line.strip() for line in re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", console.file.getvalue()).splitlines()]
    assert any(line.split() == ["0:02", "you", "(1.5", "s)"] for line in left)
    assert any(line.split()[:4] == ["1:04", "Moshi", "The", "capital"] for line in left)
    assert any("[bold]of[/bold]" in line for line in left), "words are no markup"
    assert "— interrupted" in " ".join(" ".join(left).split())


def test_a_terminal_that_became_narrower_shows_the_display_once(console: Console) -> None:
    dashboard = Dashboard(lambda: CALM, console)
    assert "\x1b[1A" not in drawn(dashboard, console)
    wrapped = sum((len(line) - 1) // 30 for line in shown(dashboard) if line)
    console.width = 30
    assert drawn(dashboard, console).count("\x1b[1A") == wrapped >= 2
    assert "\x1b[1A" not in drawn(dashboard, console)


@pytest.mark.parametrize(
    ("speaking", "muted", "push", "said"),
    [
        ((), False, False, "listening"),
        (("user",), False, False, "hears you"),
        (("moshi",), True, False, "Moshi speaks"),
        (("user", "moshi"), False, False, "hears you, and speaks"),
        ((), True, False, "muted"),
        ((), True, True, "push space and speak"),
        ((), False, True, "speak, then push space"),
    ],
)
def test_who_speaks_is_said(speaking: Any, muted: bool, push: bool, said: str) -> None:
    assert status(replace(CALM, audio=audio(muted=muted), speaking=speaking, push_to_talk=push)) == said


def test_a_warning_goes_with_time_or_with_its_reason(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(dashboard_module.time, "monotonic", lambda: now[0])
    dashboard = Dashboard(lambda: CALM, console)
    dashboard.warn("Moshi repeats itself")
    assert "Moshi repeats itself" in shown(dashboard)
    now[0] += 11.0
    assert "Moshi repeats itself" not in shown(dashboard)
    dashboard.warn("Moshi repeats itself")
    dashboard.calm()
    assert "Moshi repeats itself" not in shown(dashboard)


def test_all_keys_are_shown_when_asked_for(console: Console) -> None:
    wide = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    dashboard = Dashboard(lambda: CALM, wide)
    dashboard.toggle_help()
    with wide.capture() as captured:
        wide.print(dashboard.render())
    assert [line.rstrip() for line in captured.get().splitlines()][-len(ALL_KEYS) :] == [*ALL_KEYS]
    dashboard.toggle_help()
    assert shown(dashboard)[-1] == KEYS


@pytest.mark.parametrize(("db", "bar"), [(-90, "········"), (-30, "████····"), (0, "████████"), (6, "████████")])
def test_a_level_is_a_bar(db: float, bar: str) -> None:
    assert meter(db) == bar


def test_a_level_of_nothing_is_empty() -> None:
    assert meter(float("-inf")) == meter(float("nan")) == "········"


def test_a_frame_that_takes_all_its_time_is_a_full_bar() -> None:
    assert time_bar(80) == time_bar(300) == "█" * 8
    assert time_bar(40) == "████····"
    assert time_bar(5) == "▄·······"


def test_losses_echo_and_volume_are_shown_when_there_are_any() -> None:
    assert lines(replace(CALM, seconds=75.0))[0] == "1:15   listening"
    lost = audio(dropped=3, underruns=1, muted=True, lag=0.16, volume=0.5)
    first, levels = lines(Figures(lost, 20.0, "cancelling 24 dB"))
    assert first == "0:00   muted   dropped 3, underruns 1   echo cancelling 24 dB   volume 50%"
    assert "mic muted" in levels
    assert "lag 160 ms" in levels


@pytest.mark.parametrize("muted", [False, True])
def test_every_line_fits_80_columns_and_stays_where_it_is(muted: bool) -> None:
    loud = audio(input_level=0.0, output_level=0.0, lag=4.321, dropped=99_999, underruns=99_999, muted=muted)
    worst = Figures(loud, 1234.0, "cancelling 40 dB")
    assert max(map(len, lines(worst))) <= 80
    assert len(lines(worst)[1]) - len(lines(CALM)[1]) <= 3
    assert lines(CALM)[1].index("moshi") == lines(replace(CALM, audio=audio(muted=True)))[1].index("moshi")


def test_a_narrow_terminal_cuts_the_figures_and_not_the_words() -> None:
    narrow = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    dashboard = Dashboard(lambda: replace(CALM, words="All of these words are to be read."), narrow)
    with narrow.capture() as captured:
        narrow.print(dashboard.render())
    left = [line.strip() for line in captured.get().splitlines()]
    assert " ".join(left[:2]) == "Moshi   All of these words are to be read."
    assert any(line.endswith("…") for line in left[3:])


def test_advice_stands_above_the_keys_and_a_lost_device_takes_its_place(console: Console) -> None:
    advised = replace(CALM, advice="use headphones")
    assert shown(Dashboard(lambda: advised, console))[-2:] == ["use headphones", KEYS]
    lost = replace(advised, audio=audio(lost=["microphone", "speaker"]))
    assert shown(Dashboard(lambda: lost, console))[-2] == "microphone and speaker lost, waiting for it"
