"""Files and folders that appear under their name only when they are whole."""

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

from moshi_mlx.errors import MoshiError
from moshi_mlx.machine import is_running

LONGEST = 255 - len(".") - len(".4294967296.part")  # bytes of a name, so that one beside it can be made


class AtomicPath:
    """A place beside a path, to be written to; it gets the path's name when all is there.

    What processes that were killed have left there goes first, or comes back if it is the only copy. As a context
    manager it gives the place, keeps it at the end of the block, and discards it if the block raises.
    error: what is raised then where the system refuses; an OSError unless given.
    """

    def __init__(self, path: Path, error: type[MoshiError] | None = None) -> None:
        self.path, self._error = path, error
        self.part = _beside(path, "part")
        with contextlib.suppress(OSError):  # of a folder that is not there, writing will speak
            remove_abandoned(path)

    def keep(self) -> None:
        """Give the place its name; a file, or a folder if a folder was written, of that name is replaced."""
        if not (self.part.is_dir() and self.path.is_dir() and any(self.path.iterdir())):
            self.part.replace(self.path)
            return
        old = _beside(self.path, "old")
        self.path.rename(old)
        try:
            self.part.rename(self.path)
        except OSError:
            old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written. Does nothing after `keep`."""
        _remove(self.part)

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.keep()
        except OSError as refusal:
            error = refusal
            raise
        finally:
            self.discard()
            if self._error and isinstance(error, OSError):
                raise self._error(f"cannot write {self.path}: {error.strerror or error}") from error


def remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed have left beside a path, and put back what they had taken away."""
    for other in path.parent.iterdir():
        found = re.fullmatch(rf"\.{re.escape(_stem(path))}\.(\d+)\.(part|old)", other.name)
        if not found or is_running(int(found[1])):
            continue
        if found[2] == "old" and not path.exists():
            other.rename(path)  # killed between the two renamings of `keep`: it is the only copy
        else:
            _remove(other)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{_stem(path)}.{os.getpid()}.{kind}")


def _stem(path: Path) -> str:
    """Return a path's name; where more would be too long for a file system, what stands for it."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= LONGEST else hashlib.sha256(name).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
