"""Waking a thread from an audio callback."""

import contextlib
import threading


class Doorbell:
    """Wakes one thread from a place that must never wait, such as an audio callback.

    A Condition would not do: whoever notifies must first get its lock, and may have to wait for a thread that was
    put aside while holding it. Many rings before the thread wakes are one.
    """

    def __init__(self) -> None:
        self._closed_door = threading.Lock()
        self._closed_door.acquire()

    def ring(self) -> None:
        """Let the waiting thread go on, or the next that waits. Callable from anywhere."""
        with contextlib.suppress(RuntimeError):  # it has rung already and nobody has come yet
            self._closed_door.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring, at most `seconds`. Returns whether it rang."""
        return self._closed_door.acquire(timeout=-1 if seconds is None else max(0.0, seconds))
