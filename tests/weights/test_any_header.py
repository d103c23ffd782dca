"""Whatever stands in a safetensors file: its tensors lie inside it, or it is refused in one line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.errors import CheckpointError
from moshi_mlx.weights import safetensors
from moshi_mlx.weights.safetensors import ITEM_BYTES, TensorInfo, header_bytes, read_header
from tests.anything import json_values, numbers, one_line

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
tensors = st.builds(
    TensorInfo, st.sampled_from(list(ITEM_BYTES)), st.lists(st.integers(0, 5), max_size=3).map(tuple)
)
layouts = st.dictionaries(names.filter(lambda name: name != "__metadata__"), tensors, max_size=5)
shapes = st.one_of(st.lists(numbers, max_size=3), json_values)
offsets = st.one_of(st.lists(st.integers(-2, 64), min_size=2, max_size=2), json_values)
dtypes = st.one_of(st.sampled_from(list(ITEM_BYTES)), json_values)
entries = st.fixed_dictionaries({}, optional={"dtype": dtypes, "shape": shapes, "data_offsets": offsets})
headers = st.one_of(json_values, st.dictionaries(names, st.one_of(entries, json_values), max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def read_or_refuse(path: Path) -> None:
    try:
        found = read_header(path)
    except CheckpointError as refused:
        one_line(refused)
        return
    for tensor in found.values():
        assert all(type(number) is int and number >= 0 for number in tensor.shape)
        assert 8 <= tensor.begin <= tensor.end <= path.stat().st_size
        assert tensor.nbytes == tensor.end - tensor.begin
    spans = sorted((tensor.begin, tensor.end) for tensor in found.values() if tensor.nbytes)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@given(layout=layouts)
def test_what_was_written_is_read(folder: Path, layout: dict[str, TensorInfo]) -> None:
    path = folder / "written.safetensors"
    body = bytes(sum(tensor.nbytes for tensor in layout.values()))
    path.write_bytes(header_bytes(layout, {"format": "mlx"}) + body)
    found = read_header(path)
    assert {name: str(tensor) for name, tensor in found.items()} == {
        name: str(tensor) for name, tensor in layout.items()
    }
    for tensor in found.values():
        if tensor.shape:
            rows = safetensors.read_rows(tensor)
            assert rows.shape == tensor.shape
            assert not rows.any()


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "bytes.safetensors"
    path.write_bytes(content)
    read_or_refuse(path)


@given(header=headers, body=st.binary(max_size=80))
def test_any_header_is_read_or_refused(folder: Path, header: Any, body: bytes) -> None:
    path = folder / "header.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    read_or_refuse(path)


@pytest.mark.parametrize("header", ["[" * 100_000, '{"a":' * 100_000])
def test_a_header_without_an_end_to_its_brackets_is_refused(folder: Path, header: str) -> None:
    path = folder / "deep.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(CheckpointError, match="is not a safetensors file: its header is damaged"):
        read_header(path)


@given(layout=layouts, place=st.integers(0, 400), change=st.binary(min_size=1, max_size=9))
def test_a_damaged_file_is_read_or_refused(
    folder: Path, layout: dict[str, TensorInfo], place: int, change: bytes
) -> None:
    path = folder / "damaged.safetensors"
    whole = header_bytes(layout, {"format": "mlx"}) + bytes(sum(tensor.nbytes for tensor in layout.values()))
    place %= len(whole)
    path.write_bytes(whole[:place] + change + whole[place + len(change) :])
    read_or_refuse(path)


@given(index=st.one_of(json_values, st.fixed_dictionaries({"weight_map": st.dictionaries(names, json_values)})))
def test_any_index_of_shards_is_refused_while_its_shards_are_not_there(folder: Path, index: Any) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError) as refused:
        safetensors.read_tensors(path)
    one_line(refused.value)
