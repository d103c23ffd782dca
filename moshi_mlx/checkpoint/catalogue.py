"""The models that are on this machine: in the package, and in the hub's cache, whole or in part.

The cache's layout is that of huggingface_hub: models--OWNER--NAME/{refs, blobs, snapshots/COMMIT/FILE}.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.hub import NotCachedError
from moshi_mlx.checkpoint.names import ALIASES
from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.weights.safetensors import read_header, read_tensors

PARTIAL = ".incomplete"
"""What the name of a file ends in until all of it is there; huggingface_hub's word."""


@dataclass(frozen=True)
class Model:
    """A model on this machine.

    name: what `--model` takes. nbytes: on the disk, partial files included. used: seconds of the epoch when a file
    of it was last read, None for the model in the package. problem: why it is incomplete, "" if it is complete.
    """

    name: str
    repo: str | None
    folder: Path
    nbytes: int
    used: float | None
    problem: str

    @property
    def complete(self) -> bool:
        """Whether everything is there, the headers of its weights whole."""
        return not self.problem


def models() -> list[Model]:
    """Return the models that are here, Nano first, then by name. The network is never asked."""
    own = Model(nano.NAME, None, nano.FOLDER, _bytes_in(nano.FOLDER)[0], None, "")
    return [own, *sorted(_cached_models(), key=lambda model: model.name)]


def cached_models(repos: Mapping[str, str]) -> dict[str, int]:
    """Return alias -> bytes in the hub's cache, of those `repos` (alias -> "owner/name") that are complete."""
    folders = dict(_cached_repos())
    return {
        alias: _bytes_in(folders[repo])[0]
        for alias, repo in repos.items()
        if repo in folders and not missing_part(repo)
    }


def missing_part(name: str) -> str:
    """Say what a model lacks on this machine, "" if all files are there, the headers of its weights whole."""
    try:
        found = Checkpoint.find(name, offline=True)
        read_tensors(found.lm_weights)
        read_header(found.mimi_weights)
    except NotCachedError as error:
        return f"{error.file} is not here"
    except MoshiError as error:
        return str(error)
    return ""


def cache_folder() -> Path:
    """Return where downloads go; the home folder where huggingface_hub is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return Path.home()
    return Path(constants.HF_HUB_CACHE)


def free_disk() -> tuple[Path, int]:
    """Return where downloads go, and how many bytes are free there."""
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    return cache, shutil.disk_usage(there).free


def _cached_models() -> Iterator[Model]:
    names = {repo: alias for alias, repo in ALIASES.items()}
    for repo, folder in _cached_repos():
        if repo in names or _is_of_the_family(folder):
            nbytes, used = _bytes_in(folder)
            yield Model(names.get(repo, repo), repo, folder, nbytes, used, missing_part(repo))


def _cached_repos() -> Iterator[tuple[str, Path]]:
    """Give the repositories of models in the hub's cache, and their folders; nothing where there is no cache."""
    try:
        folders = sorted(cache_folder().glob("models--*--*"))
    except OSError:  # not ours to read
        return
    for folder in folders:
        owner, name, *others = folder.name.removeprefix("models--").split("--")
        if not others:  # a repository's name has none
            yield f"{owner}/{name}", folder


def _is_of_the_family(folder: Path) -> bool:
    """Whether a cached repository has a config of Kyutai's kind: other programs' models lie in the same cache."""
    for config in folder.glob("snapshots/*/config.json"):
        try:
            settings = read_json(config)
        except (CheckpointError, ConfigError):
            continue
        if "dim" in settings and "card" in settings:
            return True
    return False


def _bytes_in(folder: Path) -> tuple[int, float | None]:
    """Return the bytes of a model's files, each counted once, and when one was last read."""
    seen: dict[Path, tuple[int, float]] = {}
    places = [place for name in ("blobs", "snapshots") if (place := folder / name).is_dir()] or [folder]
    for path in (path for place in places for path in place.rglob("*")):
        try:
            real = path.resolve()
            if real.is_file():
                status = real.stat()
                seen[real] = status.st_size, status.st_atime
        except OSError:  # removed meanwhile, or not ours to read
            continue
    return sum(size for size, _ in seen.values()), max((read for _, read in seen.values()), default=None)
