"""The messages of /api/chat: a byte for the kind, then what belongs to it. Source: Kyutai's rust/protocol.md.

Audio is Ogg/Opus for Kyutai's clients, or float32 samples as they are (`audio=pcm`) for our own page: on a local
network that saves the delay of the codec, and every browser can do it.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

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


RESTART = 3  # of the controls: forget the conversation and begin a new one

HANDSHAKE = bytes([Kind.HANDSHAKE])
PING = bytes([Kind.PING])


def text(piece: str) -> bytes:
    """A piece of the inner monologue."""
    return bytes([Kind.TEXT]) + piece.encode()


def error(reason: str) -> bytes:
    """Why the server ends the conversation."""
    return bytes([Kind.ERROR]) + reason.encode()


def metadata(**fields: Any) -> bytes:
    """JSON, for our own page."""
    return bytes([Kind.METADATA]) + json.dumps(fields).encode()


class AudioWire(Protocol):
    """How audio is written in the messages of one client."""

    name: str

    def read(self, payload: bytes) -> np.ndarray:
        """(n,) float32 at 24 kHz of one message, whatever its bytes are; n may be 0.

        Raises ProtocolError for far too much.
        """
        ...

    def write(self, pcm: np.ndarray) -> bytes:
        """The payload for one frame, (1920,) float32."""
        ...


class PcmWire:
    """float32 samples, little endian, 24 kHz, mono."""

    name = "pcm"

    def read(self, payload: bytes) -> np.ndarray:
        return np.frombuffer(payload[: len(payload) // 4 * 4], dtype="<f4").astype(np.float32)

    def write(self, pcm: np.ndarray) -> bytes:
        return pcm.astype("<f4", copy=False).tobytes()
