"""Tensors in PyTorch's own files (`torch.save`), read without running what they may hold. No PyTorch, no MLX.

A file is a zip archive with a pickle, which is a program, and the bytes of the tensors. Only the few names that
tensors consist of are looked up here, each is a plain object of ours, and anything else is refused.
Source: torch/serialization.py, torch/_utils.py `_rebuild_tensor_v2`.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from moshi_mlx.errors import CheckpointError
from moshi_mlx.weights.safetensors import from_bits

LARGEST = 1 << 28  # bytes of one file, unpacked: a voice takes half a megabyte

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
}  # fmt: skip


def read_torch_file(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a dictionary: floating ones as float32, others as int64. name: for messages.

    Raises CheckpointError, in one line, for all that is no dictionary of tensors.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise CheckpointError(f"{name} unpacks to more than {LARGEST >> 20} MiB, which no voice has")
            program = next((entry for entry in archive.namelist() if entry.endswith("/data.pkl")), None)
            if program is None:
                raise CheckpointError(f"{name} is not a file of torch.save: it has no data.pkl")
            folder = program.removesuffix("data.pkl")
            found = _Tensors(archive.read(program), archive, folder).load()
    except _NotATensor as error:
        raise CheckpointError(
            f"{name} holds {error}, which is no tensor; such a file could run any program, so it is not read"
        ) from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{name} is not a file of torch.save ({error})") from error
    except CheckpointError:
        raise
    except Exception as error:  # a pickle can fail in any way; none of them is ours
        raise CheckpointError(f"{name} cannot be read as a file of tensors ({error!r})") from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{name} holds a {type(found).__name__}; a dictionary of tensors expected")
    return {str(key): tensor for key, tensor in found.items() if isinstance(tensor, np.ndarray)}


class _NotATensor(Exception):
    """A pickle asks for something that tensors do not consist of."""


class _Tensors(pickle.Unpickler):
    """Runs a pickle in which nothing can be called but `_Rebuild` and an empty OrderedDict."""

    def __init__(self, program: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(program))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return name
        raise _NotATensor(f"{module}.{name}"[:80])

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, storage, key, _, count = pid
        if kind != "storage" or storage not in _STORAGES:
            raise _NotATensor(f"{storage}"[:80])
        values = np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), _STORAGES[storage])
        if len(values) < count:
            raise ValueError(f"{len(values)} values of {count}")
        return _Storage(values, storage)


class _Storage:
    """The values that tensors are views of."""

    __slots__ = ("kind", "values")

    def __init__(self, values: np.ndarray, kind: str) -> None:
        self.values, self.kind = values, kind


class _Rebuild:
    """Makes an array of a part of a storage; what else PyTorch gives with it does not matter here."""

    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> np.ndarray:
        values = storage.values
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min((offset, *shape, *strides)) < 0 or last >= len(values) or int(np.prod(shape)) > len(values):
            raise ValueError(f"a tensor {shape} outside its {len(values)} values")
        item = values.itemsize
        view = np.lib.stride_tricks.as_strided(values[offset:], shape, [stride * item for stride in strides])
        if storage.kind == "BFloat16Storage":
            return from_bits(view)
        return view.astype(np.float32 if view.dtype.kind == "f" else np.int64)
