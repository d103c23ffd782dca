"""Where the files of a model are: what a person calls it, to a folder or a repository on the hub.

A name is an alias, a hub repository, a folder, one weights file, or "hf://owner/name/file".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.hub import HubRepo, fetch, parse_repo, parse_uri
from moshi_mlx.errors import CheckpointError, DownloadError, fetch_again

FIRST = {
    f"{voice}-{kind}": f"kyutai/{voice}-mlx-{kind}"
    for voice in ("moshiko", "moshika")
    for kind in ("q4", "q8", "bf16")
}  # not all of them have a config.json
ALIASES = FIRST | {
    "personaplex": "nvidia/personaplex-7b-v1",
    "personaplex-rl": "kyutai/personaplex-rl-seamless",
    "stt-1b": "kyutai/stt-1b-en_fr-mlx",
    "stt-2.6b": "kyutai/stt-2.6b-en-mlx",
    "hibiki-1b": "kyutai/hibiki-1b-mlx-bf16",
    "hibiki-2b": "kyutai/hibiki-2b-mlx-bf16",
    "hibiki-zero": "kyutai/hibiki-zero-3b-pytorch-bf16",
    "tts-1.6b": "kyutai/tts-1.6b-en_fr",
    "tts-0.75b": "kyutai/tts-0.75b-en-public",
}
DEFAULT_MODEL = "moshiko-q4"
DEFAULT_STT_MODEL = "stt-1b"
DEFAULT_TRANSLATOR = "hibiki-1b"
DEFAULT_SPEAKER = "tts-1.6b"


class Place(Protocol):
    """Where the files of a checkpoint are: a folder or a hub repository."""

    def fetch(self, filename: str) -> Path:
        """Return the file's path, downloaded where needed. Raises CheckpointError if there is none."""
        ...

    def find(self, filename: str) -> Path | None:
        """Return the file's path as `fetch`, None if the place has no such file."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder on this machine."""

    path: Path

    def fetch(self, filename: str) -> Path:
        if path := self.find(filename):
            return path
        raise CheckpointError(f"{self.path} has no file {filename}; a model folder needs it")

    def find(self, filename: str) -> Path | None:
        path = self.path / filename
        if os.path.islink(path) and not os.path.exists(path):
            raise CheckpointError(
                f"{path} is a link to {os.readlink(path)}, which is not there; {fetch_again(path)}"
            )
        return path if os.path.isfile(path) else None

    def __str__(self) -> str:
        return str(self.path)


def find_place(name: str, offline: bool) -> tuple[Place, str | None]:
    """Return where a checkpoint is, and the weights file that its name picks already.

    Raises CheckpointError for a name that means nothing.
    """
    if name in nano.EMBEDDED:
        return Folder(nano.EMBEDDED[name]), None
    if name in ALIASES:
        return HubRepo(ALIASES[name], None, offline), None
    if name.startswith("hf://"):
        repo, revision, file = parse_uri(name)
        return HubRepo(repo, revision, offline), file
    path = os.path.expanduser(name.removeprefix("file://"))
    if name and os.path.isdir(path):  # os.path's own tests: they say no to what the system refuses to look at
        return Folder(Path(path)), None
    if os.path.isfile(path):
        return Folder(Path(path).parent), os.path.basename(path)
    if name.startswith(("file://", "/", ".", "~")) or name.endswith(".safetensors"):
        raise CheckpointError(f"{name} does not exist; give a model folder, a weights file or a hub repository")
    try:
        return HubRepo(*parse_repo(name), offline), None
    except DownloadError as error:
        known = ", ".join([*ALIASES, *nano.EMBEDDED])
        raise CheckpointError(
            f"there is no model {name!r}: one of {known}, a hub repository (owner/name) or a folder expected"
        ) from error


def locate(place: Place, name: str, offline: bool) -> Path:
    """Find the file that a config names: "hf://owner/name/file", "file://path", an absolute path, or the place's.

    Raises CheckpointError if it is not there.
    """
    if name.startswith("hf://"):
        repo, revision, file = parse_uri(name)
        return fetch(repo, file, revision, offline)
    if name.startswith("file://") or os.path.isabs(name):
        path = os.path.expanduser(name.removeprefix("file://"))
        if not os.path.isfile(path):
            raise CheckpointError(f"{path} does not exist")
        return Path(path)
    return place.fetch(name)
