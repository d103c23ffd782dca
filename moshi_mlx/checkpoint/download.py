"""Large files of the hub, fetched so that a download goes on where it was cut, over plain HTTP.

huggingface_hub asks, authenticates, follows redirects and repeats a lost connection; its cache keeps the files.
Only what it does not do is done here. Its newer versions (1.31 and 2.4 are such) write into a file of a name used
once and delete it when the process is interrupted or the line is lost, with their Xet downloader too: 4.8 GB begin
again at nothing. (Where a file system does not keep locks, two processes would write into one file.) Here the part
has the name that older ones gave it, BLOB.incomplete, and stays; what has not the SHA-256 that the hub tells is
fetched once more.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from moshi_mlx.errors import DownloadError

PARTIAL = ".incomplete"
"""What the name of a file ends in until all of it is there."""
ANSWER_SECONDS = 2.0
"""How long the hub may take to answer; HF_HUB_ETAG_TIMEOUT, the library's own variable, sets another time."""
WHOLE_SECONDS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
"""The library's variables that hold integers: with anything else in one of them it cannot be imported."""
PIECE = 1 << 20  # bytes that are lost, at most, when the process is killed; the library takes ten times as many
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class UnreachableError(OSError):
    """The hub cannot be asked: no network, no name server, nobody who answers."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub, and its place in the cache. etag: the hub's name for its content."""

    repo: str
    filename: str
    revision: str | None
    commit: str
    etag: str
    nbytes: int

    @property
    def sha256(self) -> str | None:
        """What the hub says; None of small files, which it keeps in git."""
        return self.etag if _SHA256.fullmatch(self.etag) else None

    @property
    def folder(self) -> Path:
        """Where the cache keeps the repository."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"

    @property
    def path(self) -> Path:
        """Where the file will be found."""
        return self.folder / "snapshots" / self.commit / self.filename

    @property
    def blob(self) -> Path:
        """Where its content will be, under the name of the content."""
        return self.folder / "blobs" / self.etag

    @property
    def part(self) -> Path:
        """Where its content is until all is there."""
        return self.blob.with_name(self.blob.name + PARTIAL)

    @property
    def here(self) -> int:
        """How many bytes are here already."""
        place = self.blob if self.blob.exists() else self.part
        return place.stat().st_size if place.exists() else 0


def check_environment() -> None:
    """Raise DownloadError for a variable that keeps huggingface_hub from being imported."""
    for name in WHOLE_SECONDS:
        value = os.environ.get(name, "0")
        try:
            int(value)
        except ValueError:
            raise DownloadError(
                f"{name}={value} in the environment is not a whole number of seconds, as huggingface_hub wants; "
                "change it or unset it"
            ) from None


def ask(repo: str, filename: str, revision: str | None) -> RemoteFile:
    """Ask the hub for a file. Raises UnreachableError, or what huggingface_hub raises where the hub refuses."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    own = "HF_HUB_ETAG_TIMEOUT" in os.environ
    seconds = float(constants.HF_HUB_ETAG_TIMEOUT if own else ANSWER_SECONDS)
    url = hf_hub_url(repo, filename, revision=revision, endpoint=constants.ENDPOINT)
    try:
        found = _within(seconds, lambda: get_hf_file_metadata(url, timeout=seconds))
    except (NotYet, errors.HTTPError, OSError) as error:
        if isinstance(error, NotYet) or _timed_out(error):  # whichever of the two clocks ran out first
            raise UnreachableError(f"no answer within {seconds:g} s") from error
        if getattr(error, "response", None) is not None or isinstance(error, errors.EntryNotFoundError):
            raise  # it was reached, and refused
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnreachableError(lines[0].rstrip(".")) from error
    if not (found.commit_hash and found.etag and found.size is not None):
        raise UnreachableError("its answer is not that of a hub")
    return RemoteFile(repo, filename, revision, found.commit_hash, found.etag, found.size)


