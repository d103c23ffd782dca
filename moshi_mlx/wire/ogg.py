"""Packets out of a stream of Ogg pages that anybody may have written.

Damaged pages are skipped, up to the next one that is whole. One mistake of writers is mended: a page with a single
lacing value for a packet of 255 bytes or more, whose checksum shows how long it really is. Source: RFC 3533.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from moshi_mlx.audio.containers import page_end, signed

MAGIC = b"OggS"
HEADER = Struct("<4sBBqIIIB")  # magic, version, flags, granule, serial, sequence, checksum, count of lacing values
MAX_PACKET = 0xFFFF  # bytes; the longest Opus packet is shorter
_CONTINUED = 1  # flag: the page begins inside a packet
_FULL = 255  # a lacing value that means: the packet goes on


class _Page(NamedTuple):
    parts: list[bytes]  # packets, the first and the last perhaps in part
    complete: bool  # the last one ends here
    continued: bool
    place: tuple[int, int]  # serial, sequence


class OggPackets:
    """Takes bytes of any kind and gives packets; never fails.

    A page that begins and is none may cost much more than its bytes: each beginning is examined, up to the 65 kB
    that it says it has. So `pages` stops after each, and `wasted` counts.
    """

    def __init__(self) -> None:
        self.wasted = 0  # bytes whose checksum was taken, of what was no page
        self.skipped = 0  # bytes that belonged to no whole page
        self.mended = 0  # pages whose length was wrong
        self._rest = b""  # the beginning of a page
        self._part: bytes | None = None  # the beginning of a packet
        self._place = (0, 0)  # of the last page

    def add(self, message: bytes) -> list[bytes]:
        """Return the packets that end in these bytes."""
        return [packet for packets in self.pages(message) for packet in packets]

    def pages(self, message: bytes) -> Iterator[list[bytes]]:
        """Yield the packets that end in each page of these bytes, none for what only begins as a page does.

        To be taken to its end: what it leaves belongs to the next message.
        """
        if message.startswith(MAGIC):  # clients send whole pages: the rest of that one will not come
            self.skipped += len(self._rest)
            self._rest = b""
        data = self._rest + message
        self._rest = b""
        position = 0
        while (start := data.find(MAGIC, position)) >= 0:
            self.skipped += start - position
            following = data.find(MAGIC, start + HEADER.size)
            end = page_end(data, start) or 0
            if not end and following < 0:
                self._rest = data[start:]
                return
            page = _parse(data[start:end])
            if page is None:  # does it go on to the next one, whatever it says itself?
                self.wasted += max(0, end - start)
                end = following if following >= 0 else len(data)
                page = _parse(data[start:end])
                self.mended += page is not None
            if page is None:
                self.wasted += end - start
                end = start + len(MAGIC)
                self.skipped += len(MAGIC)
            position = end
            yield self._packets(page) if page else []
        keep = next((n for n in (3, 2, 1) if data.endswith(MAGIC[:n]) and len(data) - n >= position), 0)
        self.skipped += len(data) - keep - position
        self._rest = data[len(data) - keep :]

    def _packets(self, page: _Page) -> list[bytes]:
        """Return the packets that end in a page."""
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
    """Return a page that holds one packet of fewer than 65025 bytes."""
    lacing = bytes([_FULL] * (len(packet) // _FULL) + [len(packet) % _FULL])
    head = HEADER.pack(MAGIC, 0, 0, 0, serial, sequence & 0xFFFFFFFF, 0, len(lacing))
    return signed(head + lacing + packet)


def _parse(page: bytes) -> _Page | None:
    """Return what a page holds, None if it is damaged.

    The last packet of a page that is longer than its lacing values say goes on to the page's end, if the last
    value allows that.
    """
    if len(page) < HEADER.size or page[4] != 0 or signed(page) != page:
        return None
    _, _, flags, _, serial, sequence, _, count = HEADER.unpack_from(page)
    lacing = page[HEADER.size : HEADER.size + count]
    surplus = len(page) - HEADER.size - count - sum(lacing)
    is_full = lacing[-1:] == bytes([_FULL])
    if len(lacing) < count or surplus < 0 or (surplus > 0 and not is_full):
        return None
    parts, start, end = [], HEADER.size + count, HEADER.size + count
    for value in lacing:
        end += value
        if value < _FULL:
            parts.append(page[start:end])
            start = end
    if is_full:
        parts.append(page[start:])
    return _Page(parts, surplus > 0 or not is_full, bool(flags & _CONTINUED), (serial, sequence))
