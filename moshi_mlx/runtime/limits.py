"""What MLX, Python and macOS are told while a conversation runs, so that it keeps time."""

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

CACHE_LIMIT = 512 * 2**20  # bytes of freed buffers kept for reuse; without a limit they pile up for hours
SWITCH_INTERVAL = 0.001  # seconds a thread keeps the interpreter; Python's 5 ms are a quarter of an audio block
WIRED_MARGIN = 2**30  # bytes beside model and state: activations, the buffer cache, the codec

_USER_INTERACTIVE = 0x21  # QOS_CLASS_USER_INTERACTIVE of <sys/qos.h>


@contextmanager
def process_limits(held_bytes: int) -> Iterator[None]:
    """Limit the buffer cache, wire the model's memory (Metal), raise this thread's priority (macOS), and let
    threads, so also the audio's callbacks, take turns more often.

    held_bytes: model and state. The limits belong to the process: the first conversation sets them, the last one
    to end puts them back. Wiring no more than is needed matters: programs that wire all the system recommends are
    known to freeze the machine.
    """
    _limits.enter(held_bytes)
    quality = _set_thread_quality(_USER_INTERACTIVE)
    try:
        yield
    finally:
        if quality is not None:
            _set_thread_quality(quality)
        _limits.leave()


def give_back() -> None:
    """Let the system have the memory of arrays that nobody needs any more; on the thread that owns MLX."""
    gc.collect()  # parts of a model refer to each other
    mx.clear_cache()


class _Limits:
    """The process's limits, and how many conversations want them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: tuple[int, int | None, float] = 0, None, 0.0

    def enter(self, held_bytes: int) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            cache = mx.set_cache_limit(CACHE_LIMIT)
            if cache < CACHE_LIMIT:  # somebody wants less
                mx.set_cache_limit(cache)
            wired = mx.set_wired_limit(wired_bytes(held_bytes)) if mx.metal.is_available() else None
            self._before = cache, wired, sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            cache, wired, interval = self._before
            sys.setswitchinterval(interval)
            mx.set_cache_limit(cache)
            if wired is not None:
                mx.set_wired_limit(wired)


_limits = _Limits()


def wired_bytes(held_bytes: int) -> int:
    """How much to wire: what is held and a margin, but no more than the system recommends."""
    # Older MLX keeps it in mx.metal.
    info = mx.device_info() if hasattr(mx, "device_info") else mx.metal.device_info()
    recommended = info.get("max_recommended_working_set_size")
    wanted = held_bytes + WIRED_MARGIN
    return min(wanted, int(recommended)) if recommended else wanted


def _set_thread_quality(quality: int) -> int | None:
    """Set the calling thread's quality of service; returns what it was, None where there is no such thing."""
    if sys.platform != "darwin":
        return None
    system = ctypes.CDLL(None)
    before = system.qos_class_self()
    system.pthread_set_qos_class_self_np(quality, 0)  # best effort: it is refused to some threads
    return before
