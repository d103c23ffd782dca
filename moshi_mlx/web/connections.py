"""Connections: so many at once and no more, none of which may stay without asking for something.

A listening socket of ours in place of asyncio's: that one spins, a traceback for each try, when descriptors run
out, and neither counts nor ends connections that are in the middle of a TLS handshake.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from moshi_mlx.web.budget import Budget, Budgets
from moshi_mlx.web.descriptors import limit
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.log import event

_BACKLOG = 128
_TRIES = 8  # ports that are tried where any will do
_AT_ONCE = 16  # connections taken before others' work goes on
_PAUSE = 1.0  # seconds in which none is taken, when descriptors have run out
_BREATH = 0.02  # seconds in which none is taken after some were turned away: that takes time, too
_RESERVED = 96  # descriptors for all that is no connection: the model's files, pipes of the codec
_SEGMENT = 512  # bytes that a piece of data counts at least: its way up costs more than its bytes


class Connections:
    """Takes connections for the protocols that `make` gives; all on one event loop.

    most: connections at once, within `limits` and the descriptors of this process.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], limits: Limits, most: int | None = None) -> None:
        room = max(16, limit() - _RESERVED)
        self.most = min(limits.connections, room) if most is None else most
        self.most_of_one = min(limits.connections_of_one, max(1, self.most * 3 // 4))
        self._make, self._limits = make, limits
        self._listeners: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._coming = Budgets(limits.coming)
        self._links: dict[asyncio.Protocol, Link] = {}
        self._idle: dict[Link, None] = {}  # who has asked for nothing, or not again: the longest first
        self._of_source: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._links)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Take connections at all addresses of `host`, and return the port. Raises OSError or OverflowError."""
        self._tls = tls
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for tries_left in reversed(range(_TRIES if port == 0 else 1)):
            try:
                self._bind(list(dict.fromkeys(found)), port)
                break
            except OSError as error:
                for listener in self._listeners:
                    listener.close()
                self._listeners = []
                # The port that was free at the first address may be taken at the next one.
                if error.errno != errno.EADDRINUSE or not tries_left:
                    raise
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)
        return self.port

    def _bind(self, addresses: list[Any], port: int) -> None:
        """Listen at all of these addresses, as of `getaddrinfo`, that the system has. Raises OSError."""
        errors: list[OSError] = []
        for family, kind, protocol, _, address in addresses:
            if self._listeners and port == 0:  # the same for all
                address = (address[0], self.port, *address[2:])
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as error:  # a family that the system does not have
                errors.append(error)
                continue
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setblocking(False)
                listener.bind(address)
                listener.listen(_BACKLOG)
            except OSError as error:
                listener.close()
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                errors.append(error)
                continue
            self._listeners.append(listener)
        if not self._listeners:
            raise errors[0]

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listeners[0].getsockname()[1]

    def close(self) -> None:
        """Take no more, and end those that ask for nothing."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners = []
        for link in list(self._idle):
            link.abort()

    def abort(self) -> None:
        """End all."""
        for link in list(self._links.values()):
            link.abort()

    def of(self, protocol: Any) -> Link | None:
        """Return the connection of a protocol, None if it has ended."""
        return self._links.get(protocol)

    # Of a link.

    def busy(self, link: Link) -> None:
        """Note that a connection has asked for something."""
        self._idle.pop(link, None)

    def idle(self, link: Link) -> None:
        """Note that a connection has its answer."""
        if link.protocol in self._links:
            self._idle[link] = None

    def left(self, link: Link) -> None:
        """Note that a connection has ended."""
        if link.protocol in self._links:
            del self._links[link.protocol]
            self._idle.pop(link, None)
            self._of_source[link.source] -= 1
            if not self._of_source[link.source]:
                del self._of_source[link.source]

    def _accept(self, listener: socket.socket) -> None:
        turned_away = False
        for _ in range(_AT_ONCE):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                event("no_connections", level=logging.WARNING, error=error.strerror or error, open=self.open)
                self._pause(listener, _PAUSE)
                return
            source = source_of(address[0])
            crowded = None if self._coming[source].spend() else "too many connections a second"
            if crowded := crowded or self._make_room(source):
                accepted.close()
                event("crowded", level=logging.WARNING, remote=source, open=self.open, why=crowded)
                turned_away = True
                continue
            link = Link(self._make(), self, self._limits, source)
            self._links[link.protocol] = link
            self._idle[link] = None
            self._of_source[source] += 1
            link.begin(accepted, self._tls)
        if turned_away:
            self._pause(listener, _BREATH)

    def _make_room(self, source: str) -> str | None:
        """Return why one more of a source may not come; the longest idle one gives way to it."""
        if self._of_source[source] >= self.most_of_one:
            longest = next((link for link in self._idle if link.source == source), None)
        elif self.open >= self.most:
            longest = next(iter(self._idle), None)
        else:
            return None
        if longest is None:
            return "too many connections"
        longest.abort()
        return None

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(seconds, self._again, listener)

    def _again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)


