"""`mx.compile` for functions that more than one thread may call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, *, shapeless: bool = False) -> F:
    """`function`, fused into few kernels; traced by every thread for itself.

    A trace keeps the streams of the thread that made it, and running it after that thread has ended can abort
    the process (seen in MLX 0.32), so no thread uses another's.
    """
    local = threading.local()

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        run = getattr(local, "run", None)
        if run is None:
            # A new object each time: MLX keeps traces by function.
            run = local.run = mx.compile(functools.partial(function), shapeless=shapeless)
        return run(*arguments)

    return call  # type: ignore[return-value]
