"""Ogg pages from strangers: the packets of those that are whole, whatever lies between them.

Damaged pages are skipped, up to the next one that is whole. A mistake that writers make is mended: a page with a
single lacing value for a packet of 255 bytes or more, whose check sum tells how long it really is.
Source: RFC 3533.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from moshi_mlx.audio.containers import signed

MAGIC = b"OggS"
HEADER = Struct(
    "<4sBBqIIIB"
)  # magic, version, flags, granule, serial, sequence, check sum, number of lacing values
MAX_PACKET = 0xFFFF  # bytes; the longest Opus packet is shorter
_CHECKSUM = slice(22, 26)
_CONTINUED = 1  # flag: the page begins inside a packet
_FULL = 255  # a lacing value that means: the packet goes on


class _Page(NamedTuple):
    parts: list[bytes]  # packets, the first and the last perhaps in part
    complete: bool  # the last one ends here
    continued: bool
    place: tuple[int, int]  # serial, sequence


class OggPackets:
    """Bytes of any kind in, packets out; never fails."""

    def __init__(self) -> None:
        self.skipped = 0  # bytes that belonged to no whole page
        self.mended = 0  # pages
        self._rest = b""  # the beginning of a page
        self._part: bytes | None = None  # the beginning of a packet
        self._place = (0, 0)  # of the last page

    def add(self, message: bytes) -> list[bytes]:
        """The packets that end in these bytes."""
        if message.startswith(MAGIC):  # clients send whole pages: the rest of that one will not come
            self.skipped += len(self._rest)
            self._rest = b""
        data = self._rest + message
        self._rest = b""
        packets: list[bytes] = []
        position = 0
        while (start := data.find(MAGIC, position)) >= 0:
            self.skipped += start - position
            following = data.find(MAGIC, start + HEADER.size)
            end = _end(data, start)
            page = None
            if end is not None:
                page = _read(data[start:end])
            elif following < 0:
                self._rest = data[start:]
                return packets
            if page is None:  # as long as to the next one, whatever it says itself?
                end = following if following >= 0 else len(data)
                page = _mend(data[start:end])
                self.mended += page is not None
            if page is None:
                self.skipped += len(MAGIC)
                position = start + len(MAGIC)
            else:
                assert end is not None
                packets += self._packets(page)
                position = end
        keep = next((n for n in (3, 2, 1) if data.endswith(MAGIC[:n]) and len(data) - n >= position), 0)
        self.skipped += len(data) - keep - position
        self._rest = data[len(data) - keep :]
        return packets

    def _packets(self, page: _Page) -> list[bytes]:
        """The packets that end in a page."""
        packets, parts = [], list(page.parts)
        follows = page.place == (self._place[0], self._place[1] + 1)
        part, self._part, self._place = self._part if follows else None, None, page.place
        if page.continued and parts:
            first = parts.pop(0)
            ends = page.complete or bool(parts)
            if part is not None and len(part) + len(first) <= MAX_PACKET:
                if ends:
                    packets.append(part + first)
                else:
                    self._part = part + first
        elif part is not None:  # it was complete: a lacing value of 0 was forgotten
            packets.append(part)
        if parts and not page.complete:
            self._part = parts.pop()
        return packets + parts


def make_page(packet: bytes, sequence: int, serial: int = 1) -> bytes:
    """A page that holds one packet of less than 65025 bytes."""
    lacing = bytes([_FULL] * (len(packet) // _FULL) + [len(packet) % _FULL])
    head = HEADER.pack(MAGIC, 0, 0, 0, serial, sequence & 0xFFFFFFFF, 0, len(lacing))
    return signed(head + lacing + packet)


def _end(data: bytes, start: int) -> int | None:
    """Where the page at `start` ends by its own account; None if that is not here yet."""
    if len(data) < start + HEADER.size:
        return None
    count = data[start + HEADER.size - 1]
    lacing = data[start + HEADER.size : start + HEADER.size + count]
    end = start + HEADER.size + count + sum(lacing)
    return end if len(lacing) == count and end <= len(data) else None


def _read(page: bytes) -> _Page | None:
    """A page of the length that it says; None if it is damaged."""
    count = page[HEADER.size - 1]
    lacing = page[HEADER.size : HEADER.size + count]
    return _split(page, lacing, count) if _whole(page) else None


def _mend(page: bytes) -> _Page | None:
    """A page that is longer than it says, with its last packet up to its end; None if it is damaged."""
    if len(page) < HEADER.size or not _whole(page):
        return None
    count = page[HEADER.size - 1]
    lacing = page[HEADER.size : HEADER.size + count]
    surplus = len(page) - HEADER.size - count - sum(lacing)
    if len(lacing) < count or surplus <= 0 or lacing[-1:] != bytes([_FULL]):
        return None
    found = _split(page, lacing, count)
    last = found.parts.pop() + page[len(page) - surplus :]
    return found._replace(parts=[*found.parts, last], complete=True)


def _whole(page: bytes) -> bool:
    return page[4] == 0 and signed(page) == page


def _split(page: bytes, lacing: bytes, count: int) -> _Page:
    _, _, flags, _, serial, sequence, _, _ = HEADER.unpack_from(page)
    parts, start, end = [], HEADER.size + count, HEADER.size + count
    for value in lacing:
        end += value
        if value < _FULL:
            parts.append(page[start:end])
            start = end
    complete = not lacing or lacing[-1] < _FULL
    if not complete:
        parts.append(page[start:end])
    return _Page(parts, complete, bool(flags & _CONTINUED), (serial, sequence))
