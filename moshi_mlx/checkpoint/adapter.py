"""From what a person calls a LoRA adapter to its file, config and the model it was made for.

Source of names and defaults: moshi-finetune, finetune/checkpointing.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.names import find_place, locate
from moshi_mlx.errors import CheckpointError, ConfigError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.config_reader import read_json, shown
from moshi_mlx.weights.adapter import LARGEST, Adapter

LORA_NAME = "lora.safetensors"
_KEYS = ("lora", "lora_rank", "lora_scaling", "lora_name")


def with_adapter(checkpoint: Checkpoint, name: str | None, *, offline: bool = False) -> Checkpoint:
    """Return a checkpoint whose model is loaded with an adapter on it; without a name, as it is.

    Arguments and errors as in `find_adapter`.
    """
    return replace(checkpoint, adapter=find_adapter(name, checkpoint, offline=offline)) if name else checkpoint


def find_adapter(
    name: str, checkpoint: Checkpoint, *, scaling: float | None = None, offline: bool = False
) -> Adapter:
    """Find a LoRA adapter and the config beside it, and check both against the model it is for.

    name: folder, file or hub repository. scaling: unless given, what the adapter's config says.
    Raises CheckpointError or ConfigError.
    """
    place, own_file = find_place(name, offline)
    if place.find("adapter_config.json"):
        of_mlx_lm = place.find("adapters.safetensors")
        kind = "mlx-lm (adapters.safetensors)" if of_mlx_lm else "PEFT (adapter_config.json)"
        raise CheckpointError(
            f"{place} is an adapter of {kind}, whose names and scaling differ from Kyutai's; adapters of "
            "moshi-finetune (lora.safetensors beside config.json) are read"
        )
    file = place.find("config.json")
    own = read_json(file) if file else {}
    if not isinstance(own.get("lora_name"), str | None):
        raise ConfigError(f"config field 'lora_name' is {shown(own['lora_name'])}: a file name expected")
    path = locate(place, own_file or own.get("lora_name") or LORA_NAME, offline)
    if scaling is None:
        scaling = own.get("lora_scaling")
        if not isinstance(scaling, int | float) or isinstance(scaling, bool):
            where = f"{file} says no lora_scaling" if file else f"there is no config.json beside {path}"
            raise ConfigError(f"{where}; give --lora-scaling (moshi-finetune's default is 2)")
    if not abs(scaling) <= LARGEST:  # NaN is not below anything, and a whole number may be too large for a float
        raise ConfigError(f"the adapter's scaling is {shown(scaling)}: a number that float32 holds expected")
    _check_same_base(own, checkpoint, path)
    return Adapter(path, float(scaling), checkpoint.lm_config)


def _check_same_base(own: Mapping[str, Any], checkpoint: Checkpoint, path: Path) -> None:
    """Raise CheckpointError if an adapter's config is not its base's, with the adapter's keys added."""
    config = checkpoint.lm_config
    if own.get("dim") is not None:
        theirs = LmConfig.from_dict({key: value for key, value in own.items() if key not in _KEYS})
        if theirs != config:
            different = [key for key in vars(config) if getattr(theirs, key) != getattr(config, key)]
            raise CheckpointError(
                f"{path} was made for another base: its config differs from this model's in {some(different)}"
            )
    ids = own.get("model_id"), checkpoint.settings.get("model_id")
    if all(ids) and ids[0] != ids[1]:
        raise CheckpointError(f"{path} was made for another base: model_id {ids[0]}, but this model's is {ids[1]}")
