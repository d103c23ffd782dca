"""Audio in messages: Ogg/Opus for Kyutai's clients, or float32 samples as they are (`audio=pcm`) for our own page.

Samples save the delay of the codec where the network carries 96 kB/s, and every browser can read and write them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from moshi_mlx.errors import ProtocolError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.wire.ogg import OggPackets, make_page

MAX_SECONDS = 4.0  # of audio in one message; a few bytes can hold hours of it
MAX_FOREIGN = 16 * 1024  # bytes before the first Ogg page; some seconds of a compressed voice
_HEADERS = (b"OpusHead", b"OpusTags")
_OTHERS = {b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex", b"\x80theora": "Theora"}


class AudioWire(Protocol):
    """Both directions of one client's audio."""

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of one message, (n,) float32 at 24 kHz, whatever its bytes are; n may be 0.

        Raises ProtocolError for a message with far too much audio, and for audio of a kind that is not read.
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

    def read(self, payload: bytes) -> np.ndarray:
        """Return the whole samples of a payload; the rest of it is dropped."""
        return np.frombuffer(payload[: len(payload) // 4 * 4], dtype="<f4").astype(np.float32)

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
        self._sequence = 0
        self._begun = False  # there was a packet

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of the packets that end in this payload."""
        pieces, samples = [np.zeros(0, np.float32)], 0
        packets = self.pages.add(payload)
        self._begun = self._begun or bool(packets)
        if not self._begun and self.pages.skipped > MAX_FOREIGN:
            raise ProtocolError(
                f"{self.pages.skipped} bytes came and no Ogg page: "
                "send Ogg/Opus, or float32 samples with ?audio=pcm"
            )
        for packet in packets:
            _refuse_foreign(packet)
            if not packet or packet.startswith(_HEADERS):  # of an empty one sphn makes five seconds
                continue
            pieces.append(self._decode(packet))
            samples += len(pieces[-1])
            if samples > MAX_SECONDS * SAMPLE_RATE:
                raise ProtocolError(
                    f"a message holds more than {MAX_SECONDS:g} s of audio; send audio as it is spoken"
                )
        return np.concatenate(pieces)

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
