"""Whose behaviour is measured: a checkpoint, perhaps with a recipe or an int8 window, or answers that are there.

Written as a checkpoint with "+" and what differs: "nano", "moshiko-bf16+q4", "nano+kv8", "nano+top_p=0.9".
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import ConfigError, DataError
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.quality.behaviour.answer import is_answered
from moshi_mlx.quality.behaviour.scene import INPUT, write_json
from moshi_mlx.quality.candidates import Candidate, dense_twin, find_candidate, load_candidate, parse_candidate
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import SamplingConfig

SETTINGS = "settings.json"


@dataclass(frozen=True)
class System:
    """A model as a person names it. checkpoint: its name; candidate: what differs from it."""

    name: str
    checkpoint: str
    candidate: Candidate

    @property
    def folder(self) -> str:
        """Return a name for the folder of its answers."""
        return folder_of(self.name)


def folder_of(name: str) -> str:
    """Return a name for the folder of a model's answers: the letters and digits of what a person calls it."""
    return re.sub(r"[^\w.+=-]+", "_", name).strip("_.") or "model"


def parse_system(text: str) -> System:
    """Read what a person wrote. Raises ConfigError for an option that does not exist."""
    name, _, rest = (text, "", "") if Path(text).exists() else text.partition("+")
    candidate = parse_candidate(rest) if rest else Candidate(text)
    if candidate.weights and not candidate.recipe:
        raise ConfigError(f"{text!r}: {candidate.weights!r} is no recipe, such as q4, q8 or mine.json")
    return System(text, name, replace(candidate, name=text))


def has_answers(folder: Path) -> bool:
    """Return whether a folder holds answers, made here or elsewhere, and no model."""
    if not folder.is_dir() or (folder / "config.json").exists():
        return False
    return any(is_answered(path.parent) for path in folder.rglob(INPUT))


def resolve_system(system: System, offline: bool = False) -> Checkpoint:
    """Find a system's checkpoint, and check what differs from it. Raises what `find_candidate` raises."""
    checkpoint = Checkpoint.resolve(system.checkpoint, offline=offline)
    config = checkpoint.lm_config
    if not config.depth or config.tts:
        raise ConfigError(f"{system.checkpoint} does not talk with people: only models that do are evaluated")
    find_candidate(system.candidate, checkpoint, offline)
    sampled = SamplingConfig(**{**asdict(checkpoint.sampling), **system.candidate.sampling})
    return replace(checkpoint, sampling=sampled)


def load_system(system: System, checkpoint: Checkpoint, codec: str = "auto", offline: bool = False) -> Moshi:
    """Load a system. On a CPU its quantized layers become dense ones of the same values, which are faster there.

    Raises what `Checkpoint` and `load_candidate` raise.
    """
    candidate = system.candidate
    if candidate.recipe:
        if mx.default_device() == mx.gpu and "activations=" not in system.name:
            candidate = replace(candidate, activations="bf16")  # as all models are played there
        lm = load_candidate(candidate, checkpoint, offline)
    else:
        lm = checkpoint.load_lm()
        widen_on_cpu(lm)
    if mx.default_device() == mx.cpu:
        dense_twin(lm)
    loaded = checkpoint.load_codec(candidate.codec or codec)
    tokenizer, sampling = checkpoint.load_tokenizer(), checkpoint.sampling
    return Moshi(lm, loaded, tokenizer, sampling, candidate.kv_bits, translates=checkpoint.translates)


def settle(folder: Path, settings: dict[str, Any]) -> None:
    """Make a folder of answers that were all made with the same settings, or go on with it.

    Raises DataError if it holds answers of others: they would be compared as if they were the same.
    """
    path = folder / SETTINGS
    if path.is_file():
        before = read_json(path, error=DataError, remedy="remove the folder, or name another one")
        for name in sorted(before.keys() | settings.keys()):
            if before.get(name) != settings.get(name):
                raise DataError(
                    f"{folder} holds answers made with {name} {before.get(name)}, not {settings.get(name)}; "
                    "name another folder with --into, or remove this one"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
