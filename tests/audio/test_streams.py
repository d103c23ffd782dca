"""Which devices have a clock, told from when their callbacks come; on a made-up clock."""

from collections.abc import Iterator

import pytest

from moshi_mlx.audio.streams import Surplus

HOUR = 3600.0
Callbacks = Iterator[tuple[float, float]]  # (when, seconds of sound)


def steady(block: float, until: float, fast: float = 1.0) -> Callbacks:
    """A block whenever it was spoken; the device's clock is `fast`."""
    return ((index * block / fast, block) for index in range(int(until * fast / block)))


def stalled(length: float) -> Callbacks:
    """Ten seconds of sound, a stall, and what was said meanwhile at once."""
    yield from steady(0.02, 10.0)
    yield from ((10.0 + length, 0.02) for _ in range(int(length / 0.02)))
    yield from ((10.0 + length + when, block) for when, block in steady(0.02, 10.0))


WITH_A_CLOCK = {
    "20 ms": steady(0.02, 60),
    "5 ms": steady(0.005, 60),
    "bursts of two seconds": ((2.0 * (index // 100), 0.02) for index in range(3000)),
    "the first sound two seconds late": ((max(2.0, index * 0.02), 0.02) for index in range(500)),
    "two seconds asked for at once": (
        (0.0 if index < 100 else (index - 100) * 0.02, 0.02) for index in range(500)
    ),
    "a stall of half a second": stalled(0.5),
    "all that PulseAudio can hold": stalled(22.0),
    "a clock a thousandth fast, for a day": steady(0.2, 24 * HOUR, 1.001),
    "a clock a twentieth fast, for an hour": steady(0.02, HOUR, 1.05),
}
WITHOUT = {
    "as fast as the processor can": ((index * 1e-5, 0.02) for index in range(3000)),
    "on a busy machine": ((index * 0.004, 0.02) for index in range(3000)),
    "after a minute of a good one": (
        (index * 0.02 if index < 3000 else 60.0 + (index - 3000) * 1e-4, 0.02) for index in range(5000)
    ),
}


def too_much(callbacks: Callbacks) -> bool:
    surplus = Surplus(0.0)
    return any(surplus.add(seconds, now) for now, seconds in callbacks)


@pytest.mark.parametrize("scene", WITH_A_CLOCK)
def test_a_device_with_a_clock_is_one(scene: str) -> None:
    assert not too_much(WITH_A_CLOCK[scene])


@pytest.mark.parametrize("scene", WITHOUT)
def test_a_device_without_a_clock_is_none(scene: str) -> None:
    assert too_much(WITHOUT[scene])
