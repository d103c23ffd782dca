"""The voices of text-to-speech models: vectors of a speaker, or a recording, in a file or among Kyutai's.

Kyutai keeps its voices in a repository of its own, the vectors under names that end in the model's.
Source: moshi/models/tts.py `TTSModel.get_voice_path`, `make_condition_attributes`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.catalogue import cached_folder
from moshi_mlx.checkpoint.hub import fetch
from moshi_mlx.checkpoint.names import Folder, locate
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.weights.safetensors import from_bits, read_header, read_rows

VOICES = "kyutai/tts-voices"
DEFAULT_VOICE = "expresso/ex03-ex01_happy_001_channel1_334s.wav"
RECORDINGS = (".wav", ".flac", ".mp3", ".ogg")
VECTORS = "speaker_wavs"  # the tensor of a voice's file


def find_voice(
    name: str, settings: Mapping[str, Any], by_vectors: bool, repo: str = VOICES, offline: bool = False
) -> Path:
    """Return the file of a voice.

    name: a file here, "hf://owner/name/file", or the name of a voice in `repo`. settings: of the model's config.
    by_vectors: whether the model takes vectors; else recordings.
    Raises CheckpointError (DownloadError for the hub) or ConfigError.
    """
    ending = ".safetensors"
    if os.path.isfile(name) or name.startswith(("hf://", "file://", "/", ".", "~")):
        path = locate(Folder(Path()), name if not name.startswith("~") else os.path.expanduser(name), offline)
        if by_vectors and path.suffix != ending:
            raise ConfigError(
                f"{path} is no voice of this model, which takes vectors ({ending}): what makes them of recordings "
                f"is not published; take one of {VOICES}"
            )
        return path
    if by_vectors and not name.endswith(ending):
        if not (suffix := _suffix(settings)):
            raise ConfigError("the config has no 'model_id', by which voices are named; give the file of a voice")
        name += suffix
    return fetch(repo, name, offline=offline)


def cached_voices(repo: str, settings: Mapping[str, Any], by_vectors: bool) -> list[str]:
    """Return the names of voices that the hub's cache has for a model, sorted; arguments as in `find_voice`."""
    try:
        snapshots = cached_folder(repo) / "snapshots"
    except CheckpointError:
        return []
    endings = (_suffix(settings),) if by_vectors else RECORDINGS
    found = {path.relative_to(snapshots).parts[1:] for path in snapshots.rglob("*") if path.is_file()}
    names = ("/".join(parts) for parts in found)
    return sorted(
        name[: -len(ending)] if by_vectors else name
        for name in names
        for ending in endings
        if ending and name.endswith(ending)
    )


def _suffix(settings: Mapping[str, Any]) -> str:
    """Return how the names of a model's vectors end, "" where its config does not say."""
    id = settings.get("model_id")
    if not isinstance(id, Mapping) or not {"sig", "epoch"} <= id.keys():
        return ""
    return f".{id['sig']}@{id['epoch']}.safetensors"


def read_vectors(path: Path) -> np.ndarray:
    """Read the vectors of a speaker, (T, width) float32. Raises CheckpointError."""
    tensor = read_header(path).get(VECTORS)
    if tensor is None:
        raise CheckpointError(f"{path} has no {VECTORS!r}: it is no voice of a text-to-speech model")
    array = read_rows(tensor)
    array = from_bits(array) if tensor.dtype == "BF16" else array
    if array.ndim != 3 or array.shape[0] != 1 or not array.size or not np.isfinite(array).all():
        raise CheckpointError(
            f"{path}: vectors of shape {array.shape} are no voice, (1, width, T) of numbers expected"
        )
    return array[0].T.astype(np.float32)
