"""Files on the Hugging Face hub: downloaded, cache first, and uploaded; one line for whatever goes wrong."""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.download import RemoteFile, UnreachableError, ask, quiet_library, resume
from moshi_mlx.errors import DownloadError
from moshi_mlx.weights.progress import progress_bar

_INSTEAD = f"take {' or '.join(nano.EMBEDDED)}, which are here already"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


def fetch(
    repo: str,
    filename: str,
    revision: str | None = None,
    offline: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Path:
    """Return the local path of a repository's file, downloaded only if the cache does not have it.

    A large file's download goes on where an earlier one was cut, and its SHA-256 is checked.
    revision: branch, tag or commit; "main" unless given. advance: is told of bytes as they come, those that are
    here from before included; unless given, a progress bar is drawn on stderr if that is a terminal.
    Raises DownloadError, with what to do about it.
    """
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    where = f"{filename} of {_described(repo, revision)}"
    path = PurePosixPath(filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DownloadError(f"{repo}/{filename} is not a name the hub allows: it leads out of the repository")
    try:
        # Not hf_hub_download: it asks the hub what AI agents are called, even of what is here, and offline.
        found = try_to_load_from_cache(repo, filename, revision=revision)
    except ValueError as error:
        raise DownloadError(f"{repo}/{filename} is not a name the hub allows: {_reason(error)}") from error
    if isinstance(found, str):
        return Path(found)
    if offline:
        raise NotCachedError(
            f"{where} is not in the cache and --offline forbids fetching it; "
            f"run once without --offline, or {_INSTEAD}",
            filename,
        )
    remote = None
    # The hub raises its own HTTP errors, plain OSErrors (disk, checks of size) and, out of its Rust downloader,
    # RuntimeErrors. `errors.HTTPError` is the base class of whatever HTTP library the installed version uses.
    try:
        with quiet_library():
            with suppress(
                errors.EntryNotFoundError
            ):  # the library asks again, and keeps that there is no such file
                remote = ask(repo, filename, revision)
            if remote and (wanted := _survey.get()) is not None and not filename.endswith(".json"):
                wanted.append(remote)
                return remote.path
            if remote and remote.sha256 and remote.nbytes <= constants.MAX_HTTP_DOWNLOAD_SIZE:
                with _told(advance, filename, remote.nbytes) as advance:
                    resume(remote, advance)
            come = Path(hf_hub_download(repo, filename, revision=revision))
            if advance and remote and not remote.sha256:
                advance(remote.nbytes)
            return come
    except (OSError, RuntimeError, errors.HTTPError, errors.EntryNotFoundError) as error:
        raise _explained(error, repo, filename, revision, remote) from error


_survey: ContextVar[list[RemoteFile] | None] = ContextVar("survey", default=None)


@contextmanager
def survey() -> Iterator[list[RemoteFile]]:
    """Only ask, in this block, for the files that `fetch` would download, and list them; JSON files do come.

    `fetch` returns where a file will lie. So the files of a model are found by who finds them always.
    """
    wanted: list[RemoteFile] = []
    token = _survey.set(wanted)
    try:
        yield wanted
    finally:
        _survey.reset(token)


@contextmanager
def _told(advance: Callable[[int], None] | None, filename: str, nbytes: int) -> Iterator[Callable[[int], None]]:
    if advance:
        yield advance
    else:
        with progress_bar(f"fetching {filename}", nbytes) as bar:
            yield bar


@dataclass
class HubRepo:
    """A repository of which several files are wanted, all of them from one commit.

    Cache first could otherwise mix an old config with new weights: once a file was found, its commit is the
    revision of all others.
    """

    repo: str
    revision: str | None = None
    offline: bool = False
    _pinned: bool = field(default=False, repr=False)

    def fetch(self, filename: str) -> Path:
        """Return a file's path as the function `fetch`; from then on, all files are of its commit."""
        path = fetch(self.repo, filename, self.revision, self.offline)
        folder = path.parents[len(PurePosixPath(filename).parts) - 1]
        if not self._pinned and folder.parent.name == "snapshots":
            self.revision, self._pinned = folder.name, True
        return path

    def find(self, filename: str) -> Path | None:
        """Return a file's path as `fetch`, None if the cache or the hub says that there is no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        if try_to_load_from_cache(self.repo, filename, revision=self.revision) is _CACHED_NO_EXIST:
            return None
        try:
            return self.fetch(filename)
        except MissingFileError:
            return None

    def has(self, filename: str) -> bool:
        """Whether the cache has a file."""
        try:
            return bool(fetch(self.repo, filename, self.revision, offline=True))
        except DownloadError:
            return False

    def __str__(self) -> str:
        return _described(self.repo, self.revision)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; large files in the hub's cache have it as their name."""
    return recorded_sha256(path) or computed_sha256(path)


def recorded_sha256(path: Path) -> str | None:
    """Return the SHA-256 that the hub's cache says a file has; None of small files and those elsewhere."""
    # One link only: the blob may itself be a link, into the store that repositories share, under another hash.
    stored = Path(os.readlink(path)).name if path.is_symlink() else ""
    return stored if _SHA256.fullmatch(stored) else None


def computed_sha256(path: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    """Read a file, and return its SHA-256. advance: is told of bytes as they are read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


def upload(folder: Path, repo: str) -> str:
    """Put a folder's files into a model repository, made if it is not there; return its address.

    Raises DownloadError, with what to do about it.
    """
    from huggingface_hub import HfApi, errors

    try:
        address = HfApi().create_repo(repo, exist_ok=True)
        HfApi().upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload with moshi-mlx quantize")
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:
        advice = "log in with `hf auth login`" if _status(error) in (401, 403) else "try again"
        raise DownloadError(
            f"{folder} is made, but the hub did not take it ({_reason(error)}); "
            f"{advice}: `hf upload {repo} {folder}`"
        ) from error
    return str(address)


class NotCachedError(DownloadError):
    """A file is not in the cache and must not be fetched. file: its name in its repository."""

    def __init__(self, message: str, file: str) -> None:
        super().__init__(message)
        self.file = file


class MissingFileError(DownloadError):
    """The repository exists, the file in it does not."""


def parse_repo(name: str) -> tuple[str, str | None]:
    """Split "owner/name" or "owner/name@revision". Raises DownloadError for anything else."""
    repo, _, revision = name.partition("@")
    if not _REPO_ID.fullmatch(repo) or "--" in repo or ".." in repo or ("@" in name and not revision):
        raise DownloadError(
            f"{name!r} is not the name of a hub repository: owner/name or owner/name@revision expected"
        )
    return repo, revision or None


def parse_uri(uri: str) -> tuple[str, str | None, str]:
    """Split "hf://owner/name/path/to/file" (or owner/name@revision) into repository, revision and file."""
    parts = uri.removeprefix("hf://").split("/", 2)
    if len(parts) < 3 or not parts[2]:
        raise DownloadError(f"{uri!r} does not name a file: hf://owner/name/file expected")
    return *parse_repo("/".join(parts[:2])), parts[2]


def _described(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo


def _explained(
    error: Exception, repo: str, filename: str, revision: str | None, remote: RemoteFile | None
) -> DownloadError:
    from huggingface_hub import constants, errors

    status = _status(error)
    where = f"{filename} of {_described(repo, revision)}"
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{repo} asks you to accept its licence: do so at {constants.ENDPOINT}/{repo}, then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(
            f"the hub has no public repository {repo}; check the spelling, or `hf auth login` if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(f"{repo} has no revision {revision!r}; leave @{revision} out for the newest")
    if status in (401, 403):
        return DownloadError(
            f"the hub refused {where} (HTTP {status}); `hf auth login` with a token that may read it"
        )
    kept = f"; {remote.here / 1e6:.1f} of {remote.nbytes / 1e6:.1f} MB are here" if remote and remote.here else ""
    if status not in (None, 404):
        return DownloadError(f"the hub failed with HTTP {status} at {where}{kept}; try again later, or {_INSTEAD}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadError(
            f"{where} is not in the cache and HF_HUB_OFFLINE forbids fetching it; unset it, or {_INSTEAD}"
        )
    if isinstance(error, UnreachableError | errors.LocalEntryNotFoundError):  # the library's word for the same
        why = str(error) if isinstance(error, UnreachableError) else _reason(error)
        return DownloadError(
            f"cannot reach {constants.ENDPOINT} for {where} ({why}); "
            f"check the network and try again, or {_INSTEAD}"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return MissingFileError(f"{_described(repo, revision)} has no file {filename}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"no space left for {where} in {constants.HF_HUB_CACHE}; free some, or set HF_HUB_CACHE"
        )
    if isinstance(error, PermissionError):
        return DownloadError(
            f"cannot write {error.filename or constants.HF_HUB_CACHE} for {where}; "
            "mend its permissions, or set HF_HUB_CACHE to a folder of yours"
        )
    return DownloadError(f"cannot download {where}: {_reason(error)}{kept}; try again")


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status in an error or in what caused it."""
    while error:
        if status := getattr(getattr(error, "response", None), "status_code", None):
            return status
        error = error.__cause__
    return None


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
