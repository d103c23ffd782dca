"""Weights as bfloat16, whatever they are stored as, read by rows."""

from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.lora import Lora
from moshi_mlx.weights.key_map import Source
from moshi_mlx.weights.lm_weights import LmWeights, parameters
from moshi_mlx.weights.safetensors import TensorInfo, all_finite, from_bits, read_rows, to_bits


class DenseSource:
    """The parameters of a checkpoint under their MLX names: dense, and with an adapter merged."""

    def __init__(self, weights: LmWeights, lora: Lora | None = None) -> None:
        self.weights, self.lora = weights, lora
        self.shapes = dense_shapes(weights.config)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of a parameter, the bits (uint16) of bfloat16.

        Raises CheckpointError for files that end too early and for weights that are no numbers.
        """
        shape = self.shapes[name]
        stop = shape[0] if stop is None else stop
        path = name.rpartition(".")[0]
        source = self.weights.stored(name)
        stored = self.weights.tensors[source.key]
        adapted = self.lora is not None and self.lora.touches(name)
        if name.endswith(".weight") and path in self.weights.schemes:
            wide = self._dequantized(path, start, stop)
        else:
            rows = _stored_rows(stored, source, shape, start, stop)
            if stored.dtype == "BF16" and not adapted:
                return _checked(rows, stored, source.key)
            wide = from_bits(rows) if stored.dtype == "BF16" else rows.astype(np.float32)
        if self.lora is not None and adapted:
            wide = self.lora.merge(name, wide, start)
        with np.errstate(over="ignore", invalid="ignore"):
            return _checked(to_bits(wide), stored, source.key)

    def quantized_rows(self, name: str) -> np.ndarray:
        """A tensor of a quantized layer as it is stored; scales and biases as the bits of bfloat16."""
        stored = self.weights.tensors[name]
        rows = read_rows(stored)
        return to_bits(rows) if stored.dtype in ("F32", "F16") else rows

    def _dequantized(self, path: str, start: int, stop: int) -> np.ndarray:
        """float32 rows of a quantized layer."""
        scheme, tensors = self.weights.schemes[path], self.weights.tensors
        parts = [
            _as_mlx(read_rows(tensors[key], start, stop), tensors[key].dtype)
            for key in (f"{path}.weight", f"{path}.scales", f"{path}.biases")
            if key in tensors
        ]
        if scheme.mode == "affine":
            parts[1:] = [part.astype(mx.float32) for part in parts[1:]]
        dense = mx.dequantize(*parts, group_size=scheme.group_size, bits=scheme.bits, mode=scheme.mode)
        return np.array(dense.astype(mx.float32))


def dense_shapes(config: LmConfig) -> Mapping[str, tuple[int, ...]]:
    """The shapes of all parameters that are not quantized, by their MLX names."""
    return {name: array.shape for name, array in parameters(Lm(config)).items()}  # lazy: never evaluated


def _stored_rows(tensor: TensorInfo, source: Source, shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    if source.flat:
        return read_rows(tensor).reshape(shape)[start:stop]
    begin = source.part * shape[0]
    return read_rows(tensor, begin + start, begin + stop)


def _as_mlx(array: np.ndarray, dtype: str) -> mx.array:
    return mx.array(array).view(mx.bfloat16) if dtype == "BF16" else mx.array(array)


def _checked(bits: np.ndarray, tensor: TensorInfo, key: str) -> np.ndarray:
    if not all_finite(bits):
        raise CheckpointError(f"{tensor.path}: {key} holds infinities or NaN; the file is damaged, fetch it again")
    return bits
