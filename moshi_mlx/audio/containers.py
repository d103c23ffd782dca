"""What lies in an audio file before its sound is decoded: how long it really is, and how many recordings it holds.

libsndfile believes what a file says of its own length, reads over cut ends in silence, stops after the first of
several recordings, and refuses some whole files that lack only a mark. So the container is read here first: cut
files are refused, and what is whole is given on in a form that is read to its end.
Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), EBU Tech 3306 (RF64), Sony Wave64, Apple's AIFF; for MP3 the tags of
Xing, LAME and ID3.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from moshi_mlx.errors import AudioFileError

_UNKNOWN_SIZE = 0x7FF0_0000  # bytes; programs that write a WAV into a pipe put a size from here up
_W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
_FOREIGN = (  # offset, beginning, what it is
    (4, b"ftyp", "MPEG-4 (m4a, mp4 or mov)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (0, b"#!AMR", "AMR"),
    (0, b"MThd", "MIDI, notes without sound"),
)

# MP3, layer III: kilobits a second by index, for MPEG 1 and for MPEG 2 and 2.5; Hz by index, by version.
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

# Ogg.
_PAGE = 27  # bytes before the lacing values
_BEGIN, _END = 2, 4  # flags of a page: it begins, ends a stream
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits turned round


@dataclass(frozen=True)
class Recording:
    """One recording of a file, to be read to its end. promises: what it says of its length can be believed."""

    file: BinaryIO
    promises: bool = True


def recordings(file: BinaryIO, name: str) -> list[Recording]:
    """Find the recordings in an open file; nearly always one, the file itself.

    file: can be rewound. name: as a person would say it. Raises AudioFileError for files that are cut or that are
    of a kind libsndfile does not read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    magic = file.read(16)
    if kind := foreign(magic):
        raise AudioFileError(
            f"{name} is {kind}, which is not read here: convert it, on a Mac with `afconvert -f WAVE -d LEI16 "
            "IN OUT.wav`, elsewhere with `ffmpeg -i IN OUT.wav`"
        )
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
        return [Recording(_wav(file, size, name, magic[:4]))]
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        _refuse_cut(_chunks(file, size, 12, "big"), b"SSND", size, name)
    elif magic[:4] == b"riff" and size > 40:
        _refuse_cut(_w64_chunks(file, size), _W64_DATA, size, name)
    elif magic[:4] == b".snd":
        promised = int.from_bytes(magic[8:12], "big")
        if promised != 0xFFFF_FFFF and int.from_bytes(magic[4:8], "big") + promised > size:
            raise truncated(name, f"{promised} bytes of samples promised")
    elif magic[:4] == b"OggS":
        return [Recording(part) for part in _ogg(file, name)]
    elif magic[:4] == b"fLaC":
        return [Recording(file, promises=_flac_length(file) > 0)]
    elif magic[:3] == b"ID3" or _mp3_frame(magic, 0):
        return list(_mp3(file))
    return [Recording(file)]


def truncated(name: str, detail: str) -> AudioFileError:
    """Give the error for a file that ends early."""
    return AudioFileError(f"{name} is truncated ({detail}): copy or record it again")


def foreign(magic: bytes) -> str:
    """Return what kind of file begins with these bytes, "" for one that libsndfile may read."""
    if magic[:1] == b"\xff" and len(magic) > 1 and magic[1] & 0xF6 == 0xF0:
        return "AAC"
    return next((kind for at, start, kind in _FOREIGN if magic[at : at + len(start)] == start), "")


# WAV, AIFF, W64: chunks with their lengths.


class _Patched(io.RawIOBase):
    """A file in which some bytes are others."""

    def __init__(self, file: BinaryIO, at: int, new: bytes) -> None:
        self._file, self._at, self._new = file, at, new

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        start = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for index, byte in enumerate(self._new, self._at - start):
            if 0 <= index < len(data):
                data[index] = byte
        buffer[: len(data)] = data
        return len(data)


