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
_HEADERS = (b"OpusHead", b"OpusTags")


class AudioWire(Protocol):
    """Both directions of one client's audio."""

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of one message, (n,) float32 at 24 kHz, whatever its bytes are; n may be 0.

        Raises ProtocolError for a message with far too much audio.
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

    def read(self, payload: bytes) -> np.ndarray:
        """Return the audio of the packets that end in this payload."""
        pieces, samples = [np.zeros(0, np.float32)], 0
        for packet in self.pages.add(payload):
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


AUDIO_WIRES: dict[str, type[AudioWire]] = {"opus": OpusWire, "pcm": PcmWire}
"""By the name that a client gives in its query."""
