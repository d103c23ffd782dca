"""A running server with the tiny model."""

from collections.abc import Iterator

import pytest

from moshi_mlx.runtime.moshi import Moshi
from tests.web.running import Running


@pytest.fixture(scope="module")
def server(tiny_moshi: Moshi) -> Iterator[Running]:
    """One place."""
    running = Running(tiny_moshi)
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()