def _chunks(file: BinaryIO, size: int, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, where its content begins, length) of each chunk."""
    position = start
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "big" if order == "big" else "little")
        yield header[:4], position + 8, length
        position += 8 + length + length % 2


def _w64_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    position = 40
    while position + 24 <= size:
        file.seek(position)
        header = file.read(24)
        length = int.from_bytes(header[16:], "little") - 24
        if length < 0:
            return
        yield header[:16], position + 24, length
        position += 24 + (length + 7) // 8 * 8


def _refuse_cut(chunks: Iterator[tuple[bytes, int, int]], wanted: bytes, size: int, name: str) -> None:
    for chunk, start, length in chunks:
        if chunk == wanted and start + length > size:
            raise truncated(name, f"{length} bytes of samples promised, {size - start} there")


def _wav(file: BinaryIO, size: int, name: str, form: bytes) -> BinaryIO:
    """The file, with the length of its samples put in where a program that could not rewind has left it out."""
    order = "big" if form == b"RIFX" else "little"
    data_size = None
    for chunk, start, length in _chunks(file, size, 12, order):
        there = size - start
        if chunk == b"ds64":
            file.seek(start + 8)
            data_size = int.from_bytes(file.read(8), "little")
        elif chunk == b"fmt ":
            file.seek(start + 4)
            if file.read(4) == bytes(4):
                raise AudioFileError(f"{name} says it has 0 samples a second: its header is damaged")
        elif chunk == b"data":
            if form == b"RF64" and length == 0xFFFF_FFFF:
                length = data_size or 0
                if there < length < _UNKNOWN_SIZE << 32:
                    raise truncated(name, f"{length} bytes of samples promised, {there} there")
                return file if length else _sized(file, start - 4, there, order)
            if there < length < _UNKNOWN_SIZE:
                raise truncated(name, f"{length} bytes of samples promised, {there} there")
            if length == 0 and there and not _are_chunks(file, size, start, order):
                return _sized(file, start - 4, there, order)
            return file
    return file


def _sized(file: BinaryIO, at: int, length: int, order: str) -> BinaryIO:
    new = min(length, _UNKNOWN_SIZE).to_bytes(4, "big" if order == "big" else "little")
    return io.BufferedReader(_Patched(file, at, new))


def _are_chunks(file: BinaryIO, size: int, start: int, order: str) -> bool:
    """Whether the rest of a file is chunks to its end, and not samples."""
    end = start
    for chunk, begin, length in _chunks(file, size, start, order):
        if not all(0x20 <= byte < 0x7F for byte in chunk):
            return False
        end = begin + length + length % 2
    return size <= end <= size + 1


# FLAC.


def _flac_length(file: BinaryIO) -> int:
    """Samples by its own account, 0 for not known: 36 bits of the first block."""
    file.seek(18)
    return int.from_bytes(file.read(8), "big") & (1 << 36) - 1


# MP3.


def _mp3_frame(data: bytes, at: int) -> int:
    """Bytes of the layer III frame at a position; 0 if there is none."""
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or not 0 < kbits < 15 or rate == 3:
        return 0
    bits = 1000 * (_KBITS_1 if version == 3 else _KBITS_2)[kbits]
    return (144 if version == 3 else 72) * bits // _HZ[version][rate] + (data[at + 2] >> 1 & 1)


def _mp3(file: BinaryIO) -> Iterator[Recording]:
    """The recordings of an MP3, without tags: another one begins at every Info frame, which tells the length."""
    file.seek(0)
    data = file.read()
    start, end, position, told = None, 0, 0, False
    while position < len(data):
        length = _mp3_frame(data, position)
        if not length:
            tag = _id3_bytes(data, position)
            position = position + tag if tag else _next_frame(data, position + 1)
            continue
        body = data[position : position + min(length, 64)]
        if b"Xing" in body or b"Info" in body:
            if start is not None:
                yield Recording(io.BytesIO(data[start:end]), told)
            start, told = position, True
        elif start is None:
            start = position
        position = end = position + length
    if start is None:
        file.seek(0)
        yield Recording(file)
    else:
        yield Recording(io.BytesIO(data[start:end]), told)


def _id3_bytes(data: bytes, at: int) -> int:
    """Bytes of the ID3v2 tag at a position, 0 if there is none."""
    if data[at : at + 3] != b"ID3" or len(data) < at + 10:
        return 0
    length = 0
    for byte in data[at + 6 : at + 10]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _next_frame(data: bytes, at: int) -> int:
    """Where the next tag or frame begins that another frame or the end follows."""
    while at < len(data):
        found = [where for mark in (b"\xff", b"ID3") if (where := data.find(mark, at)) >= 0]
        if not found:
            return len(data)
        at = min(found)
        length = _mp3_frame(data, at)
        if _id3_bytes(data, at) or (length and (at + length >= len(data) or _mp3_frame(data, at + length))):
            return at
        at += 1
    return at


# Ogg.


def checksum(page: bytes) -> int:
    """CRC-32 of a page whose field for it is zero: polynomial 0x04C11DB7, not reflected, from 0.

    zlib's is the reflected one, so bits are turned round before and after.
    """
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def signed(page: bytes) -> bytes:
    """Put the right checksum into a page."""
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + checksum(page).to_bytes(4, "little") + page[26:]


def _ogg(file: BinaryIO, name: str) -> list[BinaryIO]:
    """The links of a chain, each with the end mark that libsndfile insists on and many writers leave out."""
    file.seek(0)
    data = file.read()
    links: list[list[bytes]] = []
    position, began = 0, False
    while (position := data.find(b"OggS", position)) >= 0:
        end = page_end(data, position)
        if end is None and data.find(b"OggS", position + 4) < 0:
            raise truncated(name, "the last Ogg page is incomplete")
        if end is None:
            position += 4  # damaged: libsndfile goes on at the next page, too
            continue
        page = data[position:end]
        begins = bool(page[5] & _BEGIN)
        if not links or (begins and not began):
            links.append([])
        links[-1].append(page)
        position, began = end, begins
    if len(links) == 1 and links[0][-1][5] & _END:
        file.seek(0)
        return [file]
    for link in links:
        last = link[-1]
        if not last[5] & _END:
            link[-1] = signed(last[:5] + bytes([last[5] | _END]) + last[6:])
    return [io.BytesIO(b"".join(link)) for link in links]


def page_end(data: bytes, start: int) -> int | None:
    """Return where the page at a position ends, None if it is not all there."""
    if len(data) < start + _PAGE:
        return None
    lacing = data[start + _PAGE : start + _PAGE + data[start + 26]]
    end = start + _PAGE + data[start + 26] + sum(lacing)
    return end if end <= len(data) and len(lacing) == data[start + 26] else None
