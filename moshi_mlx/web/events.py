"""What a server writes about itself: one line an event, `name key=value ...`, with the session it concerns."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

logger = logging.getLogger("moshi_mlx.web")
http_logger = logging.getLogger("moshi_mlx.web.http")
"""For aiohttp, which has a traceback for every stranger who speaks no HTTP."""


def event(name: str, session: str | None = None, level: int = logging.INFO, **fields: object) -> None:
    """Log something that happened. Values with spaces are quoted; None is left out."""
    if logger.isEnabledFor(level):
        pairs = {"session": session, **fields}
        words = [f"{key}={_quoted(value)}" for key, value in pairs.items() if value is not None]
        logger.log(level, " ".join([name, *words]))


def _strangers(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    event("bad_request", level=logging.DEBUG, error=type(error).__name__)
    return False


http_logger.addFilter(_strangers)


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    plain = text and all(character.isprintable() and character not in ' "=' for character in text)
    return text if plain else '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'