class Link(asyncio.Protocol):
    """One connection: a protocol, and for how long and how fast it may go on.

    source: whose it is, as of `source_of`. flooded: called once, when more comes than any stream may have.
    lost: called when it ends.
    """

    def __init__(self, protocol: asyncio.Protocol, connections: Connections, limits: Limits, source: str) -> None:
        self.protocol, self.source = protocol, source
        self.flooded: Callable[[], None] = self.abort
        self.lost: Callable[[], None] | None = None
        self._expected = 0  # bytes that may come beside the budget
        self._connections, self._limits = connections, limits
        self._budget = Budget(limits.stream)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._muted = self.ended = False

    def begin(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Begin with a socket. Its first request, and a TLS handshake before it, may take so long."""
        accepted.setblocking(False)
        self.allow(self._limits.first_request)
        self._task = asyncio.get_running_loop().create_task(self._connect(accepted, tls))
        # Cancelled before it has begun, it does not even do what is done for those that are cancelled.
        self._task.add_done_callback(lambda task: accepted.close() if task.cancelled() else None)

    async def _connect(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            wait = self._limits.first_request if tls else None
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, accepted, ssl=tls, ssl_handshake_timeout=wait
            )
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError):  # who speaks no TLS, or left, or was late
            accepted.close()
            self._end()

    def allow(self, seconds: float | None) -> None:
        """End the connection after this time, unless this is called again before; None: never."""
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and not self.ended:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def asked(self) -> None:
        """Note that a request has come: its answer may take so long."""
        self._connections.busy(self)
        self.allow(self._limits.answer)

    def answered(self) -> None:
        """Note that it has its answer: the next may take so long to come."""
        self._connections.idle(self)
        self.allow(self._limits.next_request)

    def expect(self, size: int) -> None:
        """Let so many bytes come, from now on, beside the budget: those of a file."""
        self._expected = size

    def discard(self) -> None:
        """Throw away what comes from now on."""
        self._muted = True

    def mute(self) -> None:
        """Read no more: who sends on has to wait."""
        self._muted = True
        if self._transport:
            with suppress(RuntimeError):  # it is closing
                self._transport.pause_reading()

    def abort(self) -> None:
        """End it now."""
        if self._transport:
            self._transport.abort()
        elif self._task:
            self._task.cancel()
        self._end()

    def _end(self) -> None:
        self.ended = True
        self.allow(None)
        self._connections.left(self)

    # As a protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what comes, within the budget of any stream."""
        if self._muted:
            return
        size = max(len(data), _SEGMENT)
        expected = min(size, self._expected)
        self._expected -= expected
        if not self._budget.spend(size - expected):
            self.mute()
            self.flooded()
            return
        self.protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self.protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end()
        if self.lost:
            self.lost()
        self.protocol.connection_lost(exc)
        if self._transport:
            self._transport.close()  # Python 3.10 warns of one with TLS that only the other side has closed


def source_of(address: str) -> str:
    """Return what counts as one source: an address, or a network of IPv6: one person has all of it."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
