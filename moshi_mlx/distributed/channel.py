"""Messages between two processes over TCP: a line of JSON each. Also how one learns that the other has ended.

A wait for a message costs nothing, while one in MLX's ring costs a core. A process that dies closes its end; of a
machine that is gone the system's keep-alive tells after a few seconds.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

GONE_AFTER = 5  # seconds without a sign of life from the other machine
LONGEST = 1 << 20  # bytes of a message
_RETRANSMISSION_LIMIT = (  # of data that nobody acknowledges: Linux takes milliseconds, macOS seconds
    ("linux", getattr(socket, "TCP_USER_TIMEOUT", 18), 1000 * GONE_AFTER),
    ("darwin", 0x80, GONE_AFTER),
)


class Channel:
    """One end of a connection. Any thread may send, one may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""  # what came of the next message
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        for option, value in (
            (idle, 1),
            (getattr(socket, "TCP_KEEPINTVL", None), 1),
            (getattr(socket, "TCP_KEEPCNT", None), GONE_AFTER - 1),
        ):
            if option is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        for system, option, value in _RETRANSMISSION_LIMIT:
            if sys.platform == system:
                with suppress(OSError):  # an older system
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises OSError where the other has gone."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give messages as they come, until the other has gone."""
        with suppress(OSError):  # cut off, or closed here
            while len(self._read) < LONGEST and (piece := self._connection.recv(1 << 16)):
                *lines, self._read = (self._read + piece).split(b"\n")
                yield from map(json.loads, lines)

    def close(self) -> None:
        """Close this end; whoever receives here stops."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
