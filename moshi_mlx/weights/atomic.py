"""Files and folders that appear under their name only when they are whole."""

import os
import re
import shutil
from pathlib import Path


class AtomicPath:
    """A place beside a path, to be written to; it gets the path's name when all is there.

    As a context manager it gives the place, keeps it at the end of the block, and discards it if the block raises.
    Raises OSError where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def keep(self) -> None:
        """Give the place its name; a file, or a folder if a folder was written, of that name is replaced."""
        if not (self.part.is_dir() and self.path.is_dir() and any(self.path.iterdir())):
            self.part.replace(self.path)
            return
        old = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
        self.path.rename(old)
        try:
            self.part.rename(self.path)
        except OSError:
            old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written. Does nothing after `keep`."""
        if self.part.is_dir():
            shutil.rmtree(self.part, ignore_errors=True)
        else:
            self.part.unlink(missing_ok=True)

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self.keep()
        finally:
            self.discard()


def remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed have left beside a path."""
    for other in path.parent.iterdir():
        found = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)\.(part|old)", other.name)
        # Killed while replacing, a process may leave the only copy as "old".
        if found and not _is_running(int(found[1])) and (found[2] == "part" or path.exists()):
            shutil.rmtree(other, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
