"""Files of the hub: a cache made by hand, a server on this machine, never the network."""

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from moshi_mlx.checkpoint import download
from moshi_mlx.checkpoint.hub import HubRepo, MissingFileError, fetch, parse_repo, parse_uri, sha256
from moshi_mlx.errors import DownloadError
from tests.hub_stub import COMMITS, HubStub, fill_cache

REPO = "kyutai/moshiko-mlx-q4"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that nobody answers for."""
    point_at(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the hub's library waits up to 23 s between its tries
    return tmp_path / "cache"


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # where 0.34 looks


@pytest.fixture
def stub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 60.0)  # the machine may be busy
    stub = HubStub()
    with stub.serving() as endpoint:
        point_at(monkeypatch, endpoint)
        yield stub


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    touched = []  # kept, for a library may swallow what is raised

    def refuse(*where: object, **_: object) -> None:
        touched.append(where)
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert touched == []


def message_of(*args: object, **kwargs: object) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(*args, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("offline", [False, True])
def test_what_the_cache_has_is_not_asked_for(cache: Path, no_sockets: None, offline: bool) -> None:
    fill_cache(cache, REPO, {"config.json": b"{}", "sub/file.bin": b"x"})
    assert fetch(REPO, "config.json", offline=offline).read_bytes() == b"{}"
    assert fetch(REPO, "sub/file.bin", offline=offline).read_bytes() == b"x"


def test_offline_never_touches_the_network(cache: Path, no_sockets: None) -> None:
    message = message_of(REPO, "config.json", offline=True)
    assert message.startswith(f"config.json of {REPO} is not in the cache and --offline forbids fetching it; ")
    assert "model.safetensors of" in message_of(REPO, "model.safetensors", "v1", offline=True)


def test_a_file_is_downloaded_once(cache: Path, stub: HubStub) -> None:
    stub.files[REPO] = {"config.json": b'{"dim": 1}'}
    for _ in range(2):
        assert fetch(REPO, "config.json").read_bytes() == b'{"dim": 1}'
    assert [request.split()[0] for request in stub.requests] == ["HEAD", "HEAD", "GET"]


def test_a_revision_is_asked_for_by_name(cache: Path, stub: HubStub) -> None:
    stub.files[REPO] = {"config.json": b"{}"}
    assert COMMITS["v1"] in fetch(REPO, "config.json", "v1").parts
    assert all("/resolve/v1/" in request for request in stub.requests), "and for nothing else"


def test_all_files_of_a_repository_come_from_one_commit(cache: Path, stub: HubStub) -> None:
    old = "c" * 40
    fill_cache(cache, REPO, {"config.json": b"old"}, old)
    fill_cache(cache, REPO, {})
    (cache / "models--kyutai--moshiko-mlx-q4" / "refs" / "main").write_text(old)
    stub.files[REPO] = {"config.json": b"new", "model.safetensors": b"new"}
    repo = HubRepo(REPO)
    assert repo.fetch("config.json").read_bytes() == b"old"
    with pytest.raises(DownloadError, match=f"has no revision '{old}'"):  # the stub knows only newer ones
        repo.fetch("model.safetensors")


def test_a_file_that_does_not_exist_is_found_missing_once(cache: Path, stub: HubStub) -> None:
    stub.files[REPO] = {"model.safetensors": b"x"}
    assert HubRepo(REPO).find("config.json") is None
    asked = len(stub.requests)
    assert HubRepo(REPO).find("config.json") is None, "now the cache knows"
    assert HubRepo(REPO, offline=True).find("config.json") is None
    assert len(stub.requests) == asked
    assert HubRepo(REPO).find("model.safetensors") is not None
    with pytest.raises(MissingFileError, match=f"{REPO} has no file other.bin"):
        HubRepo(REPO).fetch("other.bin")


def test_offline_find_does_not_guess_that_a_file_is_missing(cache: Path, no_sockets: None) -> None:
    with pytest.raises(DownloadError, match="--offline forbids"):
        HubRepo(REPO, offline=True).find("config.json")


def test_a_name_server_that_is_silent_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def wait(*_: object, **__: object) -> None:
        end.wait()
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.05)
    point_at(monkeypatch, "http://somewhere.example")
    assert "(no answer within 0.05 s); check the network" in message_of(REPO, "config.json")
    end.set()


@pytest.mark.parametrize("first", ["ours", "the socket's"])
def test_how_long_is_waited_may_be_set(first: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if first == "the socket's":
        monkeypatch.setattr(download, "_within", lambda _seconds, call: call())
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.02")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_at(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "within 0.02 s" in message_of(REPO, "config.json")


def test_an_unreachable_hub_is_named(cache: Path) -> None:
    message = message_of(REPO, "config.json")
    assert message.startswith(f"cannot reach http://127.0.0.1:1 for config.json of {REPO} (")
    assert "Connection refused" in message
    assert "check the network" in message


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "GatedRepo", f"{REPO} asks you to accept its licence: do so at http"),
        (403, "GatedRepo", f"{REPO} asks you to accept its licence: do so at http"),
        (401, "RepoNotFound", f"the hub has no public repository {REPO}; check the spelling"),
        (404, "RepoNotFound", f"the hub has no public repository {REPO}; check the spelling"),
        (404, "RevisionNotFound", f"{REPO} has no revision 'v1'; leave @v1 out"),
        (404, "EntryNotFound", f"{REPO}@v1 has no file config.json"),
        (403, "", "the hub refused config.json"),
        (418, "", f"the hub failed with HTTP 418 at config.json of {REPO}@v1"),
        (500, "", f"the hub failed with HTTP 500 at config.json of {REPO}@v1"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    cache: Path, stub: HubStub, status: int, code: str, expected: str
) -> None:
    stub.errors[REPO] = (status, code)
    assert message_of(REPO, "config.json", "v1").startswith(expected)


def test_a_download_cut_short_is_an_error_and_leaves_no_file(cache: Path, stub: HubStub) -> None:
    stub.files[REPO] = {"model.safetensors": bytes(100_000)}
    stub.cut = 5_000
    assert message_of(REPO, "model.safetensors").startswith(f"cannot download model.safetensors of {REPO}: ")
    stub.cut = 0
    assert fetch(REPO, "model.safetensors").stat().st_size == 100_000


def test_a_full_disk_is_named(cache: Path, stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stub.files[REPO] = {"config.json": b"{}"}
    monkeypatch.setattr(file_download, "http_get", full)
    message = message_of(REPO, "config.json")
    assert message == f"no space left for config.json of {REPO} in {cache}; free some, or set HF_HUB_CACHE"


def test_of_a_long_story_the_first_line_is_told(
    cache: Path, stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("sizes differ.\n\nThis is a long story")

    stub.files[REPO] = {"config.json": b"{}"}
    monkeypatch.setattr(file_download, "http_get", fail)
    assert message_of(REPO, "config.json") == f"cannot download config.json of {REPO}: sizes differ; try again"


def test_a_cache_that_cannot_be_written_is_named(
    cache: Path, stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    stub.files[REPO] = {"config.json": b"{}"}
    assert "config.json of" in message_of(REPO, "config.json")


def test_the_hubs_own_offline_switch_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids fetching it" in message_of(REPO, "config.json")


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a\\..\\..\\b"])
def test_file_names_cannot_leave_the_repository(cache: Path, no_sockets: None, filename: str) -> None:
    message_of(REPO, filename)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [("a/b", ("a/b", None)), ("a/b@v1", ("a/b", "v1")), ("o.w-n_er/na.me-1_x", ("o.w-n_er/na.me-1_x", None))],
)
def test_repository_names_may_carry_a_revision(name: str, parsed: tuple[str, str | None]) -> None:
    assert parse_repo(name) == parsed


@pytest.mark.parametrize("name", ["a", "a/b/c", "a/b@", "/a", "a/", "", "a b/c", "@x", "../x", "a/b--c", "a/b..c"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DownloadError, match="owner/name"):
        parse_repo(name)


def test_uris_name_a_file() -> None:
    assert parse_uri("hf://a/b/c/d.bin") == ("a/b", None, "c/d.bin")
    assert parse_uri("hf://a/b@v1/d.bin") == ("a/b", "v1", "d.bin")
    for uri in ("hf://a/b", "hf://a/b/", "hf://a"):
        with pytest.raises(DownloadError, match="hf://owner/name/file expected"):
            parse_uri(uri)


def test_importing_the_module_does_not_load_the_hub_library() -> None:
    code = "import moshi_mlx.checkpoint.hub, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sha256_of_a_file_is_read_off_the_cache_or_computed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    plain = tmp_path / "plain"
    plain.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256(plain) == abc
    large = tmp_path / "blobs" / ("0123" * 16)
    large.write_bytes(b"abc")
    (tmp_path / "weights").symlink_to(large)
    assert sha256(tmp_path / "weights") == "0123" * 16
    shared = tmp_path / "blobs" / ("4567" * 16)  # the blob of another may be a link to one that repositories share
    shared.symlink_to(large)
    (tmp_path / "shared").symlink_to(shared)
    assert sha256(tmp_path / "shared") == "4567" * 16
    assert sha256(large) == abc, "a name alone proves nothing"
    small = tmp_path / "blobs" / ("0123" * 10)  # git's SHA-1
    small.write_bytes(b"abc")
    (tmp_path / "config").symlink_to(small)
    assert sha256(tmp_path / "config") == abc
