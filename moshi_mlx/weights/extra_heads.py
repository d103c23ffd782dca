"""Voice activity heads of a file that is not the model's own.

Kyutai publishes those of stt-1b only in the repository for its Rust program (candle), beside a copy of the model.
"""

import re
from pathlib import Path

import mlx.core as mx

from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.safetensors import read_header


def add_extra_heads(lm: Lm, path: Path) -> None:
    """Read `extra_heads.{i}.weight` of a file, nothing else of it, and add them to a model that has none.

    Raises CheckpointError if the model has some, and if the file has none, or those of another model.
    """
    if lm.config.extra_heads:
        raise CheckpointError(f"this model has voice activity heads of its own; leave {path} out")
    tensors = read_header(path)
    matches = [match for name in tensors if (match := re.fullmatch(r"extra_heads\.(\d+)\.weight", name))]
    found = {int(match[1]): match[0] for match in matches}
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(
            f"{path} holds no voice activity heads (extra_heads.0.weight and so on); those of stt-1b are in "
            "hf://kyutai/stt-1b-en_fr-candle/model.safetensors"
        )
    names = [found[index] for index in sorted(found)]
    dim, shapes = lm.config.transformer.dim, {tensors[name].shape for name in names}
    if len(shapes) > 1 or any(len(shape) != 2 or shape[1] != dim for shape in shapes):
        raise CheckpointError(
            f"{path}: {names[0]} has shape {list(tensors[names[0]].shape)}, [classes, {dim}] expected; "
            "it belongs to another model"
        )
    file = mx.load(str(path), format="safetensors")  # lazy: only the heads are read
    assert isinstance(file, dict)
    weights = [file[name] for name in names]
    lm.add_extra_heads(weights)
    mx.eval(lm.extra_heads)
