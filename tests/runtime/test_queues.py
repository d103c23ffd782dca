"""Queues between threads: bounded, closable without loss, counting what they drop."""

import threading
import time

import pytest

from moshi_mlx.runtime.flow import BoundedQueue, QueueClosed


def in_thread(function) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_items_arrive_in_order_and_closing_loses_none_even_when_full() -> None:
    queue: BoundedQueue[int] = BoundedQueue(3)
    for item in range(3):
        queue.put(item)
    queue.close()
    assert list(queue) == [0, 1, 2]


def test_a_full_queue_makes_the_writer_wait() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    written: list[int] = []

    def write() -> None:
        for item in range(5):
            queue.put(item)
            written.append(item)
        queue.close()

    writer = in_thread(write)
    while len(written) < 2:
        time.sleep(0.001)
    writer.join(0.05)
    assert writer.is_alive()
    assert written == [0, 1]
    assert list(queue) == [0, 1, 2, 3, 4]
    assert queue.deepest == 2
    assert queue.dropped == 0


def test_drop_oldest_makes_room_and_counts() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, drop_oldest=True)
    for item in range(5):
        queue.put(item)
    queue.close()
    assert list(queue) == [3, 4]
    assert queue.dropped == 3


def test_closing_wakes_a_waiting_reader() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    items: list[int] = []
    reader = in_thread(lambda: items.extend(queue))
    reader.join(0.02)
    assert reader.is_alive()
    queue.close()
    reader.join(60)
    assert not reader.is_alive()


def test_abandoning_wakes_a_waiting_writer_with_an_error() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put(0)
    raised: list[bool] = []

    def write() -> None:
        with pytest.raises(QueueClosed):
            queue.put(1)
        raised.append(True)

    writer = in_thread(write)
    queue.abandon()
    writer.join(60)
    assert raised == [True]
    assert list(queue) == []
