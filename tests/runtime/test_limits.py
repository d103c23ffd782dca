"""The limits of MLX and Python while a conversation runs, and after it."""

import sys
from collections.abc import Iterator

import mlx.core as mx
import pytest

from moshi_mlx.runtime.limits import CACHE_LIMIT, SWITCH_INTERVAL, WIRED_MARGIN, process_limits, wired_bytes


def cache_limit() -> int:
    limit = mx.set_cache_limit(0)
    mx.set_cache_limit(limit)
    return limit


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """A machine whose own limit is higher than ours."""
    limit = mx.set_cache_limit(8 * CACHE_LIMIT)
    yield
    mx.set_cache_limit(limit)


def test_the_cache_is_limited_inside_and_as_before_afterwards() -> None:
    before = cache_limit()
    with process_limits(1000):
        assert cache_limit() == CACHE_LIMIT
    assert cache_limit() == before


def test_a_lower_limit_stays() -> None:
    mx.set_cache_limit(1000)
    with process_limits(1000):
        assert cache_limit() == 1000
    assert cache_limit() == 1000


def test_conversations_that_overlap_leave_the_limit_as_it_was() -> None:
    before = cache_limit()
    first, second = process_limits(1000), process_limits(1000)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cache_limit() == CACHE_LIMIT, "one is still talking"
    second.__exit__(None, None, None)
    assert cache_limit() == before


def test_threads_take_turns_sooner_inside() -> None:
    before = sys.getswitchinterval()
    with process_limits(1000), process_limits(1000):
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_limits_are_put_back_after_an_error() -> None:
    before = cache_limit()
    with pytest.raises(KeyboardInterrupt), process_limits(1000):
        raise KeyboardInterrupt
    assert cache_limit() == before


def test_no_more_is_wired_than_needed_or_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 8 * 2**30})
    assert wired_bytes(5 * 2**30) == 5 * 2**30 + WIRED_MARGIN
    assert wired_bytes(16 * 2**30) == 8 * 2**30
    monkeypatch.setattr(mx, "device_info", dict)  # a CPU says nothing
    assert wired_bytes(5) == 5 + WIRED_MARGIN
