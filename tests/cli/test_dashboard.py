"""What the live terminal shows."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from moshi_mlx.cli.dashboard import KEYS, Dashboard, Figures, lines, meter, time_bar
from moshi_mlx.runtime.session import Reply

CALM = Figures(-30.0, -90.0, 20.0, 0.0, 0, 0, "", muted=False)


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
    seen = shown(dashboard)
    assert seen[0] == "Hello, nice to meet you."
    assert "mic ████····" in " ".join(seen)
    assert seen[-1] == KEYS


def test_only_the_latest_lines_of_a_long_talk_are_shown(console: Console) -> None:
    dashboard = Dashboard(lambda: CALM, console)
    for index in range(400):
        dashboard.write(reply(f" word{index}"))
    seen = shown(dashboard)
    assert len(seen) <= Dashboard.LINES + 5
    assert any("word399" in line for line in seen)
    assert not any("word1 " in line for line in seen)


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
    assert len(lines(CALM)) == 1
    levels, trouble = lines(replace(CALM, drops=3, underruns=1, echo="cancelling 24 dB", muted=True, lag_ms=160))
    assert trouble == "dropped 3, underruns 1   echo cancelling 24 dB"
    assert "mic muted" in levels
    assert "lag 160 ms" in levels


@pytest.mark.parametrize("muted", [False, True])
def test_every_line_fits_80_columns_and_stays_where_it_is(muted: bool) -> None:
    worst = Figures(0.0, 0.0, 1234.0, 4321.0, 99_999, 99_999, "cancelling 40 dB", muted)
    assert max(map(len, lines(worst))) <= 80
    assert len(lines(worst)[0]) - len(lines(CALM)[0]) <= 3
    assert lines(CALM)[0].index("moshi") == lines(replace(CALM, muted=True))[0].index("moshi")


def test_a_narrow_terminal_cuts_the_figures_and_not_the_words() -> None:
    narrow = Console(file=io.StringIO(), width=24, force_terminal=True, color_system=None)
    dashboard = Dashboard(lambda: CALM, narrow)
    dashboard.write(reply(" All of these words are to be read."))
    with narrow.capture() as captured:
        narrow.print(dashboard.render())
    left = [line.rstrip() for line in captured.get().splitlines()]
    assert " ".join(left[:2]) == "All of these words are to be read."
    assert left[3].endswith("…")
    assert " ".join(left[4:]).split() == KEYS.split(), "the keys are to be read, too"


def test_an_hour_of_words_is_not_wrapped_ten_times_a_second(console: Console) -> None:
    dashboard = Dashboard(lambda: CALM, console)
    whole = Dashboard(lambda: CALM, console)
    for index in range(1000):
        dashboard.write(reply(f" word{index}"))
        whole.write(reply(f" word{index}"))
        if index % 20 == 0:
            shown(dashboard)  # as the screen is redrawn from time to time
    assert len(dashboard._latest) < 3 * Dashboard.LINES * 60
    assert shown(dashboard) == shown(whole), "lines break where they would have"


def test_a_note_takes_the_place_of_the_keys(console: Console) -> None:
    dashboard = Dashboard(lambda: replace(CALM, note="the microphone has gone"), console)
    assert shown(dashboard)[-1] == "the microphone has gone"
