"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import sys
from contextlib import suppress

_MACOS_MOST = 10_240  # OPEN_MAX: macOS refuses more, also where it says that there is no limit
_UNKNOWN = 512  # where the system has no such limit


def raise_limit() -> int:
    """Let this process have as many as the system grants it, and return how many: macOS gives 256 at first."""
    try:
        import resource
    except ImportError:
        return _UNKNOWN
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = hard == resource.RLIM_INFINITY
    wanted = _MACOS_MOST if endless or (sys.platform == "darwin" and hard > _MACOS_MOST) else hard
    with suppress(OSError, ValueError):  # as it was, then
        if limit() < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Return how many this process may have."""
    try:
        import resource
    except ImportError:
        return _UNKNOWN
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MACOS_MOST if soft == resource.RLIM_INFINITY else soft
