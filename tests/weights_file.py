"""The weights of a checkpoint's folder, changed for a test."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx


def rewrite(path: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    """Change the tensors of a file, as a mapping of names to arrays, in place."""
    arrays: dict[str, mx.array] = dict(mx.load(str(path)))  # type: ignore[arg-type]
    mx.eval(arrays)
    change(arrays)
    mx.save_safetensors(str(path), arrays)
