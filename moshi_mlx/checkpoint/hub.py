"""Files on the Hugging Face hub: downloaded, cache first, and uploaded; one line for whatever goes wrong."""

import errno
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from moshi_mlx.errors import DownloadError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


def fetch(repo: str, filename: str, revision: str | None = None, offline: bool = False) -> Path:
    """Return the local path of a repository's file, downloaded only if the cache does not have it.

    revision: branch, tag or commit; "main" unless given. A progress bar is drawn on stderr if that is a terminal.
    Raises DownloadError, with what to do about it.
    """
    from huggingface_hub import errors, hf_hub_download

    where = f"{filename} of {_described(repo, revision)}"
    try:
        return Path(hf_hub_download(repo, filename, revision=revision, local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise NotCachedError(
                f"{where} is not in the cache and --offline forbids fetching it; "
                "run once without --offline, or give a folder",
                filename,
            ) from error
    except ValueError as error:
        raise DownloadError(f"{repo}/{filename} is not a name the hub allows: {_reason(error)}") from error
    # The hub raises its own HTTP errors, plain OSErrors (disk, checks of size) and, out of its Rust downloader,
    # RuntimeErrors. `errors.HTTPError` is the base class of whatever HTTP library the installed version uses.
    try:
        return Path(hf_hub_download(repo, filename, revision=revision))
    except (OSError, RuntimeError, errors.HTTPError, errors.EntryNotFoundError) as error:
        raise _explained(error, repo, filename, revision) from error


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

    def __str__(self) -> str:
        return _described(self.repo, self.revision)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; large files in the hub's cache have it as their name."""
    stored = path.resolve().name
    if path.is_symlink() and _SHA256.fullmatch(stored):
        return stored
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
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


def _explained(error: Exception, repo: str, filename: str, revision: str | None) -> DownloadError:
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
    if status not in (None, 404):
        return DownloadError(f"the hub failed with HTTP {status} at {where}; try again later")
    if isinstance(error, errors.LocalEntryNotFoundError):  # its word for "could not ask, and it is not cached"
        if constants.HF_HUB_OFFLINE:
            return DownloadError(f"{where} is not in the cache and HF_HUB_OFFLINE forbids fetching it; unset it")
        return DownloadError(
            f"cannot reach {constants.ENDPOINT} for {where} ({_reason(error)}); "
            "check the network and try again, or give a folder"
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
    return DownloadError(f"cannot download {where}: {_reason(error)}; try again")


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
