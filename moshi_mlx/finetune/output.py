"""What training writes: adapters in Kyutai's layout, whole models in PyTorch's, and the state to go on from.

Source: moshi-finetune, finetune/checkpointing.py; moshi/models/loaders.py `get_lora_moshi`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.adapter import LORA_NAME
from moshi_mlx.checkpoint.checkpoint import FINE_TUNED, Checkpoint
from moshi_mlx.errors import CheckpointError
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.key_map import torch_origin, torch_shapes
from moshi_mlx.weights.safetensors import TensorInfo, to_bits, write

_ANY = "text_linear.weight"  # every model has it, under this name in every layout
CHECKPOINTS = "checkpoints"
STATE, PROGRESS, CONFIG = "state.safetensors", "progress.json", "config.json"
_OF_THE_BASE = (
    "quantize",
    "quantization",
    "quantization_config",
    "lora",
    "lora_rank",
    "lora_scaling",
    "lora_name",
)


def adapter_config(checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """Return the config.json of an adapter: its base's, and what it is."""
    base = {key: value for key, value in checkpoint.settings.items() if key not in _OF_THE_BASE}
    own = {"lora": True, "lora_rank": settings.lora_rank, "lora_scaling": settings.lora_scaling}
    return {**base, **own, "lora_name": LORA_NAME}


def stored_type(checkpoint: Checkpoint) -> str:
    """Return the type that trained weights are written in: bfloat16 unless the base's are wider."""
    return "BF16" if checkpoint.scheme or checkpoint.weights.tensors[_ANY].dtype == "BF16" else "F32"


def write_adapter(folder: Path, values: Mapping[str, mx.array], config: Mapping[str, Any], kind: str) -> None:
    """Write lora.safetensors and config.json. kind: from `stored_type`.

    values: name in PyTorch's memory -> factor as mlx-lm holds it; the file has it transposed.
    """
    layout = {name: TensorInfo(kind, value.shape[::-1]) for name, value in values.items()}
    arrays = (_bits(value.T, kind) for value in values.values())
    write(folder / LORA_NAME, layout, arrays, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def write_model(folder: Path, lm: Lm, checkpoint: Checkpoint) -> None:
    """Write consolidated.safetensors in PyTorch's published layout, with config, codec and tokenizer beside it."""
    write_weights(folder / FINE_TUNED, lm, stored_type(checkpoint))
    settings = {key: value for key, value in checkpoint.settings.items() if key not in _OF_THE_BASE}
    files = {"mimi_name": checkpoint.mimi_weights, "tokenizer_name": checkpoint.tokenizer}
    if checkpoint.mimi_config_file:
        files["mimi_config_name"] = checkpoint.mimi_config_file
    for key, path in files.items():
        shutil.copyfile(path, folder / path.name)
        settings[key] = path.name
    text = json.dumps({**settings, "moshi_name": FINE_TUNED}, indent=1)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def write_weights(path: Path, lm: Lm, kind: str) -> None:
    """Write all weights of a language model in PyTorch's published layout. kind: "F32" or "BF16"."""
    held, config = parameters(lm), lm.config
    shapes = torch_shapes({name: array.shape for name, array in held.items()}, config)
    layout = {key: TensorInfo(kind, shape) for key, shape in shapes.items()}
    write(path, layout, _stacked(held, config, layout), {"format": "pt"})


def _stacked(
    held: Mapping[str, mx.array], config: LmConfig, layout: Mapping[str, TensorInfo]
) -> Iterator[np.ndarray]:
    """Give PyTorch's tensors, whose rows may be those of all depth steps, in the order of `layout`."""
    parts: dict[str, dict[int, mx.array]] = {key: {} for key in layout}
    for name, array in held.items():
        origin = torch_origin(name, config)
        parts[origin.key].setdefault(origin.part, array)
    for key, tensor in layout.items():
        blocks = [_bits(array, tensor.dtype) for _, array in sorted(parts[key].items())]
        yield np.concatenate(blocks).reshape(tensor.shape)


def write_state(folder: Path, state: Mapping[str, mx.array], progress: Mapping[str, Any]) -> None:
    """Write what training needs to go on from here."""
    layout = {name: TensorInfo("F32", array.shape) for name, array in state.items()}
    write(folder / STATE, layout, (np.array(array) for array in state.values()))
    (folder / PROGRESS).write_text(json.dumps(progress, indent=1) + "\n", encoding="utf-8")


def _bits(array: mx.array, kind: str) -> np.ndarray:
    numbers = np.array(array.astype(mx.float32))
    return to_bits(numbers) if kind == "BF16" else numbers


class Shelf:
    """Numbered checkpoints in a folder: the newest `keep` of them, and the state to go on from in the newest."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def numbers(self) -> list[int]:
        """Return the steps that checkpoints were made after, in order."""
        if not self.folder.is_dir():
            return []
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch(r"\d{6,}", name))

    def place(self, number: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.folder / f"{number:06}"

    def newest(self) -> Path | None:
        """Return the newest checkpoint that can be gone on from, None without one."""
        places = [self.place(number) for number in reversed(self.numbers())]
        return next((place for place in places if (place / STATE).is_file()), None)

    def tidy(self) -> None:
        """Remove what is no longer kept."""
        numbers = self.numbers()
        for number in numbers[: -self._keep]:
            shutil.rmtree(self.place(number), ignore_errors=True)
        for number in numbers[-self._keep : -1]:
            (self.place(number) / STATE).unlink(missing_ok=True)


def replace_files(source: Path, target: Path) -> None:
    """Copy the files of a checkpoint, without its state, over those of a folder; each is whole at any time."""
    for path in sorted(source.iterdir(), reverse=True):  # config.json last: it makes the rest a model
        if path.name not in (STATE, PROGRESS):
            with AtomicPath(target / path.name, CheckpointError) as part:
                shutil.copyfile(path, part)
