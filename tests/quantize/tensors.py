"""What a file would list of a model in memory."""

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.layers import parameters
from moshi_mlx.weights.safetensors import TensorInfo

NAMES = {mx.uint32: "U32", mx.uint8: "U8", mx.float32: "F32", mx.bfloat16: "BF16"}


def tensors_of(model: nn.Module) -> dict[str, TensorInfo]:
    return {name: TensorInfo(NAMES[array.dtype], array.shape) for name, array in parameters(model).items()}
