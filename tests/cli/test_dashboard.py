"""What the live terminal shows."""

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from moshi_mlx.cli.dashboard import KEYS, Dashboard, Figures, lines, meter, time_bar
from moshi_mlx.runtime.session import Reply


def audio(**changes: Any) -> Any:
    """The audio of a calm conversation, but for some changes."""
    calm = {"input_level": -30.0, "output_level": -90.0, "lag": 0.0, "muted": False, "lost": []}
    return SimpleNamespace(**calm | {"dropped": 0, "underruns": 0} | changes)


CALM = Figures(audio(), 20.0, "")


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
    levels, trouble = lines(Figures(audio(dropped=3, underruns=1, muted=True, lag=0.16), 20.0, "cancelling 24 dB"))
    assert trouble == "dropped 3, underruns 1   echo cancelling 24 dB"
    assert "mic muted" in levels
    assert "lag 160 ms" in levels


@pytest.mark.parametrize("muted", [False, True])
def test_every_line_fits_80_columns_and_stays_where_it_is(muted: bool) -> None:
    loud = audio(input_level=0.0, output_level=0.0, lag=4.321, dropped=99_999, underruns=99_999, muted=muted)
    worst = Figures(loud, 1234.0, "cancelling 40 dB")
    assert max(map(len, lines(worst))) <= 80
    assert len(lines(worst)[0]) - len(lines(CALM)[0]) <= 3
    assert lines(CALM)[0].index("moshi") == lines(replace(CALM, audio=audio(muted=True)))[0].index("moshi")


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


def test_advice_takes_the_place_of_the_keys_and_a_lost_device_that_of_advice(console: Console) -> None:
    advised = replace(CALM, advice="use headphones")
    assert shown(Dashboard(lambda: advised, console))[-1] == "use headphones"
    lost = replace(advised, audio=audio(lost=["microphone", "speaker"]))
    assert shown(Dashboard(lambda: lost, console))[-1] == "microphone and speaker lost, waiting for it"
