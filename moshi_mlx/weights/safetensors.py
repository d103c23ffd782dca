"""Safetensors files, one or several shards with an index: headers checked first, tensors read and written by rows.

The header is read here and not left to the loader because it answers cheaply, for a 16 GB file too, what
people get wrong: a web page saved as weights, a download cut short, another format under the right name.
Format: https://huggingface.co/docs/safetensors (8 bytes of length, JSON header, tensors back to back). An index is
what transformers and mlx-lm write: {"metadata": {"total_size": bytes}, "weight_map": {tensor: file beside it}}.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from moshi_mlx.errors import CheckpointError, fetch_again, some
from moshi_mlx.models.config_reader import LARGEST, read_json
from moshi_mlx.weights.atomic import AtomicPath

INDEX_SUFFIX = ".safetensors.index.json"
MOST_AXES = 32  # of a tensor; numpy has no more
MAX_HEADER = 100_000_000  # bytes; the format's own limit
_NUMPY = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "F8_E4M3": np.uint8, "F8_E5M2": np.uint8, "F8_E8M0": np.uint8,
    "U16": np.uint16, "I16": np.int16, "F16": np.float16, "BF16": np.uint16, "U32": np.uint32, "I32": np.int32,
    "F32": np.float32, "U64": np.uint64, "I64": np.int64, "F64": np.float64,
}  # fmt: skip
ITEM_BYTES = {name: np.dtype(kind).itemsize for name, kind in _NUMPY.items()}


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one tensor. `begin` and `end` are byte positions in the file at `path`."""

    made: ClassVar[bool] = False  # whether reading makes it of something else that the file holds
    dtype: str  # "F32", "BF16", "U32", ...
    shape: tuple[int, ...]
    begin: int = 0
    end: int = 0
    path: Path = field(default=Path(), compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in a file."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows [start, stop), as `read_rows`."""
        rows = np.empty((stop - start, *self.shape[1:]), _NUMPY[self.dtype])
        width = ITEM_BYTES[self.dtype] * math.prod(self.shape[1:])
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.begin + start * width)
                left = rows.reshape(-1).view(np.uint8).data  # a cast of the view would refuse one of no elements
                while left:
                    count = file.readinto(left)
                    if not count:
                        raise CheckpointError(f"{self.path} ended while it was read; is something changing it?")
                    left = left[count:]
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror or error}") from error
        return rows

    def __str__(self) -> str:
        return f"{list(self.shape)} {self.dtype}"


def read_tensors(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a file, or of all shards of an index. Raises CheckpointError as `read_header`."""
    if not path.name.endswith(INDEX_SUFFIX):
        return read_header(path)
    places = _weight_map(path)
    headers = {name: read_header(path.with_name(name)) for name in dict.fromkeys(places.values())}
    if lost := sorted(name for name, shard in places.items() if name not in headers[shard]):
        raise CheckpointError(f"{path} lists {some(lost)}, which its shards lack; {fetch_again(path)}")
    return {name: headers[shard][name] for name, shard in places.items()}


def shard_names(path: Path) -> list[str]:
    """Return the files that an index lists; none for a path that is not an index."""
    return sorted(set(_weight_map(path).values())) if path.name.endswith(INDEX_SUFFIX) else []


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a file by name, without reading them.

    Raises CheckpointError if the file is missing, is something else, or is shorter than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            body = file.read(length) if 2 <= length <= min(MAX_HEADER, size - 8) else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if not body:
        raise CheckpointError(f"{path} {_what_it_is(path, size)}")
    try:
        entries = json.loads(body)
        metadata = entries.pop("__metadata__", None)
        tensors = {name: _tensor(entry, 8 + length, path) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file: its header is damaged; {fetch_again(path)}"
        ) from error
    if metadata is not None and not _is_text_map(metadata):  # which MLX would say in words of its own
        raise CheckpointError(f"{path}: its __metadata__ is not a group of texts; {fetch_again(path)}")
    held = sorted((item for item in tensors.items() if item[1].nbytes), key=lambda item: item[1].begin)
    for (one, before), (other, after) in pairwise(held):
        if after.begin < before.end:
            raise CheckpointError(f"{path}: {one} and {other} overlap, its header is damaged; {fetch_again(path)}")
    end = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if end > size:
        raise CheckpointError(
            f"{path} is cut short: {size:,} bytes, {end:,} expected from its header; {fetch_again(path)}"
        )
    return tensors


def read_rows(tensor: TensorInfo, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Read rows [start, stop) of a tensor, all of them unless given; types that numpy lacks come as their bits.

    Raises CheckpointError if the file cannot be read that far.
    """
    return tensor.read(start, tensor.shape[0] if stop is None else stop)


def read_columns(tensor: TensorInfo, start: int, stop: int) -> np.ndarray:
    """Read columns [start, stop) of a matrix, as `read_rows`; of one that is as stored, these bytes alone."""
    count, width = tensor.shape
    if tensor.made:
        return np.ascontiguousarray(tensor.read(0, count)[:, start:stop])
    item = ITEM_BYTES[tensor.dtype]
    columns = np.empty((count, stop - start), _NUMPY[tensor.dtype])
    size = columns.itemsize * (stop - start)
    left = columns.reshape(-1).view(np.uint8).data
    try:
        with tensor.path.open("rb", buffering=0) as file:
            for row in range(count):
                piece = os.pread(file.fileno(), size, tensor.begin + (row * width + start) * item)
                if len(piece) != size:
                    raise CheckpointError(f"{tensor.path} ended while it was read; is something changing it?")
                left[row * size : (row + 1) * size] = piece
    except OSError as error:
        raise CheckpointError(f"cannot read {tensor.path}: {error.strerror or error}") from error
    return columns


def same_bytes(first: TensorInfo, second: TensorInfo, piece: int = 1 << 22) -> bool:
    """Return whether two tensors hold the same bytes; they are read piece by piece."""
    if first == second and (first.path, first.begin) == (second.path, second.begin):
        return True
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    with first.path.open("rb") as one, second.path.open("rb") as two:
        one.seek(first.begin)
        two.seek(second.begin)
        left = first.end - first.begin
        while left > 0:
            if one.read(min(piece, left)) != two.read(min(piece, left)):
                return False
            left -= piece
    return True


def write_tensors(
    folder: Path,
    layout: Mapping[str, TensorInfo],
    arrays: Iterator[np.ndarray],
    shard_bytes: int | None = None,
    stem: str = "model",
) -> str:
    """Write tensors as `write` does; return the name of the file that `read_tensors` takes.

    shard_bytes: the most one file may hold, header aside (a larger tensor has one of its own); None for one file.
    """
    shards = list(_split(layout, shard_bytes)) if shard_bytes else [dict(layout)]
    if len(shards) == 1:
        write(folder / f"{stem}.safetensors", layout, arrays)
        return f"{stem}.safetensors"
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write(folder / name, shard, islice(arrays, len(shard)))
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in layout.values())
    index = folder / f"{stem}{INDEX_SUFFIX}"
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1))
    return index.name


