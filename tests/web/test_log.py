"""The log: one line an event, whatever a client writes into it."""

import logging

import pytest

from moshi_mlx.web.log import event


def test_an_event_is_one_line_of_words_and_pairs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "moshi_mlx.web"):
        event("left", "ab12", seconds=1.23456, frames=7, reason=None, query='a b="c"\nleft session=fake', empty="")
    (record,) = caplog.records
    assert record.getMessage() == (
        'left session=ab12 seconds=1.235 frames=7 query="a b=\\"c\\"\\nleft session=fake" empty=""'
    )
