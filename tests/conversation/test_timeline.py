"""The picture of a conversation is SVG that shows every word where it was said."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.conversation.timeline import Track, draw, save
from moshi_mlx.errors import AudioFileError

SVG = "{http://www.w3.org/2000/svg}"


def tracks() -> list[Track]:
    time = np.arange(48_000) / 24_000
    loud = (0.5 * np.sin(2 * np.pi * 200 * time) * (time > 1)).astype(np.float32)
    return [Track("you", loud, [(1.0, "5 < 6 & so"), (1.9, "on")]), Track("moshi", loud[:24_000], [])]


def texts(svg: str) -> dict[str, float]:
    return {node.text or "": float(node.get("x", 0)) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")}


def test_words_stand_at_their_times() -> None:
    found = texts(draw(tracks()))
    second = found["2 s"] - found["1 s"]
    assert found["on"] - found["5 < 6 & so"] == pytest.approx(0.9 * second, abs=0.2)
    assert found["5 < 6 & so"] == pytest.approx(found["1 s"], abs=3)
    assert {"you", "moshi"} <= set(found)


def test_the_waveform_is_wide_where_it_is_loud() -> None:
    svg = ElementTree.fromstring(draw(tracks()))
    outline = next(iter(svg.iter(f"{SVG}path"))).get("d", "")
    points = [tuple(map(float, point.split(","))) for point in outline.strip("MZ ").split(" L")]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    middle = (left + right) / 2
    quiet = [y for x, y in points if x < middle - 4]
    loud = [y for x, y in points if x > middle + 4]
    assert max(quiet) - min(quiet) < 2
    assert max(loud) - min(loud) == pytest.approx(45, abs=1)  # half of full scale


def test_words_that_come_quickly_do_not_overlap() -> None:
    quick = [(0.1 * index, "wonderful") for index in range(3)]
    svg = ElementTree.fromstring(draw([Track("you", np.zeros(24_000, np.float32), quick)]))
    rows = [node.get("y") for node in svg.iter(f"{SVG}text") if node.text == "wonderful"]
    assert len(set(rows)) == 3


def test_nothing_said_is_a_picture_too() -> None:
    ElementTree.fromstring(draw([Track("you", np.zeros(0, np.float32), [])]))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"cannot write .*none/x\.svg: No such file"):
        save(tmp_path / "none" / "x.svg", tracks())
