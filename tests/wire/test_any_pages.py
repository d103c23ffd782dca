"""Ogg pages and messages of any content, whole, cut anywhere, or damaged."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.wire import messages
from moshi_mlx.wire.audio import PcmWire
from moshi_mlx.wire.ogg import MAGIC, OggPackets, make_page
from tests.anything import json_values

sizes = st.one_of(st.integers(1, 40), st.sampled_from([254, 255, 256, 509, 510, 511, 1275]))
packets = st.builds(lambda size, fill: (fill * size)[:size], sizes, st.binary(min_size=1, max_size=40))
streams = st.lists(packets, max_size=8)


def pages_of(stream: list[bytes], first: int = 0) -> list[bytes]:
    return [make_page(packet, first + index) for index, packet in enumerate(stream)]


@given(stream=streams, first=st.integers(0, 2**32 - 9))
def test_a_page_a_message_gives_its_packet_whatever_it_holds(stream: list[bytes], first: int) -> None:
    reader = OggPackets()
    assert [reader.add(page) for page in pages_of(stream, first)] == [[packet] for packet in stream]
    assert (reader.skipped, reader.mended) == (0, 0)


@given(stream=streams, cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_pages_may_be_cut_anywhere(stream: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pages_of([packet.replace(MAGIC[:1], b"-") for packet in stream]))
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    reader = OggPackets()
    found = [packet for start, end in pairwise(places) for packet in reader.add(data[start:end])]
    assert found == [packet.replace(MAGIC[:1], b"-") for packet in stream]


@given(stream=st.lists(packets, min_size=2, max_size=8), data=st.data())
def test_a_damaged_page_costs_no_other_its_packet(stream: list[bytes], data: st.DataObject) -> None:
    pages = pages_of(stream)
    hit = data.draw(st.integers(0, len(pages) - 1))
    place = data.draw(st.integers(0, len(pages[hit]) - 1))
    change = data.draw(st.binary(max_size=30))
    damaged = pages[hit][:place] + change + pages[hit][place + data.draw(st.integers(0, 30)) :]
    reader = OggPackets()
    found = [reader.add(damaged if index == hit else page) for index, page in enumerate(pages)]
    for index, packet in enumerate(stream):
        if index != hit:
            assert packet in found[index]


@given(parts=st.lists(st.one_of(st.binary(max_size=60), st.just(MAGIC), packets.map(lambda p: make_page(p, 0)))))
def test_any_bytes_give_no_more_than_they_hold(parts: list[bytes]) -> None:
    reader = OggPackets()
    found = [packet for part in parts for packet in reader.add(part)]
    size = sum(map(len, parts))
    assert sum(map(len, found)) <= size
    assert 0 <= reader.skipped <= size


@given(payload=st.binary(max_size=200))
def test_raw_audio_of_any_length_is_samples(payload: bytes) -> None:
    pcm = PcmWire().read(payload)
    assert (pcm.dtype, len(pcm)) == (np.float32, len(payload) // 4)
    assert PcmWire().write(pcm) == payload[: len(pcm) * 4] or np.isnan(pcm).any()


@given(fields=st.dictionaries(st.text("abc_", min_size=1, max_size=6), json_values, max_size=4), piece=st.text())
def test_messages_say_what_they_were_given(fields: dict, piece: str) -> None:
    said = messages.metadata(**fields)
    assert said[0] == messages.Kind.METADATA
    assert repr(json.loads(said[1:])) == repr(fields)