def resume(remote: RemoteFile, advance: Callable[[int], None]) -> None:
    """Let a file's content be in the cache, whole: go on where a download was cut, or begin.

    advance: is told of bytes as they come, and first of those that are here. Two processes that want the same file
    take turns. Raises DownloadError for content that is not what the hub says, OSError for a full disk, and what
    huggingface_hub raises where the network fails; the part stays.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock

    lock = (
        Path(constants.HF_HUB_CACHE) / ".locks" / remote.folder.name / f"{remote.etag}.lock"
    )  # the library's own
    lock.parent.mkdir(parents=True, exist_ok=True)
    remote.blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if remote.blob.exists():
            advance(remote.nbytes)
            return
        if remote.here > remote.nbytes:
            remote.part.unlink()
        if remote.nbytes - remote.here > shutil.disk_usage(remote.blob.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        resumed = remote.here > 0
        if not _download(remote, advance) and resumed:
            _download(remote, advance)  # what lay there was of another file: once more, from the start
        if not remote.blob.exists():
            raise DownloadError(
                f"{remote.filename} of {remote.repo} came damaged: its SHA-256 is not {remote.sha256}, as the hub "
                "says; try again, on another network if this one changes what passes through it"
            )


def _download(remote: RemoteFile, advance: Callable[[int], None]) -> bool:
    """Fetch what is missing, and give the content its name if it is right; remove it if it is not."""
    from huggingface_hub import constants, file_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(remote.repo, remote.filename, revision=remote.commit, endpoint=constants.ENDPOINT)
    with _Part(remote.part, advance) as part:
        file_download.http_get(
            url,
            part,
            resume_size=part.tell(),
            headers=build_hf_headers(),
            expected_size=remote.nbytes,
            displayed_filename=remote.filename,
        )
    if part.digest.hexdigest() != remote.sha256:
        remote.part.unlink()
        advance(-remote.nbytes)
        return False
    remote.part.replace(remote.blob)
    return True


class _Part(io.BufferedWriter):
    """A file that is written at its end; what is there, and what comes, is hashed and told of."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "a"))
        self._path, self._advance, self._told = path, advance, 0
        self.digest = hashlib.sha256()
        with path.open("rb") as there:
            while piece := there.read(PIECE):
                self._take(piece)

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write as a file does."""
        written = super().write(data)
        self._take(data)
        return written

    def truncate(self, size: int | None = None) -> int:
        """Begin anew: a server that knows no ranges sends all of a file."""
        left = super().truncate(size)
        self._advance(-self._told)
        self._told, self.digest = 0, hashlib.sha256()
        return left

    def _take(self, data: bytes) -> None:
        self.digest.update(data)
        self._told += len(data)
        self._advance(len(data))


_asking = threading.Lock()
_askers = 0  # that are within `quiet_library`
_undo = ExitStack()  # of what the first of them has set


@contextmanager
def quiet_library() -> Iterator[None]:
    """Let huggingface_hub draw no bars, print no warnings, and ask the hub nothing but for files.

    What matters of its warnings is an error of ours. Its newer versions ask what AI agents are called, in order to
    tell the hub of one, and wait 3 s for the answer; that is part of what it calls telemetry. All of this is set
    for the whole process: several threads may be here, and when the last one leaves it is as before.
    """
    global _askers
    with _asking:
        _askers += 1
        if _askers == 1:
            _quieten(_undo)
    try:
        yield
    finally:
        with _asking:
            _askers -= 1
            if not _askers:
                _undo.close()


def _quieten(undo: ExitStack) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    undo.callback(logging.set_verbosity, logging.get_verbosity())
    logging.set_verbosity_error()
    if not are_progress_bars_disabled():
        undo.callback(enable_progress_bars)
        disable_progress_bars()
    for name, value in (("DOWNLOAD_CHUNK_SIZE", PIECE), ("HF_HUB_DISABLE_TELEMETRY", True)):
        undo.callback(setattr, constants, name, getattr(constants, name))
        setattr(constants, name, value)


def _timed_out(error: BaseException | None) -> bool:
    """Tell whether a socket's time limit is behind an error, whatever HTTP client the library has."""
    while error and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` does, or raise NotYet.

    It runs on a thread of its own: the system's wait for a name server that is silent has no time limit of ours.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # for the other thread, whatever it is
            result.set_exception(error)

    threading.Thread(target=run, daemon=True, name="moshi-hub").start()
    return result.result(seconds)
