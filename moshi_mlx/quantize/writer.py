"""Writing a model folder: the weights of a checkpoint by a recipe, and all that belongs to them.

The folder is made under another name beside its place and renamed when it is whole and was found good; whatever
ends the writing early leaves nothing under the name asked for.
"""

import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.voices import ARCHIVE, Voices
from moshi_mlx.errors import CheckpointError, DownloadError, QuantizationError
from moshi_mlx.models.config import PERSONA, LmConfig
from moshi_mlx.quantize import card
from moshi_mlx.quantize.card import Made
from moshi_mlx.quantize.quantizer import Conversion, DenseReader, conversion, converted
from moshi_mlx.weights.adapter import Adapter
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.progress import Progress, progress_bar
from moshi_mlx.weights.quantization import Recipe
from moshi_mlx.weights.safetensors import write_tensors

CONFIG = "config.json"
_DROPPED = ("lora", "lora_rank", "lora_scaling", "lora_name", "quantize", "quantization", "quantization_config")
_MARGIN = 1 << 20  # bytes for config, card and headers


def check_free(folder: Path, force: bool = False) -> None:
    """Raise CheckpointError if a checkpoint may not be made at a place, so before anything is fetched."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise CheckpointError(f"{folder} exists and is no folder; choose another place")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise CheckpointError(f"{folder} exists; choose another place, or --force to replace it")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a model folder (no {CONFIG}); --force replaces nothing else")


def make_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    recipe: Recipe,
    *,
    lora: Adapter | None = None,
    requantize: bool = False,
    force: bool = False,
    shard_bytes: int | None = None,
    importance: Mapping[str, np.ndarray] | None = None,
    quality: Mapping[str, Any] | None = None,
    title: str | None = None,
    progress: Progress = None,
) -> Made:
    """Write `checkpoint` in the precision of `recipe` as a model folder.

    lora: an adapter to merge first. requantize: quantize also what is quantized already. force: replace a model
    folder. shard_bytes: the most one weights file may hold. importance: calibrates levels, see
    `quantizer.converted`. quality: figures for the model card. title: what the card calls it; the folder's name
    unless given. progress: see `progress.Progress`.
    Raises CheckpointError or QuantizationError.
    """
    begin = time.monotonic()
    folder = Path(os.path.abspath(folder))
    check_free(folder, force)
    _check_apart(checkpoint, folder)
    wanted = conversion(checkpoint.lm_config, recipe)
    if checkpoint.scheme and wanted.schemes and not requantize:
        raise QuantizationError(
            f"{checkpoint.name} is already quantized, {checkpoint.scheme}: start from the bfloat16 model, "
            "or --requantize to lose precision twice"
        )
    others = _other_files(checkpoint)
    voices = _voices(checkpoint)
    total = wanted.nbytes + sum(path.stat().st_size for path in (*others.values(), *([voices] if voices else ())))
    with AtomicPath(folder, CheckpointError) as part:
        part.mkdir(parents=True)
        _check_space(folder, total)
        with progress_bar(f"making {folder.name}", total, progress) as advance:
            source = DenseReader(checkpoint.weights, lora)
            tensors = _counted(converted(wanted, source, importance), advance)
            names = {"moshi_name": write_tensors(part, wanted.layout, tensors, shard_bytes)}
            for key, path in others.items():
                names[key] = _copy(path, part, key)
                advance(path.stat().st_size)
        if voices:
            _copy(voices, part, ARCHIVE)
        settings = _settings(checkpoint, wanted, names)
        (part / CONFIG).write_text(json.dumps(settings, indent=1), encoding="utf-8")
        made = Made(
            folder=folder,
            base=checkpoint.name,
            title=title or folder.name,
            recipe=recipe.name,
            schemes=dict(Counter(map(str, wanted.schemes.values())).most_common()),
            weights=wanted.nbytes,
            bits_per_weight=8 * wanted.nbytes / sum(map(math.prod, source.shapes.values())),
            dense=wanted.dense,
            undivided=wanted.undivided,
            files={path.name: path.stat().st_size for path in sorted(part.iterdir())},
            lora=lora.path.name if lora else "",
            notes=(*checkpoint.choices, *source.notes),
        )
        (part / card.NAME).write_text(card.card(made, quality), encoding="utf-8")
        Checkpoint.resolve(part, offline=True)  # what cannot be loaded is not handed over
    return replace(made, seconds=time.monotonic() - begin)


def _other_files(checkpoint: Checkpoint) -> dict[str, Path]:
    """Return what a checkpoint needs besides its weights: key of the config -> file."""
    files = {"mimi_name": checkpoint.mimi_weights, "tokenizer_name": checkpoint.tokenizer}
    if checkpoint.mimi_config_file:
        files["mimi_config_name"] = checkpoint.mimi_config_file
    return files


def _voices(checkpoint: Checkpoint) -> Path | None:
    """Return the archive of a checkpoint's voices, if it has one and that is on this machine."""
    if checkpoint.lm_config.takes_prompt:
        with suppress(DownloadError):
            return Voices(checkpoint.name, offline=True).archive
    return None


def _copy(path: Path, folder: Path, key: str) -> str:
    """Copy a file into a folder, under another name if its own is taken; return the name."""
    taken = (*os.listdir(folder), CONFIG, card.NAME)
    name = f"{key}-{path.name}" if path.name in taken else path.name
    shutil.copyfile(path, folder / name)
    return name


def _settings(checkpoint: Checkpoint, wanted: Conversion, names: Mapping[str, str]) -> dict[str, Any]:
    """Return config.json: the source's, with the files and the quantization that are here."""
    kept = {key: value for key, value in checkpoint.settings.items() if key not in _DROPPED}
    settings = {**kept, "mimi_config_name": None, **names, **_written_steps(checkpoint.lm_config)}
    if wanted.block:
        settings["quantization"] = wanted.block
    return {key: value for key, value in settings.items() if value is not None or key in kept}


def _written_steps(config: LmConfig) -> dict[str, Any]:
    """Return what config.json says of depth steps where not all that the source stores are written."""
    depth = config.depth
    if not depth or depth.schedule == depth.stored_schedule:
        return {}
    plain = depth.schedule == tuple(range(depth.steps))
    schedule = None if plain else list(depth.schedule)
    # Without the steps for the user's codebooks nothing else would say that it takes prompts.
    return {"dep_q": depth.steps, "depformer_weights_per_step_schedule": schedule, "model_type": PERSONA}


def _counted(items: Iterator[np.ndarray], advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    for array in items:
        yield array
        advance(array.nbytes)


def _check_apart(checkpoint: Checkpoint, folder: Path) -> None:
    place = folder.resolve()
    for path in (checkpoint.lm_weights, checkpoint.mimi_weights, checkpoint.tokenizer):
        if place in (path.resolve(), *path.resolve().parents):
            raise CheckpointError(f"{path} lies in {folder}, which would be replaced; choose another place")


def _check_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < need + _MARGIN:
        raise CheckpointError(
            f"{folder} needs {need / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free there; "
            "free some, or choose another place"
        )
