"""Audio in messages: Ogg/Opus for Kyutai's clients, or float32 samples as they are (`audio=pcm`) for our own page.

Samples save the delay of the codec where the network carries 96 kB/s, and every browser can read and write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from moshi_mlx.errors import ProtocolError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.wire.ogg import OggPackets, make_page

MAX_SECONDS = 4.0  # of audio in one message; a few bytes can hold hours of it
MAX_FOREIGN = 16 * 1024  # bytes before the first Ogg page; some seconds of a compressed voice
_SLICE_SECONDS = 0.25  # of audio that are decoded at once, which takes some milliseconds
_SLICE_PAGES = 32  # that are read at once
_WORK_SECONDS = 0.02  # of audio, whose decoding is a unit of work
_WORK_WASTED = 8 * 1024  # bytes whose checksum was taken in vain: a unit of work
_HEADERS = (b"OpusHead", b"OpusTags")
_OTHERS = {b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex", b"\x80theora": "Theora"}


class AudioWire(Protocol):
    """Both directions of one client's audio.

    work: what reading has cost so far, in units of about 20 microseconds: a page, a packet, 20 ms of audio
    decoded, 8 kB whose checksum was taken in vain.
    """

    work: int

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of one message, (n,) float32 at 24 kHz, whatever its bytes are; n may be 0.

        Raises ProtocolError for a message with far too much audio, and for audio of a kind that is not read.
        """
        ...

    def slices(self, payload: bytes, decode: bool = True) -> Iterator[np.ndarray]:
        """Yield the same in pieces whose making takes some milliseconds at most, to be taken to the end.

        decode: False while nobody listens: the stream is followed, and gives no audio.
        """
        ...

    def write(self, pcm: np.ndarray) -> bytes:
        """Return the payload for one frame, (1920,) float32."""
        ...

    def damage(self) -> dict[str, int]:
        """Return how much of what was read was damaged, by the name of its metric."""
        ...


class PcmWire:
    """float32 samples, little endian, 24 kHz, mono."""

    work = 0  # next to nothing

    def read(self, payload: bytes) -> np.ndarray:
        """Return the whole samples of a payload; the rest of it is dropped."""
        return np.frombuffer(payload[: len(payload) // 4 * 4], dtype="<f4").astype(np.float32)

    def slices(self, payload: bytes, decode: bool = True) -> Iterator[np.ndarray]:
        """Yield it as one piece."""
        yield self.read(payload)

    def write(self, pcm: np.ndarray) -> bytes:
        """Return the samples as they are."""
        return pcm.astype("<f4", copy=False).tobytes()

    def damage(self) -> dict[str, int]:
        """Return nothing: any bytes are samples."""
        return {}


class OpusWire:
    """Ogg/Opus.

    sphn's reader fails for ever after one bad byte between packets. So it only gets pages made here, one for each
    packet; a bad packet costs nothing but itself.
    """

    def __init__(self) -> None:
        import sphn

        self.pages = OggPackets()
        self.refused = 0  # packets that are not Opus
        self._reader = sphn.OpusStreamReader(SAMPLE_RATE)
        self._writer = sphn.OpusStreamWriter(SAMPLE_RATE)
        self.work = 0
        self._wasted = 0  # units of work
        self._sequence = 0
        self._begun = False  # there was a packet

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of the packets that end in this payload."""
        return np.concatenate([np.zeros(0, np.float32), *self.slices(payload)])

    def slices(self, payload: bytes, decode: bool = True) -> Iterator[np.ndarray]:
        """Yield it in pieces of about a quarter of a second."""
        pieces, samples, pages, total = [np.zeros(0, np.float32)], 0, 0, 0
        for packets in self.pages.pages(payload):
            pages += 1
            self.work += 1
            for packet in packets:
                self._begun = True
                self.work += 1
                _refuse_foreign(packet)
                # Of an empty one sphn makes five seconds.
                if not packet or packet.startswith(_HEADERS) or not decode:
                    continue
                pieces.append(self._decode(packet))
                samples += len(pieces[-1])
                total += len(pieces[-1])
                self.work += round(len(pieces[-1]) / (_WORK_SECONDS * SAMPLE_RATE))
                if total > MAX_SECONDS * SAMPLE_RATE:
                    raise ProtocolError(
                        f"a message holds more than {MAX_SECONDS:g} s of audio; send audio as it is spoken"
                    )
                if samples >= _SLICE_SECONDS * SAMPLE_RATE:
                    yield np.concatenate(pieces)
                    pieces, samples, pages = [pieces[0]], 0, 0
            self._count_waste()
            if pages >= _SLICE_PAGES:
                yield np.concatenate(pieces)
                pieces, samples, pages = [pieces[0]], 0, 0
        if not self._begun and self.pages.skipped > MAX_FOREIGN:
            raise ProtocolError(
                f"{self.pages.skipped} bytes came and no Ogg page: "
                "send Ogg/Opus, or float32 samples with ?audio=pcm"
            )
        yield np.concatenate(pieces)

    def write(self, pcm: np.ndarray) -> bytes:
        """Return whole Ogg pages; the first ones hold the headers of the stream too."""
        return self._writer.append_pcm(np.clip(pcm, -1.0, 1.0).astype(np.float32))

    def damage(self) -> dict[str, int]:
        """Return the bytes that were in no whole page, the pages mended, and the packets that were not Opus."""
        return {
            "skipped_bytes": self.pages.skipped,
            "mended_pages": self.pages.mended,
            "refused_packets": self.refused,
        }

    def _count_waste(self) -> None:
        wasted = self.pages.wasted // _WORK_WASTED
        self.work += wasted - self._wasted
        self._wasted = wasted

    def _decode(self, packet: bytes) -> np.ndarray:
        page = make_page(packet, self._sequence)
        self._sequence += 1
        try:
            return self._reader.append_bytes(page)
        except ValueError:
            self.refused += 1
            return np.zeros(0, np.float32)


def _refuse_foreign(packet: bytes) -> None:
    """Raise ProtocolError for the header of another codec: read as Opus it would be noise, or nothing."""
    kind = next((name for magic, name in _OTHERS.items() if packet.startswith(magic)), None)
    if kind:
        raise ProtocolError(f"the audio is {kind} in Ogg: send Opus (with ffmpeg: -c:a libopus)")
    if packet.startswith(b"OpusHead") and packet[18:19] > b"\0" and packet[19:20] > b"\1":  # streams in a packet
        raise ProtocolError(f"the audio has {packet[9]} channels: send one or two (with ffmpeg: -ac 1)")


AUDIO_WIRES: dict[str, type[AudioWire]] = {"opus": OpusWire, "pcm": PcmWire}
"""By the name that a client gives in its query."""
