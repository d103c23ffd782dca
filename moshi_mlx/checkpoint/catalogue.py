"""The models that are on this machine, in the package and in the hub's cache; how they come and go.

The cache's layout is that of huggingface_hub: models--OWNER--NAME/{refs, blobs, snapshots/COMMIT/FILE}.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.download import RemoteFile
from moshi_mlx.checkpoint.hub import (
    HubRepo,
    NotCachedError,
    computed_sha256,
    fetch,
    recorded_sha256,
    survey,
)
from moshi_mlx.checkpoint.names import ALIASES, find_place
from moshi_mlx.checkpoint.settings import CONFIG_NAME, LM_KWARGS_NAME
from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.planning.planner import size_of
from moshi_mlx.weights.key_map import read_any
from moshi_mlx.weights.safetensors import read_header, shard_names


@dataclass(frozen=True)
class Model:
    """A model on this machine.

    name: what `--model` takes. nbytes: on the disk, partial files included. used: seconds of the epoch when a file
    of it was last read, None for models in the package. problem: why it is incomplete, "" if it is complete.
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
    """Return the models that are here, those in the package first, then by name. The network is never asked."""
    own = [Model(name, None, folder, bytes_in(folder)[0], None, "") for name, folder in nano.EMBEDDED.items()]
    return [*own, *sorted(_cached_models(), key=lambda model: model.name)]


def cached_models(repos: Mapping[str, str]) -> dict[str, int]:
    """Return alias -> bytes in the hub's cache, of those `repos` (alias -> "owner/name") that are complete."""
    folders = dict(_cached_repos())
    return {
        alias: bytes_in(folders[repo])[0]
        for alias, repo in repos.items()
        if repo in folders and not missing_part(repo)
    }


def missing_part(name: str) -> str:
    """Say what a model lacks on this machine, "" if all files are there, the headers of its weights whole."""
    try:
        found = Checkpoint.find(name, offline=True)
        read_any(found.lm_weights)
        read_header(found.mimi_weights)
    except NotCachedError as error:
        return f"{error.file} is not here"
    except MoshiError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Plan:
    """What it takes to have a model here. files: all of them, each in its place. missing: those to fetch."""

    name: str
    files: tuple[Path, ...]
    missing: tuple[RemoteFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        coming = {remote.path for remote in self.missing}
        return self.to_come + sum(path.stat().st_size for path in self.files if path not in coming)

    @property
    def to_come(self) -> int:
        """Bytes of the files that are not whole here."""
        return sum(remote.nbytes for remote in self.missing)

    @property
    def to_fetch(self) -> int:
        """Bytes that are still to come over the network: what was begun goes on."""
        return self.to_come - sum(remote.here for remote in self.missing)


def plan(name: str) -> Plan:
    """Ask the hub what a model is made of, and what of it is not here; fetches its configs only.

    Raises as `Checkpoint.find`.
    """
    with survey() as asked:
        found = Checkpoint.find(name)
    files = files_of(found)
    return Plan(name, files, tuple({one.path: one for one in asked if one.path in files}.values()))


def describe(name: str) -> dict[str, Any]:
    """Say what a model on this machine is, for people and programs; None for what does not apply.

    Raises CheckpointError for a model that is not here, or lacks a file without which nothing can be said.
    """
    place, _ = find_place(name, offline=True)
    repo = place.repo if isinstance(place, HubRepo) else None
    if repo:
        cached_folder(repo)
    found = Checkpoint.find(name, offline=True)
    files = files_of(found)
    stored = sum(tensor.end - tensor.begin for tensor in read_any(found.lm_weights).values())
    config, size = found.lm_config, size_of(found.lm_config.as_stored)
    return {
        "name": name,
        "repository": repo,
        "folder": str(found.lm_weights.parent),
        "problem": missing_part(name) or None,
        "bytes": sum(path.stat().st_size for path in files),
        "parameters": size.stored,
        "bits_per_weight": round(8 * stored / size.stored, 2),
        "codebooks": config.n_q,
        "text_tokens": config.text_card,
        "window": config.transformer.context,
        "task": _task(found),
        "conditions": {name: list(values) for name, values in config.named_conditions.items()} or None,
        "persona": config.takes_prompt or None,
        "captions": None if config.depth else True,
        "pauses": None if config.depth else config.extra_heads > 0,
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": recorded_sha256(path)} for path in files
        ],
    }


