"""Ogg pages from strangers, held against sphn, which reads clean ones as libogg does."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import sphn

from moshi_mlx.audio.containers import checksum, signed
from moshi_mlx.errors import ProtocolError
from moshi_mlx.wire.audio import OpusWire
from moshi_mlx.wire.ogg import HEADER, MAGIC, OggPackets, make_page


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Four seconds that never repeat, (96000,) float32."""
    time = np.arange(96_000) / 24_000
    return (0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype(np.float32)


@pytest.fixture(scope="module")
def messages(speech: np.ndarray) -> list[bytes]:
    writer = sphn.OpusStreamWriter(24_000)
    return [writer.append_pcm(speech[start : start + 1920]) for start in range(0, len(speech), 1920)]


@pytest.fixture(scope="module")
def heard(messages: list[bytes]) -> np.ndarray:
    """What sphn makes of it."""
    reader = sphn.OpusStreamReader(24_000)
    return np.concatenate([reader.append_bytes(message) for message in messages])


def pages_of(data: bytes) -> list[bytes]:
    starts = [index for index in range(len(data)) if data.startswith(MAGIC, index)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize("size", [0, 1, 7, 100, 1000])
def test_clean_pages_are_read_exactly_however_they_are_cut(
    messages: list[bytes], heard: np.ndarray, size: int
) -> None:
    data, wire = b"".join(messages), OpusWire()
    pieces = [data[start : start + size] for start in range(0, len(data), size)] if size else messages
    np.testing.assert_array_equal(np.concatenate([wire.read(piece) for piece in pieces]), heard)
    assert (wire.pages.skipped, wire.pages.mended, wire.refused) == (0, 0, 0)


def test_the_check_sum_is_oggs(messages: list[bytes]) -> None:
    for page in pages_of(b"".join(messages)):
        blank = page[:22] + bytes(4) + page[26:]
        assert checksum(blank) == int.from_bytes(page[22:26], "little")


def test_every_whole_page_is_kept_whatever_happens_to_the_others(messages: list[bytes]) -> None:
    """Any damage costs the pages that it meets and no other."""
    chance = random.Random(1)
    pages = pages_of(b"".join(messages))
    bodies = [OggPackets().add(page)[0] for page in pages]
    for _ in range(300):
        damaged = list(pages)
        hit = set(chance.sample(range(len(pages)), chance.randint(1, 5)))
        for index in hit:
            page = bytearray(pages[index])
            place = chance.randrange(len(page))
            how = chance.randrange(4)
            if how == 0:
                page[place] ^= chance.randint(1, 255)
            elif how == 1:
                del page[place : place + chance.randint(1, 40)]
            elif how == 2:
                page[place:place] = chance.randbytes(chance.randint(1, 40))
            else:
                page = bytearray(chance.randbytes(50))
            damaged[index] = bytes(page)
        whole = [body for index, body in enumerate(bodies) if index not in hit]
        reader = OggPackets()
        found = [packet for page in damaged for packet in reader.add(page)]
        assert [body for body in whole if body not in found] == []
        together = OggPackets().add(b"".join(damaged))  # where nothing tells where a page should begin
        assert sum(body not in together for body in whole) <= len(hit)


def test_audio_goes_on_after_damage(messages: list[bytes], heard: np.ndarray) -> None:
    damaged = [*messages[:20], b"\xff" * 100, messages[20][:50], *messages[21:]]
    wire = OpusWire()
    got = np.concatenate([wire.read(message) for message in damaged])
    assert len(heard) - 1920 <= len(got) < len(heard)
    assert np.corrcoef(got[-24_000:], heard[-24_000:])[0, 1] > 0.999


def in_long_pages(messages: list[bytes], seconds: float) -> list[bytes]:
    """The same packets as `ffmpeg -c:a libopus -f ogg` pages them: a page for each header, then long ones."""
    packets = [packet for message in messages for packet in OggPackets().add(message)]
    each = round(seconds / 0.04)  # sphn's packets have 40 ms
    groups = [[packet] for packet in packets[:2]] + [packets[i : i + each] for i in range(2, len(packets), each)]
    pages = []
    for sequence, group in enumerate(groups):
        flags = 2 * (sequence == 0) + 4 * (group is groups[-1])  # begins, ends the stream
        lacing = b"".join(bytes([255] * (len(one) // 255) + [len(one) % 255]) for one in group)
        head = HEADER.pack(MAGIC, 0, flags, 1920 * len(group) * sequence, 9, sequence, 0, len(lacing))
        pages.append(signed(head + lacing + b"".join(group)))
    return pages


@pytest.mark.parametrize("seconds", [0.04, 1.0, 2.0])
@pytest.mark.parametrize("size", [None, 1000])
def test_the_long_pages_of_ffmpeg_are_read_whole_and_in_parts(
    messages: list[bytes], heard: np.ndarray, seconds: float, size: int | None
) -> None:
    """A client that reads from its pipe sends what is there, page or not. 0.04 s: as Kyutai's page sends it."""
    pages, wire = in_long_pages(messages, seconds), OpusWire()
    data = b"".join(pages)
    pieces = [data[start : start + size] for start in range(0, len(data), size)] if size else pages
    np.testing.assert_array_equal(np.concatenate([wire.read(piece) for piece in pieces]), heard)
    assert (wire.pages.skipped, wire.pages.mended, wire.refused) == (0, 0, 0)


OPUS_HEAD = b"OpusHead\1%c\x38\1\x80\xbb\0\0\0\0%c"  # channels, mapping family
FOREIGN = {  # first packet: what is said
    b"\x01vorbis" + bytes(23): "Vorbis in Ogg: send Opus",
    b"\x7fFLAC\1\0" + bytes(40): "FLAC in Ogg",
    b"Speex   1.2.0" + bytes(60): "Speex in Ogg",
    OPUS_HEAD % (6, 1) + b"\4\2\0\4\1\2\3\5": "6 channels: send one or two",
}
OPUS = (OPUS_HEAD % (1, 0), OPUS_HEAD % (2, 0), OPUS_HEAD % (2, 1) + b"\1\1\0\1", b"OpusHead", b"OpusTags\0")


@pytest.mark.parametrize("packet", FOREIGN, ids=FOREIGN.values())
def test_another_codec_in_ogg_is_named(packet: bytes) -> None:
    with pytest.raises(ProtocolError, match=FOREIGN[packet]):
        OpusWire().read(make_page(packet, 0))


@pytest.mark.parametrize("packet", OPUS)
def test_opus_of_one_or_two_channels_is_no_other(packet: bytes, messages: list[bytes]) -> None:
    wire = OpusWire()
    assert not len(wire.read(make_page(packet, 0)))
    assert len(np.concatenate([wire.read(message) for message in messages[:10]]))


def test_what_is_no_ogg_at_all_is_told_so_before_long(messages: list[bytes]) -> None:
    samples = np.random.RandomState(0).uniform(-1, 1, 1920).astype("<f4").tobytes()  # audio=pcm was forgotten
    wire = OpusWire()
    for _ in range(2):  # perhaps the end of a page
        wire.read(samples)
    with pytest.raises(ProtocolError, match=r"bytes came and no Ogg page: .* with \?audio=pcm"):
        wire.read(samples)
    wire = OpusWire()
    wire.read(messages[0])
    for _ in range(10):  # damage is another thing: the stream goes on
        assert not len(wire.read(samples))
    assert len(wire.read(messages[1]))


def test_packets_that_are_not_opus_do_not_silence_what_follows(messages: list[bytes], heard: np.ndarray) -> None:
    wire = OpusWire()
    before = [wire.read(message) for message in messages[:10]]
    for size in (1, 3, 200):
        wire.read(make_page(b"\xff" * size, 0))
    assert wire.refused
    assert len(wire.read(make_page(b"", 0))) == 0
    got = np.concatenate([*before, *(wire.read(message) for message in messages[10:])])
    assert np.corrcoef(got[-48_000:], heard[-48_000:])[0, 1] > 0.999


def test_a_writer_that_knows_only_one_lacing_value_is_understood() -> None:
    sizes = [10, 255, 300, 700, 254, 256, 510, 5]
    packets = [random.Random(size).randbytes(size) for size in sizes]
    reader = OggPackets()
    found = []
    for sequence, packet in enumerate(packets):
        page = HEADER.pack(MAGIC, 0, 0, 0, 42, sequence, 0, 1) + bytes([min(len(packet), 255)]) + packet
        page = page[:22] + checksum(page).to_bytes(4, "little") + page[26:]
        found += reader.add(page)
    assert found == packets
    assert reader.mended == 4
    assert reader.skipped == 0


def test_a_packet_may_go_on_in_the_next_page_but_not_over_a_gap() -> None:
    packet = random.Random(0).randbytes(600)

    def page(sequence: int, flags: int, lacing: list[int], body: bytes) -> bytes:
        raw = HEADER.pack(MAGIC, 0, flags, 0, 7, sequence, 0, len(lacing)) + bytes(lacing) + body
        return raw[:22] + checksum(raw).to_bytes(4, "little") + raw[26:]

    first, second = page(5, 0, [3, 255], b"abc" + packet[:255]), page(6, 1, [255, 90, 2], packet[255:] + b"de")
    assert OggPackets().add(first + second) == [b"abc", packet, b"de"]
    late = page(8, 1, [255, 90, 2], packet[255:] + b"de")
    assert OggPackets().add(first + late) == [b"abc", b"de"]


def test_memory_and_work_are_bounded() -> None:
    reader = OggPackets()
    for _ in range(50):
        reader.add(make_page(b"x" * 60_000, 0)[:30_000])
        assert len(reader._rest) <= 27 + 255 + 255 * 255
    for sequence in range(20):  # a packet that never ends
        raw = HEADER.pack(MAGIC, 0, int(sequence > 0), 0, 7, sequence, 0, 255) + b"\xff" * 255 + bytes(255 * 255)
        reader.add(raw[:22] + checksum(raw).to_bytes(4, "little") + raw[26:])
        assert len(reader._part or b"") <= 0xFFFF
    many = b"".join(make_page(b"\xfb\x06", sequence) for sequence in range(2000))  # each says 120 ms
    with pytest.raises(ProtocolError, match="more than 4 s of audio"):
        OpusWire().read(many)


def test_the_work_of_reading_is_counted_and_comes_in_slices(messages: list[bytes]) -> None:
    """Bytes say little about it: of 64 kB, a clean stream takes a fiftieth of what beginnings of pages take."""
    beginnings = HEADER.pack(MAGIC, 0, 0, 0, 1, 1, 0, 255) * 2300  # each says that it has the next 20 kB or so
    for message, most in ((b"".join(messages[:40]), 700), (beginnings, 10_000)):
        wire = OpusWire()
        works = [0]
        with suppress(ProtocolError):
            for _ in wire.slices(message):
                works.append(wire.work)
        assert len(works) > 8
        assert max(np.diff(works)) <= 200
        assert 0.3 * most < works[-1] <= most
    assert wire.pages.wasted > 100 * len(beginnings)


def test_a_stream_nobody_listens_to_is_followed_and_not_decoded(messages: list[bytes]) -> None:
    wire = OpusWire()
    for message in messages[:10]:
        assert not sum(map(len, wire.slices(message, decode=False)))
    assert sum(len(wire.read(message)) for message in messages[10:12]) > 0
    with pytest.raises(ProtocolError, match="FLAC"):
        list(OpusWire().slices(make_page(b"\x7fFLAC and so on", 0), decode=False))
