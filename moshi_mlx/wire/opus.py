"""Ogg/Opus between clients and samples."""

from __future__ import annotations

import numpy as np
import sphn

from moshi_mlx.errors import ProtocolError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.wire.ogg import OggPackets, make_page

MAX_SECONDS = 4.0  # of audio in one message; a few bytes can hold hours of it
_HEADERS = (b"OpusHead", b"OpusTags")


class OpusWire:
    """Both directions of one client: `AudioWire`.

    sphn's reader fails for ever after one bad byte between packets. So it only gets pages made here, one for each
    packet; a bad packet costs nothing but itself.
    """

    name = "opus"

    def __init__(self) -> None:
        self.pages = OggPackets()
        self.refused = 0  # packets that are not Opus
        self._reader = sphn.OpusStreamReader(SAMPLE_RATE)
        self._writer = sphn.OpusStreamWriter(SAMPLE_RATE)
        self._sequence = 0

    def read(self, payload: bytes) -> np.ndarray:
        pieces, samples = [], 0
        for packet in self.pages.add(payload):
            if not packet or packet.startswith(_HEADERS):  # of an empty one sphn makes five seconds
                continue
            piece = self._decode(packet)
            pieces.append(piece)
            samples += len(piece)
            if samples > MAX_SECONDS * SAMPLE_RATE:
                raise ProtocolError(
                    f"a message holds more than {MAX_SECONDS:g} s of audio; send it as it is spoken"
                )
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def write(self, pcm: np.ndarray) -> bytes:
        return self._writer.append_pcm(np.clip(pcm, -1.0, 1.0).astype(np.float32))

    def _decode(self, packet: bytes) -> np.ndarray:
        page = make_page(packet, self._sequence)
        self._sequence += 1
        try:
            return self._reader.append_bytes(page)
        except ValueError:
            self.refused += 1
            return np.zeros(0, np.float32)
