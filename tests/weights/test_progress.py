"""Progress, drawn or told."""

import pytest

from moshi_mlx.weights.progress import progress_bar


def test_a_bar_is_drawn_on_stderr_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted, drawn in ((None, False), (False, False), (True, True)):  # stderr is no terminal here
        with progress_bar("reading", 10, wanted) as advance:
            advance(4)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("reading" in err) == drawn


def test_the_share_that_is_done_can_be_told_instead() -> None:
    told: list[float] = []
    with progress_bar("reading", 10, told.append) as advance:
        advance(4)
        advance(6)
    assert told == [0.4, 1.0]
