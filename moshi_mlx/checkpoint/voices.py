"""The voices that come with a checkpoint, and others in files: what PersonaPlex has heard of a speaker.

A voice holds `embeddings`, what the model read at the voice's positions, and `cache`, the latest tokens of all its
streams. NVIDIA packs its voices into one archive, which is read here where it lies: nothing is unpacked.
Source: NVIDIA's fork of moshi, models/lm.py `load_voice_prompt_embeddings`, server.py `_get_voice_prompt_dir`.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from moshi_mlx.checkpoint.names import Folder, Place, find_place
from moshi_mlx.errors import CheckpointError, fetch_again, some, system_errors
from moshi_mlx.weights.safetensors import from_bits, read_header, read_rows
from moshi_mlx.weights.torch_file import LARGEST, read_torch_file

ARCHIVE = "voices.tgz"
FOLDER = "voices"
KINDS = (".pt", ".safetensors")


@dataclass(frozen=True, eq=False)
class Voice:
    """What a model has heard of a speaker.

    embeddings: (E, dim) float32, the inputs of E positions.
    cache: (1 + n_q, slots) int64, the tokens of the latest positions; those of position p stand in slot p % slots.
    """

    embeddings: np.ndarray
    cache: np.ndarray


class Voices:
    """The voices of a checkpoint, by name. checkpoint: what `--model` takes."""

    def __init__(self, checkpoint: str, offline: bool = False) -> None:
        self._checkpoint, self._offline = checkpoint, offline

    @property
    def names(self) -> list[str]:
        """What they are called. Raises CheckpointError for an archive that cannot be read."""
        return sorted(self._readers)

    def read(self, name: str) -> Voice:
        """Return a voice. name: such as "NATF2", or as clients say, "NATF2.pt". Raises CheckpointError."""
        found = self._readers.get(PurePosixPath(name).stem if name.endswith(KINDS) else name)
        if found is None:
            known = f"it has {some(self.names, 30)}" if self._readers else f"it has none, for want of {ARCHIVE}"
            raise CheckpointError(f"{self._checkpoint} has no voice {name[:40]!r}: {known}; or give a file")
        return found()

    @property
    def archive(self) -> Path | None:
        """The file that holds them, where there is one."""
        return self._place.find(ARCHIVE)

    @cached_property
    def _place(self) -> Place:
        return find_place(self._checkpoint, self._offline)[0]

    @cached_property
    def _readers(self) -> dict[str, Callable[[], Voice]]:
        found: dict[str, Callable[[], Voice]] = {}
        if isinstance(self._place, Folder) and (folder := self._place.path / FOLDER).is_dir():
            for path in folder.iterdir():
                if path.suffix in KINDS:
                    found[path.stem] = lambda path=path: read_voice(path)
        if archive := self.archive:
            for name, data in _unpacked(archive).items():
                label = f"{archive}: {name}"
                found.setdefault(
                    PurePosixPath(name).stem,
                    lambda data=data, label=label: _voice(read_torch_file(data, label), label),
                )
        return found


def read_voice(path: Path) -> Voice:
    """Read a voice's file, .pt or .safetensors. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        tensors = {name: tensor for name, tensor in read_header(path).items() if name in ("embeddings", "cache")}
        arrays = {name: read_rows(tensor) for name, tensor in tensors.items()}
        return _voice(
            {name: from_bits(one) if tensors[name].dtype == "BF16" else one for name, one in arrays.items()},
            str(path),
        )
    with system_errors(f"cannot read {path}", CheckpointError):
        if path.stat().st_size > LARGEST:
            raise CheckpointError(f"{path} has more than {LARGEST >> 20} MiB, which no voice has")
        data = path.read_bytes()
    return _voice(read_torch_file(data, str(path)), str(path))


def _unpacked(archive: Path) -> dict[str, bytes]:
    """Return the voices in an archive, by the names of its files, which are never written anywhere."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                hidden = PurePosixPath(member.name).name.startswith(".")
                if not member.isfile() or not member.name.endswith(".pt") or hidden:
                    continue
                if member.size > LARGEST or sum(map(len, found.values())) > LARGEST:
                    raise CheckpointError(
                        f"{archive} unpacks to more than {LARGEST >> 20} MiB, which no voices have"
                    )
                file = tar.extractfile(member)
                assert file, member.name
                found[member.name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"cannot read {archive} ({error}); {fetch_again(archive)}") from error
    return found


def _voice(tensors: dict[str, np.ndarray], name: str) -> Voice:
    """Check that arrays are a voice."""
    if missing := {"embeddings", "cache"} - tensors.keys():
        raise CheckpointError(f"{name} has no {sorted(missing)[0]!r}; a voice has 'embeddings' and 'cache'")
    embeddings, cache = tensors["embeddings"], tensors["cache"]
    if (
        embeddings.ndim < 2
        or not embeddings.size
        or cache.ndim != 3
        or len(cache) != 1
        or embeddings.size != len(embeddings) * embeddings.shape[-1]
    ):
        raise CheckpointError(
            f"{name}: embeddings {embeddings.shape} and cache {cache.shape} are not those of a voice"
        )
    embeddings = embeddings.reshape(len(embeddings), -1).astype(np.float32)
    if not np.isfinite(embeddings).all():
        raise CheckpointError(f"{name}: the embeddings hold NaN or infinities")
    return Voice(embeddings, cache[0].astype(np.int64))
