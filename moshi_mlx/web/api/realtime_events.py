"""Events of realtime sessions: what a client sends, as far as it can be read, and what it is sent."""

from __future__ import annotations

import json
import secrets
from typing import Any, Protocol

from moshi_mlx.web.api.errors import ApiError

MAX_EVENT = 256 * 1024  # bytes of an event from a client; 2.5 s of PCM16 as base64 are 160,000
_MAX_NAME = 100  # characters of a client's words that are repeated to it


class Emit(Protocol):
    """Sends an event; audio may be dropped where too much of it waits, and then it returns False."""

    def __call__(self, type: str, /, *, is_audio: bool = False, **fields: Any) -> bool:
        """Send an event of a type with these fields, and an id."""
        ...


def new_id(kind: str) -> str:
    """Return an id for an object of a kind, such as "item"."""
    return f"{kind}_{secrets.token_hex(10)}"


def written(type: str, **fields: Any) -> str:
    """Return an event as it is sent."""
    return json.dumps({"type": type, "event_id": new_id("event"), **fields}, ensure_ascii=False)


def error_event(error: ApiError, event_id: str | None = None) -> str:
    """Return the event that refuses something. event_id: of the client's event, if it gave one."""
    return written("error", error={**error.body, "event_id": event_id})


def read_event(text: str) -> dict[str, Any]:
    """Return a client's event, whose `type` is a text. Raises ApiError for anything else."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "this message is no JSON", code="invalid_json") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ApiError(400, "an event is an object with a `type`", "type", "invalid_event")
    return event


def event_id(event: dict[str, Any]) -> str | None:
    """Return the id that a client gave its event."""
    found = event.get("event_id")
    return found[:_MAX_NAME] if isinstance(found, str) else None


def unknown(type: str, known: list[str]) -> ApiError:
    """Return the refusal of an event of an unknown type."""
    words = f"{type[:_MAX_NAME]!r} is no event that this session takes: it takes {', '.join(known)}"
    return ApiError(400, words, "type", "unknown_event")


def field(event: dict[str, Any], name: str, kind: type, optional: bool = False) -> Any:
    """Return a field of an event. Raises ApiError where it is not of its kind, and missing unless `optional`."""
    value = event.get(name)
    if value is None and optional:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", int: "a whole number", dict: "an object"}[kind]
        raise ApiError(400, f"{name} is {words}", name, "invalid_value")
    return value
