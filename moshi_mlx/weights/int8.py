"""Matrices that other programs store in int8, held as MLX's layers of 8 bits: the numbers stay exactly the same.

bitsandbytes (Kyutai's -pytorch-q8 repositories) has int8 levels in `weight` and beside it `weight_scb`, the
largest number of each row: a weight is level * scb / 127. GGUF's Q8_0 has blocks of a float16 scale and 32 levels:
a weight is level * scale. MLX has unsigned levels: level * scale = (level + 128) * scale - 128 * scale.
Source: moshi/utils/quantize.py `QLinear`; ggml's `block_q8_0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from moshi_mlx.errors import CheckpointError, fetch_again
from moshi_mlx.weights.safetensors import TensorInfo

SCB = "_scb"
GROUPS = (128, 64, 32)  # the largest that divides a row costs the fewest bytes
BLOCK = 32  # weights to a scale in Q8_0
_BLOCK = np.dtype([("scale", "<f2"), ("levels", "i1", (BLOCK,))])


@dataclass(frozen=True)
class Int8Matrix(TensorInfo):
    """A matrix of int8 levels: its shape is that of the weights, which are float32 when read.

    scb: the tensor of bitsandbytes' scales; None for blocks of Q8_0.
    """

    made = True
    scb: TensorInfo | None = None

    @property
    def group(self) -> int | None:
        """How many weights share a scale as a layer of MLX; None for rows that MLX cannot divide into groups."""
        return next((size for size in GROUPS if self.shape[-1] % size == 0), None) if self.scb else BLOCK

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows of weights as float32."""
        levels, scales = self.levels(start, stop)
        rows = levels.reshape(*scales.shape, -1) * scales.astype(np.float32)[..., None]
        return rows.reshape(levels.shape)

    def levels(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Read rows of levels, (n, width) int8, and their scales, (n, 1) float32 or (n, width / 32) float16."""
        if self.scb:
            stored = replace(_plain(self), dtype="I8")
            return stored.read(start, stop), (self.scb.read(start, stop) / np.float32(127))[:, None]
        width = self.shape[-1] // BLOCK * _BLOCK.itemsize
        blocks = replace(_plain(self), dtype="U8", shape=(self.shape[0], width)).read(start, stop).view(_BLOCK)
        return blocks["levels"].reshape(len(blocks), -1), blocks["scale"]

    def as_mlx(self, key: str) -> dict[str, TensorInfo]:
        """Return the tensors of the layer in MLX: key -> what reads as it. key: of this matrix, "….weight"."""
        assert self.group, self.shape
        rows, width = self.shape
        scales = "F32" if self.scb else "F16", (rows, width // self.group)
        beside = key[: -len(".weight")]  # or "_weight"
        wanted = {key: ("U32", (rows, width // 4)), f"{beside}.scales": scales, f"{beside}.biases": scales}
        return {
            name: Int8Part(dtype, shape, self.begin, self.end, self.path, of=self, leaf=leaf)
            for leaf, (name, (dtype, shape)) in zip(("weight", "scales", "biases"), wanted.items(), strict=True)
        }


@dataclass(frozen=True)
class Int8Part(TensorInfo):
    """One tensor of a layer in MLX, which is made of a matrix whenever it is read. leaf: its name there."""

    made = True
    of: Int8Matrix = Int8Matrix("F32", (0, 0))
    leaf: str = "weight"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows of this tensor."""
        levels, scales = self.of.levels(start, stop)
        if self.leaf == "weight":
            return np.ascontiguousarray(levels.view(np.uint8) ^ 0x80).view(np.uint32)
        scales = np.broadcast_to(scales, (len(levels), self.shape[1]))
        return scales if self.leaf == "scales" else scales * scales.dtype.type(-128)


def from_bitsandbytes(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return the tensors of a file, levels and their scales as one `Int8Matrix`.

    Raises CheckpointError for levels without scales or scales without levels.
    """
    found = dict(tensors)
    for name in [name for name in tensors if name.endswith(SCB)]:
        scb, key = found.pop(name), name.removesuffix(SCB)
        weight = tensors.get(key)
        if not weight or weight.dtype != "I8" or (scb.dtype, scb.shape) != ("F32", weight.shape[:1]):
            raise CheckpointError(
                f"{scb.path}: {name} is {scb} and {key} {weight or 'is missing'}; int8 levels and a float32 scale "
                f"to a row expected, {fetch_again(scb.path)}"
            )
        found[key] = Int8Matrix("F32", weight.shape, weight.begin, weight.end, weight.path, scb=scb)
    return found


def _plain(tensor: Int8Matrix) -> TensorInfo:
    return TensorInfo(tensor.dtype, tensor.shape, tensor.begin, tensor.end, tensor.path)
