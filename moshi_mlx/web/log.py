"""The log of a server: one line an event, `name key=value ...`, with the session it concerns."""

from __future__ import annotations

import logging
import sys
from collections import Counter

from aiohttp.http_exceptions import HttpProcessingError

from moshi_mlx.web.budget import Budget
from moshi_mlx.web.limits import Rate

logger = logging.getLogger("moshi_mlx.web")
http_logger = logging.getLogger("moshi_mlx.web.http")
"""For aiohttp, which has a traceback for every stranger who speaks no HTTP."""

LINES = Rate(5, 200)  # of one name; what strangers do again and again fills no disk
SELDOM = Rate(1 / 60, 1)  # warnings that a burden repeats
_BURDENS = ("crowded", "no_connections")  # names of such
_budgets: dict[str, Budget] = {}
_unsaid: Counter[str] = Counter()


def start_log(quiet: bool) -> None:
    """Print events on stderr. quiet: warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def event(name: str, session: str | None = None, level: int = logging.INFO, **fields: object) -> None:
    """Log something that happened. Values with spaces are quoted; None is left out.

    Of one name there are so many lines a second and no more, one a minute of what a burden repeats; the next says
    how many were left out.
    """
    if logger.isEnabledFor(level):
        rate = SELDOM if name in _BURDENS else LINES
        if not _budgets.setdefault(name, Budget(rate)).spend():
            _unsaid[name] += 1
            return
        pairs = {"session": session, **fields, "unsaid": _unsaid.pop(name, None)}
        words = [f"{key}={_quoted(value)}" for key, value in pairs.items() if value is not None]
        logger.log(level, " ".join([name, *words]))


def forget_lines() -> None:
    """Let the log begin anew: nothing was said."""
    _budgets.clear()
    _unsaid.clear()


def _keep(record: logging.LogRecord) -> bool:
    """Return whether aiohttp's record is worth its traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    event("bad_request", level=logging.DEBUG, error=type(error).__name__)
    return False


http_logger.addFilter(_keep)


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    plain = text and all(character.isprintable() and character not in ' "=' for character in text)
    return text if plain else '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'
