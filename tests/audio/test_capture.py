"""Samples from a callback to a thread: in order, never waiting, losses counted."""

import threading

import numpy as np
import pytest

from moshi_mlx.audio.capture import SampleRing, Wakeup


@pytest.mark.parametrize("blocks", [[480] * 20, [1, 7, 1023, 480, 2, 333] * 5])
def test_samples_come_out_in_the_order_they_went_in_whatever_the_blocks(blocks: list[int]) -> None:
    ring = SampleRing(1500)
    sent = np.arange(sum(blocks), dtype=np.float32)
    received = []
    start = 0
    for block in blocks:
        ring.write(sent[start : start + block])
        start += block
        received.append(ring.read())
    np.testing.assert_array_equal(np.concatenate(received), sent)
    assert ring.lost == 0


def test_what_the_reader_leaves_too_long_is_lost_and_counted() -> None:
    ring = SampleRing(100)
    for start in range(0, 1000, 50):
        ring.write(np.arange(start, start + 50, dtype=np.float32))
    assert ring.available == 100
    np.testing.assert_array_equal(ring.read(), np.arange(900, 1000))
    assert ring.lost == 900
    assert ring.available == 0


def test_skipping_forgets_the_oldest() -> None:
    ring = SampleRing(100)
    ring.write(np.arange(10, dtype=np.float32))
    assert ring.skip(4) == 4
    out = np.full(8, -1, dtype=np.float32)
    assert ring.read_into(out) == 6
    np.testing.assert_array_equal(out, [4, 5, 6, 7, 8, 9, -1, -1])
    assert ring.skip(1) == 0


def test_a_wakeup_that_is_set_twice_wakes_one_waiter_once() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert wakeup.wait(0)
    assert not wakeup.wait(0)
    woken = []
    thread = threading.Thread(target=lambda: woken.append(wakeup.wait(60)), daemon=True)
    thread.start()
    wakeup.set()
    thread.join(60)
    assert woken == [True]
