"""A running server with the tiny model."""

from collections.abc import Iterator

import pytest

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web import log
from tests.web.running import Running


@pytest.fixture(scope="module")
def server(tiny_moshi: Moshi) -> Iterator[Running]:
    """One place."""
    running = Running(tiny_moshi)
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    """What other tests made the log say takes no lines from this one."""
    log.forget_lines()
