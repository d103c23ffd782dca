"""The messages of /api/chat: one byte for the kind, then the content. Source: Kyutai's rust/protocol.md."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

DEFAULT_PORT = 8998  # of Kyutai's servers, and what their clients try
MAX_MESSAGE = 64 * 1024  # bytes


class Kind(IntEnum):
    """The first byte of a message."""

    HANDSHAKE = 0
    AUDIO = 1
    TEXT = 2
    CONTROL = 3
    METADATA = 4
    ERROR = 5
    PING = 6


RESTART = 3  # the control that asks for a new conversation

HANDSHAKE = bytes([Kind.HANDSHAKE])
PING = bytes([Kind.PING])


def audio(payload: bytes) -> bytes:
    """Return a message of audio, its payload written by an `AudioWire`."""
    return bytes([Kind.AUDIO]) + payload


def text(piece: str) -> bytes:
    """Return a message of a piece of the inner monologue."""
    return bytes([Kind.TEXT]) + piece.encode()


def error(reason: str) -> bytes:
    """Return a message that says why the server ends the conversation."""
    return bytes([Kind.ERROR]) + reason.encode()


def metadata(**fields: Any) -> bytes:
    """Return a message of JSON for our own page; docs/serve.md lists the fields."""
    return bytes([Kind.METADATA]) + json.dumps(fields).encode()