def _task(found: Checkpoint) -> str:
    """Which command plays it: talk (chat, run, serve), translate, say or transcribe."""
    if found.lm_config.tts:
        return "say"
    return "translate" if found.translates else "talk" if found.lm_config.depth else "transcribe"


def files_of(found: Checkpoint) -> tuple[Path, ...]:
    """Return the files of a checkpoint: weights with their shards, codec, tokenizer, configs."""
    weights = [found.lm_weights, *(found.lm_weights.with_name(name) for name in shard_names(found.lm_weights))]
    configs = [found.lm_weights.with_name(name) for name in (CONFIG_NAME, LM_KWARGS_NAME)]
    others = [found.mimi_weights, found.tokenizer, found.mimi_config_file, *filter(Path.is_file, configs)]
    return tuple(dict.fromkeys([*weights, *(path for path in others if path)]))


def get(wanted: Plan, advance: Callable[[int], None]) -> None:
    """Fetch what a plan lacks. advance: as in `hub.fetch`, for `to_come` bytes in all.

    Raises DownloadError; what has come stays, and the next time goes on from there.
    """
    for remote in wanted.missing:
        fetch(remote.repo, remote.filename, remote.revision, advance=advance)
    if problem := missing_part(wanted.name):
        raise CheckpointError(problem)


def drop_damaged(files: Iterable[Path], advance: Callable[[int], None]) -> list[Path]:
    """Read files of the cache whole, and drop those whose content is not what its name, a SHA-256, says.

    advance: is told of bytes as they are read. Returns the paths that were dropped.
    """
    dropped = []
    for path in files:
        said = recorded_sha256(path)
        if said and computed_sha256(path, advance) != said:
            path.resolve().unlink()
            for link in (path, path.parent / os.readlink(path)):
                link.unlink(missing_ok=True)
            dropped.append(path)
    return dropped


def remove(name: str) -> None:
    """Remove a model from the hub's cache, or one revision of it (NAME@REVISION), with what was begun of it.

    Blobs that other revisions or repositories share stay. Raises CheckpointError for what is not in the cache.
    """
    from huggingface_hub import scan_cache_dir

    repo, revision = repo_of(name)
    folder = cached_folder(repo)
    scanned = scan_cache_dir()
    known = [one for one in scanned.repos if one.repo_type == "model" and one.repo_id == repo]
    commits = [one for found in known for one in found.revisions]
    if revision:
        commits = [one for one in commits if revision in one.refs or one.commit_hash.startswith(revision)]
        if not commits:
            raise CheckpointError(f"{repo} has no revision {revision} here; `moshi-mlx models info` says what is")
    if commits:
        # Of this repository alone: the library would delete the commit in every one, and a copy has the same.
        replace(scanned, repos=frozenset(known)).delete_revisions(*(one.commit_hash for one in commits)).execute()
    if not revision:
        for place in (folder, folder.parent / ".locks" / folder.name):
            shutil.rmtree(place, ignore_errors=True)
    if not revision and folder.exists():
        raise CheckpointError(f"{folder} cannot be removed whole; see to its permissions")


def repo_of(name: str) -> tuple[str, str | None]:
    """Return the repository on the hub that a name means, and its revision.

    Raises CheckpointError for what is on no hub.
    """
    place, _ = find_place(name, offline=True)
    if isinstance(place, HubRepo):
        return place.repo, place.revision
    what = "comes with the package" if name in nano.EMBEDDED else "is a folder of yours"
    raise CheckpointError(f"{name} {what}: only models of the hub's cache come and go with `moshi-mlx models`")


def cached_folder(repo: str) -> Path:
    """Return where the cache keeps a repository. Raises CheckpointError if it does not."""
    for known, folder in _cached_repos():
        if known == repo:
            return folder
    raise CheckpointError(f"{repo} is not in {cache_folder()}; `moshi-mlx models list` says what is")


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
            nbytes, used = bytes_in(folder)
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


def bytes_in(folder: Path) -> tuple[int, float | None]:
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
