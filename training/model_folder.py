"""What lies in the folder of a model that is trained here, and what belongs to its weights."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint import nano

MODEL, TOKENIZER = "model.safetensors", "tokenizer.model"
MIMI, MIMI_CONFIG = "mimi.safetensors", "mimi_config.json"
START, LM_FOLDER = "start", "lm"  # in a work folder: what training begins with, and what it has learned
LEARNED = "consolidated.safetensors"  # there, the weights
OWN_CODEC = {"mimi_name": MIMI, "mimi_config_name": MIMI_CONFIG}
"""Of a folder that has its codec beside it, as `config.json` names its files."""
CODEC = {"mimi_name": nano.FOLDER / MIMI, "mimi_config_name": nano.FOLDER / MIMI_CONFIG}
"""Of the Nano in the package, likewise."""
MOST_BYTES = 6_000_000  # of a model that lies in the package beside Nano


def write_around(
    folder: Path, config: Mapping[str, Any], tokenizer: bytes, codec: Mapping[str, str], quantization: Any = None
) -> None:
    """Write what belongs to the weights. codec: its files, as `config.json` names them."""
    (folder / TOKENIZER).write_bytes(tokenizer)
    settings = {**config, "moshi_name": MODEL, **codec, "tokenizer_name": TOKENIZER}
    if quantization:
        settings["quantization"] = quantization
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")


def codec_at(folder: Path | None = None) -> dict[str, str]:
    """The codec in the package, as the `config.json` of a folder in the package names it; else by whole paths."""
    return {name: os.path.relpath(path, folder) if folder else str(path) for name, path in CODEC.items()}


def tensors(path: Path) -> dict[str, mx.array]:
    """The tensors of a file by their names, in float32."""
    stored = mx.load(str(path))
    assert isinstance(stored, dict)
    return {name: array.astype(mx.float32) for name, array in stored.items()}


def size_of(folder: Path) -> int:
    """The bytes of a model, its card left out. Raises ValueError if it is too large for the package."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    if size > MOST_BYTES:
        raise ValueError(f"{folder} has {size} bytes, more than {MOST_BYTES}")
    return size
