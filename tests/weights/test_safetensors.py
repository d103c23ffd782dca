"""Reading headers of good and bad files; writing tensor by tensor."""

import json
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open

from moshi_mlx.errors import CheckpointError
from moshi_mlx.weights.safetensors import LARGEST, MOST_AXES, TensorInfo, read_header, read_rows, same_bytes, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file written by MLX."""
    path = tmp_path / "model.safetensors"
    arrays = {"a": mx.arange(12).reshape(3, 4), "b": mx.ones((5,), mx.bfloat16), "c": mx.array(2.0)}
    mx.save_safetensors(
        str(path), arrays | {"d": arrays["a"], "e": arrays["a"] + 1, "f": arrays["a"].reshape(4, 3)}
    )
    return path


def test_a_header_is_what_the_safetensors_library_reads(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        expected = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in read_header(path).items()} == expected


def test_positions_point_at_the_values(path: Path) -> None:
    tensor = read_header(path)["a"]
    assert np.frombuffer(path.read_bytes()[tensor.begin : tensor.end], np.int32).tolist() == list(range(12))


def test_rows_are_read_where_they_are(path: Path) -> None:
    tensors = read_header(path)
    assert read_rows(tensors["a"]).tolist() == np.arange(12).reshape(3, 4).tolist()
    assert read_rows(tensors["a"], 1, 3).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert read_rows(tensors["b"], 4).tolist() == [0x3F80]  # bfloat16 as its bits


def test_a_file_that_shrinks_while_it_is_read_is_noticed(path: Path) -> None:
    tensor = read_header(path)["f"]
    os.truncate(path, tensor.end - 1)
    with pytest.raises(CheckpointError, match=r"model\.safetensors ended while it was read"):
        read_rows(tensor)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*: No such file"):
        read_rows(tensor)


def test_equal_and_different_tensors_are_told_apart_also_piece_by_piece(path: Path) -> None:
    tensors = read_header(path)
    for piece in (1, 7, 1 << 20):
        assert same_bytes(tensors["a"], tensors["d"], piece)
        assert not same_bytes(tensors["a"], tensors["e"], piece)
    assert not same_bytes(tensors["a"], tensors["b"])
    assert not same_bytes(tensors["a"], tensors["f"]), "the same bytes in another shape"


def test_mlx_and_safetensors_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    layout = {"x": TensorInfo("F32", (2, 3)), "y": TensorInfo("BF16", (4,)), "z": TensorInfo("U32", (1, 1))}
    arrays = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.full(4, 0x3F80, np.uint16),
        np.array([[7]], np.uint32),
    ]
    write(path, layout, arrays)
    loaded = mx.load(str(path))
    assert isinstance(loaded, dict)
    assert loaded["x"].tolist() == arrays[0].tolist()
    assert loaded["y"].dtype == mx.bfloat16
    assert loaded["y"].tolist() == [1.0] * 4
    assert loaded["z"].tolist() == [[7]]
    with safe_open(path, framework="np") as file:
        assert file.get_tensor("x").tolist() == arrays[0].tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


def test_a_failed_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    path.write_text("old")

    def broken():
        yield np.zeros(2, np.float32)
        raise OSError(28, "No space left on device")

    layout = {"x": TensorInfo("F32", (2,)), "y": TensorInfo("F32", (2,))}
    with pytest.raises(CheckpointError, match=r"cannot write .*out\.safetensors: No space left on device"):
        write(path, layout, broken())
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]
    assert path.read_text() == "old"


def header(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


PAIR = {name: {"dtype": "F32", "shape": [2], "data_offsets": [at, at + 8]} for name, at in (("a", 0), ("b", 8))}


def empty(shape: list[int]) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    "content",
    [
        header(__metadata__={"format": "mlx"}, **PAIR) + bytes(16),
        header(__metadata__=None, **PAIR) + bytes(16),
        header(**PAIR, c=empty([0]), d={**PAIR["a"], "data_offsets": [20, 28]}) + bytes(28),
        header(a=empty([0, LARGEST - 1])),
        header(a=empty([0] * MOST_AXES)),
    ],
)
def test_what_is_odd_but_whole_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "a" in read_header(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Please log in</html>", r"is a web page \(HTML\)"),
        (b"\n  <html>" + b" " * 600, r"is a web page \(HTML\)"),
        (b"GGUF" + bytes(100), "is a GGUF file, not safetensors; give it a name that ends in .gguf"),
        (b"PK\x03\x04" + bytes(100), "is a PyTorch pickle"),
        (b"\x80\x02\x8a\x0al\xfc\x9c" + bytes(100), "is a PyTorch pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
        (bytes(4096), "holds only zeros"),
        (b"abc", "is not a safetensors file"),
        (b"hello, this is a note", "is not a safetensors file"),
        ((10**6).to_bytes(8, "little") + b'{"a":', "cut short within its header"),
        ((9).to_bytes(8, "little") + b"not json!", "its header is damaged"),
        ((4).to_bytes(8, "little") + b"[12]", "its header is damaged"),
        (header(a={"dtype": "F32", "shape": [2]}), "its header is damaged"),
        (header(a={"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}) + bytes(8), "its header is damaged"),
        (header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}) + bytes(8), "its header is damaged"),
        (header(a={"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}) + bytes(8), "its header is damaged"),
        (header(__metadata__=["mlx"], **PAIR) + bytes(16), "its __metadata__ is not a group of texts"),
        (header(__metadata__={"format": 5}, **PAIR) + bytes(16), "its __metadata__ is not a group of texts"),
        (header(**PAIR | {"b": {**PAIR["b"], "data_offsets": [7, 15]}}) + bytes(16), "a and b overlap"),
        (header(**PAIR | {"b": {**PAIR["b"], "data_offsets": [0, 8]}}) + bytes(16), "a and b overlap"),
        (header(a=empty([0, LARGEST])), "its header is damaged"),
        (header(a=empty([0] * (MOST_AXES + 1))), "its header is damaged"),
        (
            header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}) + bytes(7),
            r"is cut short: \d+ bytes, \d+ expected",
        ),
    ],
)  # fmt: skip
def test_what_is_no_whole_safetensors_file_is_called_what_it_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_header(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot read .*: (No such file|Is a directory)"):
            read_header(path)
