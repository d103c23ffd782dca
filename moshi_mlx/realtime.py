"""What MLX and macOS are told while a conversation runs, so that it keeps time."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

CACHE_LIMIT = 512 * 2**20  # bytes of freed buffers kept for reuse; without a limit they pile up for hours
WIRED_MARGIN = 2**30  # bytes beside model and state: activations, the buffer cache, the codec

_USER_INTERACTIVE = 0x21  # QOS_CLASS_USER_INTERACTIVE of <sys/qos.h>


@contextmanager
def steady(held_bytes: int) -> Iterator[None]:
    """Limit the buffer cache, wire the model's memory (Metal), and raise this thread's priority (macOS).

    held_bytes: model and state. Everything is put back at the end. Wiring no more than is needed matters:
    programs that wire all the system recommends are known to freeze the machine.
    """
    cache_limit = mx.set_cache_limit(CACHE_LIMIT)
    wired_limit = mx.set_wired_limit(wired_bytes(held_bytes)) if mx.metal.is_available() else None
    quality = _set_thread_quality(_USER_INTERACTIVE)
    try:
        yield
    finally:
        if quality is not None:
            _set_thread_quality(quality)
        if wired_limit is not None:
            mx.set_wired_limit(wired_limit)
        mx.set_cache_limit(cache_limit)


def wired_bytes(held_bytes: int) -> int:
    """How much to wire: what is held and a margin, but no more than the system recommends."""
    recommended = mx.device_info().get("max_recommended_working_set_size")
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
