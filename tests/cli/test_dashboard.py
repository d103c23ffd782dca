"""What the live terminal shows."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from moshi_mlx.cli.dashboard import KEYS, Dashboard, Status, figures, meter, time_bar
from moshi_mlx.session import Reply

CALM = Status(-30.0, -90.0, 20.0, 0.0, 0, 0, "", muted=False)


def reply(text: str) -> Reply:
    return Reply(None, text, 0.0)


def shown(dashboard: Dashboard) -> list[str]:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(dashboard.render())
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)


def test_words_stand_above_the_figures(console: Console) -> None:
    dashboard = Dashboard(lambda: CALM, console)
    for word in (" Hello,", " nice", " to", " meet", " you."):
        dashboard.write(reply(word))
    dashboard.write(reply(""))
    lines = shown(dashboard)
    assert lines[0] == "Hello, nice to meet you."
    assert "mic ████····" in " ".join(lines)
    assert lines[-1] == KEYS


def test_only_the_latest_lines_of_a_long_talk_are_shown(console: Console) -> None:
    dashboard = Dashboard(lambda: CALM, console)
    for index in range(400):
        dashboard.write(reply(f" word{index}"))
    lines = shown(dashboard)
    assert len(lines) <= Dashboard.LINES + 5
    assert any("word399" in line for line in lines)
    assert not any("word1 " in line for line in lines)


def test_all_words_stay_when_it_ends(console: Console) -> None:
    with Dashboard(lambda: CALM, console) as dashboard:
        dashboard.write(reply(" First talk."))
        dashboard.new_conversation()
        dashboard.write(reply(" [bold]Second[/bold] talk."))
    assert isinstance(console.file, io.StringIO)
    left = [line.strip() for line in console.file.getvalue().splitlines()]
    assert sum(line.endswith("First talk.") for line in left) >= 1
    assert left[-1].endswith("[bold]Second[/bold] talk."), "words are no markup"


@pytest.mark.parametrize(("db", "bar"), [(-90, "········"), (-30, "████····"), (0, "████████"), (6, "████████")])
def test_a_level_is_a_bar(db: float, bar: str) -> None:
    assert meter(db) == bar


def test_a_level_of_nothing_is_empty() -> None:
    assert meter(float("-inf")) == meter(float("nan")) == "········"


def test_a_frame_that_takes_all_its_time_is_a_full_bar() -> None:
    assert time_bar(80) == time_bar(300) == "█" * 8
    assert time_bar(40) == "████····"
    assert time_bar(5) == "▄·······"


def test_losses_and_echo_are_shown_when_there_are_any() -> None:
    assert "dropped" not in figures(CALM)
    assert "echo" not in figures(CALM)
    line = figures(replace(CALM, drops=3, underruns=1, echo="cancelling 24 dB", muted=True, lag_ms=160))
    assert "dropped 3, underruns 1" in line
    assert "echo cancelling 24 dB" in line
    assert "mic muted" in line
    assert "lag 160 ms" in line


def test_a_note_takes_the_place_of_the_keys(console: Console) -> None:
    dashboard = Dashboard(lambda: replace(CALM, note="the microphone has gone"), console)
    assert shown(dashboard)[-1] == "the microphone has gone"
