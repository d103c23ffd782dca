"""The log of a server: one line an event, `name key=value ...`, with the session it concerns."""

from __future__ import annotations

import logging
import sys

from aiohttp.http_exceptions import HttpProcessingError

logger = logging.getLogger("moshi_mlx.web")
http_logger = logging.getLogger("moshi_mlx.web.http")
"""For aiohttp, which has a traceback for every stranger who speaks no HTTP."""


def start_log(quiet: bool) -> None:
    """Print events on stderr. quiet: warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def event(name: str, session: str | None = None, level: int = logging.INFO, **fields: object) -> None:
    """Log something that happened. Values with spaces are quoted; None is left out."""
    if logger.isEnabledFor(level):
        pairs = {"session": session, **fields}
        words = [f"{key}={_quoted(value)}" for key, value in pairs.items() if value is not None]
        logger.log(level, " ".join([name, *words]))


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