def write(
    path: Path,
    layout: Mapping[str, TensorInfo],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file tensor by tensor, so that no more than one needs to be in memory.

    layout: name -> dtype and shape. arrays: the tensors in that order; BF16 as uint16 bit patterns.
    The file appears under its name only when it is whole.
    """
    with AtomicPath(path, CheckpointError) as part, part.open("wb") as file:
        file.write(header_bytes(layout, metadata or {"format": "mlx"}))
        for (name, tensor), array in zip(layout.items(), arrays, strict=True):
            assert array.shape == tensor.shape, (name, array.shape, tensor.shape)
            assert array.itemsize == ITEM_BYTES[tensor.dtype], (name, array.dtype, tensor.dtype)
            file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())  # some file systems say only now that they are full


def header_bytes(layout: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Return what stands in a file before the tensors."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in layout.items():
        end = position + tensor.nbytes
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    return len(text).to_bytes(8, "little") + text


def to_bits(array: np.ndarray) -> np.ndarray:
    """Round numbers to the nearest bfloat16, ties to even; return their bits (uint16)."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bits(bits: np.ndarray) -> np.ndarray:
    """Return the float32 numbers that bits (uint16) of bfloat16 stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def all_finite(bits: np.ndarray) -> bool:
    """Return whether none of some bfloat16 numbers, given as bits, is infinite or NaN."""
    return not ((bits & 0x7F80) == 0x7F80).any()


def _split(layout: Mapping[str, TensorInfo], most: int) -> Iterable[dict[str, TensorInfo]]:
    shard: dict[str, TensorInfo] = {}
    size = 0
    for name, tensor in layout.items():
        if shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _weight_map(path: Path) -> dict[str, str]:
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_is_name, places.values())):
        raise CheckpointError(f"{path} is not an index of shards beside it (weight_map); {fetch_again(path)}")
    return places


def _is_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _tensor(entry: Mapping[str, Any], offset: int, path: Path) -> TensorInfo:
    (begin, end), dtype, shape = entry["data_offsets"], entry["dtype"], tuple(entry["shape"])
    if any(type(number) is not int or number < 0 for number in (begin, end, *shape)):
        raise TypeError("shapes and offsets are whole numbers")
    if len(shape) > MOST_AXES or any(number >= LARGEST for number in shape):
        raise ValueError("no array of MLX or numpy has such a shape")
    if end - begin != ITEM_BYTES[dtype] * math.prod(shape):
        raise ValueError(f"{shape} {dtype} does not fill {end - begin} bytes")
    return TensorInfo(dtype, shape, begin + offset, end + offset, path)


def _what_it_is(path: Path, size: int) -> str:
    """Return the end of a sentence that begins with the path of a file that is not safetensors."""
    if not size:
        return f"is empty; {fetch_again(path)}"
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"GGUF"):
        return "is a GGUF file, not safetensors; give it a name that ends in .gguf"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "is a PyTorch pickle, not a safetensors file; convert it with safetensors first"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run `git lfs pull` in its folder"
    if start.lstrip()[:1] == b"<":
        return f"is a web page (HTML), not a safetensors file; log in if the page asks to, and {fetch_again(path)}"
    if not start.strip(b"\0"):
        return f"holds only zeros where its header should be ({size:,} bytes); {fetch_again(path)}"
    return f"is not a safetensors file, or cut short within its header ({size:,} bytes); {fetch_again(path)}"
