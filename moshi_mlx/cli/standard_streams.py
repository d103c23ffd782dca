"""Standard input, output and error as a shell may leave them: closed, full, or with nobody at the other end.

A descriptor that is closed would be given to the next file that is opened, and what is meant for people would go
into somebody's recording. So all three are open before anything else is, and what cannot be written is told, once.
"""

import errno
import io
import os
import signal
import sys
import tempfile
from typing import Any

from moshi_mlx.errors import AudioFileError

READER_LEFT = 128 + getattr(signal, "SIGPIPE", 13)
"""The exit code of a program whose reader has left, as shells give it."""

_TEMPORARY = ("TMPDIR", "TMP", "TEMP", "TEMPDIR")


class ReaderLeft(Exception):
    """Nobody reads what is written to standard output any more, as with `| head`."""


class _Output(io.FileIO):
    """Standard output that says in our words why it cannot be written."""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderLeft from None
        except OSError as error:
            raise AudioFileError(f"cannot write standard output: {error.strerror or error}") from error


class _Notes(io.FileIO):
    """Standard error: what cannot be said there can be said nowhere, and stops nothing."""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def prepare() -> None:
    """Open what is closed, let writing fail in our words, and have a folder for temporary files.

    Does nothing in a program that has put streams of its own in place.
    """
    if sys.stdout is not sys.__stdout__:
        return
    # Reading from what can only be written, and the reverse, fails as with a descriptor that is closed.
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.dup2(opened := os.open(os.devnull, flags), descriptor)
            if opened != descriptor:
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)))
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Notes(2, "w", closefd=False), sys.stderr)
    if any(not os.path.isdir(os.environ.get(name, "/")) for name in _TEMPORARY):
        for name in _TEMPORARY:  # MLX compiles there, and looks nowhere else
            os.environ.pop(name, None)
        os.environ["TMPDIR"] = tempfile.gettempdir()


def finish() -> None:
    """Write what is still to be written. Raises AudioFileError or ReaderLeft."""
    sys.stdout.flush()


def give_up() -> None:
    """Let Python write nothing more to standard output when it ends: it would complain in its own words."""
    if not isinstance(getattr(getattr(sys.stdout, "buffer", None), "raw", None), _Output):
        return
    os.dup2(nowhere := os.open(os.devnull, os.O_WRONLY), 1)
    os.close(nowhere)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _text(raw: io.FileIO, like: Any) -> io.TextIOWrapper:
    """Return a stream of text on a descriptor, with the habits of another one, None for one that was closed."""
    if like is not None:
        like.flush()
    lines = raw.isatty() or raw.fileno() == 2
    encoding, errors = getattr(like, "encoding", "utf-8"), getattr(like, "errors", "backslashreplace")
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)
