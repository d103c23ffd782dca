"""The header of a GGUF file: the tensors of Kyutai's -candle-q8 repositories.

Numbers are little-endian; a string is its length in 8 bytes and UTF-8; shapes stand innermost first.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import IO

from moshi_mlx.errors import CheckpointError, fetch_again
from moshi_mlx.weights.int8 import BLOCK, Int8Matrix
from moshi_mlx.weights.safetensors import ITEM_BYTES, TensorInfo

MAGIC = b"GGUF"
Q8_0 = 8
_TYPES = {0: "F32", 1: "F16", 30: "BF16"}
_NAMES = {2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"}
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type
_ALIGNMENT = "general.alignment"
_MOST = 1 << 20  # tensors, entries or bytes of a name


def read_gguf(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a file by name, without reading them; those in Q8_0 as an `Int8Matrix`.

    Raises CheckpointError if the file is something else, is cut short, or has tensors of another type.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise CheckpointError(f"{path} is not a GGUF file; {fetch_again(path)}")
            tensors = _tensors(file, path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a GGUF file: its header is damaged; {fetch_again(path)}") from error
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if end > size:
        raise CheckpointError(f"{path} is cut short: {size:,} bytes, {end:,} expected; {fetch_again(path)}")
    return tensors


def _tensors(file: IO[bytes], path: Path) -> dict[str, TensorInfo]:
    version, count, entries = _numbers(file, "<IQQ")
    if version not in (2, 3) or max(count, entries) > _MOST:
        raise ValueError(f"version {version} with {count} tensors")
    alignment = 32
    for _ in range(entries):
        name = _string(file)
        value = _value(file, *_numbers(file, "<I"))
        if name == _ALIGNMENT and value:
            alignment = int.from_bytes(value, "little")
    if not alignment:
        raise ValueError("tensors aligned to 0 bytes")
    listed = []
    for _ in range(count):
        name, dimensions = _string(file), _numbers(file, "<I")[0]
        if dimensions > 8:
            raise ValueError(f"{dimensions} dimensions")
        shape = tuple(reversed(_numbers(file, f"<{dimensions}Q")))
        listed.append((name, shape, *_numbers(file, "<IQ")))
    start = -(-file.tell() // alignment) * alignment
    return {name: _tensor(name, shape, kind, start + offset, path) for name, shape, kind, offset in listed}


def _tensor(name: str, shape: tuple[int, ...], kind: int, begin: int, path: Path) -> TensorInfo:
    if kind == Q8_0 and len(shape) == 2 and shape[1] % BLOCK == 0 and name.endswith("weight"):
        return Int8Matrix("F32", shape, begin, begin + math.prod(shape) // BLOCK * (BLOCK + 2), path)
    if kind not in _TYPES:
        raise CheckpointError(
            f"{path}: {name} is of GGUF's type {_NAMES.get(kind, kind)}, of which only Q8_0 matrices are read; "
            "use a Q8_0 file or an MLX checkpoint such as kyutai/moshiko-mlx-q4"
        )
    dtype = _TYPES[kind]
    return TensorInfo(dtype, shape, begin, begin + ITEM_BYTES[dtype] * math.prod(shape), path)


def _numbers(file: IO[bytes], form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _string(file: IO[bytes]) -> str:
    (length,) = _numbers(file, "<Q")
    if length > _MOST:
        raise ValueError(f"a name of {length} bytes")
    return file.read(length).decode()


def _value(file: IO[bytes], kind: int) -> bytes:
    """Pass over a value of the metadata. Returns its bytes if it is a number."""
    if kind == _STRING:
        (length,) = _numbers(file, "<Q")
        file.seek(length, 1)
        return b""
    if kind != _ARRAY:
        return file.read(_SIZES[kind])
    inner, count = _numbers(file, "<IQ")
    if inner in _SIZES:
        file.seek(count * _SIZES[inner], 1)
        return b""
    for _ in range(min(count, _MOST)):
        _value(file, inner)
    return b""
