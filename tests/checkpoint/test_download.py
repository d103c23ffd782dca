"""Downloads that were cut go on, in this process, from a hub on this machine."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import are_progress_bars_disabled, logging

from moshi_mlx.checkpoint import download
from moshi_mlx.checkpoint.download import PIECE
from moshi_mlx.checkpoint.hub import fetch
from moshi_mlx.errors import DownloadError
from tests.checkpoint.test_hub import point_at
from tests.hub_stub import HubStub, use_hub

REPO, NAME = "kyutai/moshiko-mlx-q4", "model.q4.safetensors"
CONTENT = hashlib.shake_256(b"weights").digest(5 * PIECE + 1234)
BLOB = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """A hub with one large file; the library does not wait before it asks again."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(download, "ANSWER_SECONDS", 60.0)  # the machine may be busy
    stub = HubStub({REPO: {NAME: CONTENT}})
    with stub.serving() as endpoint:
        point_at(monkeypatch, endpoint)
        yield stub


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models--kyutai--moshiko-mlx-q4" / "blobs"


def begin(blobs: Path, content: bytes) -> Path:
    """Lay a part of the file where a cut download would have left it."""
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / f"{BLOB}.incomplete"
    part.write_bytes(content)
    return part


class Counter:
    """What a bar was told: the sum of all steps, and the steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, count: int) -> None:
        self.steps.append(count)

    @property
    def total(self) -> int:
        return sum(self.steps)


def test_a_part_that_is_here_is_not_fetched_again(stub: HubStub, blobs: Path) -> None:
    part = begin(blobs, CONTENT[: 2 * PIECE])
    told = Counter()
    path = fetch(REPO, NAME, advance=told)
    assert path.read_bytes() == CONTENT
    assert stub.ranges == [f"bytes={2 * PIECE}-"]
    assert (told.total, told.steps[:2]) == (len(CONTENT), [PIECE, PIECE])
    assert not part.exists()
    assert path.resolve().name == BLOB


def test_a_lost_connection_is_made_again_and_goes_on(stub: HubStub) -> None:
    stub.sent = [3 * PIECE + 5, PIECE]
    told = Counter()
    assert fetch(REPO, NAME, advance=told).read_bytes() == CONTENT
    assert stub.ranges == ["", f"bytes={3 * PIECE}-", f"bytes={4 * PIECE}-"]
    assert told.total == len(CONTENT)


def test_a_connection_lost_for_good_leaves_the_part(stub: HubStub, blobs: Path) -> None:
    stub.sent = [3 * PIECE, *[0] * 20]
    with pytest.raises(DownloadError, match=r"; 3\.1 of 5\.2 MB are here; try again$"):
        fetch(REPO, NAME)
    assert (blobs / f"{BLOB}.incomplete").read_bytes() == CONTENT[: 3 * PIECE]
    stub.sent.clear()
    assert fetch(REPO, NAME).read_bytes() == CONTENT
    assert stub.ranges[-1] == f"bytes={3 * PIECE}-"


def test_a_server_without_ranges_sends_all_again(stub: HubStub, blobs: Path) -> None:
    begin(blobs, CONTENT[: 2 * PIECE])
    stub.knows_ranges = False
    told = Counter()
    assert fetch(REPO, NAME, advance=told).read_bytes() == CONTENT
    assert told.total == len(CONTENT)
    assert len(stub.ranges) == 1, "and only once"


@pytest.mark.parametrize("there", [b"\0" * 2 * PIECE, bytes(len(CONTENT)), bytes(len(CONTENT) + 1)])
def test_a_part_of_something_else_is_found_out_and_fetched_once_more(
    stub: HubStub, blobs: Path, there: bytes
) -> None:
    begin(blobs, there)
    told = Counter()
    assert fetch(REPO, NAME, advance=told).read_bytes() == CONTENT
    assert stub.ranges[-1] == ""
    assert told.total == len(CONTENT)


def test_content_that_is_not_what_the_hub_says_is_refused(stub: HubStub, blobs: Path) -> None:
    stub.spoilt.add(NAME)
    with pytest.raises(DownloadError, match=f"came damaged: its SHA-256 is not {BLOB}"):
        fetch(REPO, NAME)
    assert list(blobs.iterdir()) == []
    assert stub.ranges == [""], "a whole download that is wrong is not repeated"


def test_a_full_disk_is_noticed_before_the_download(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = len(CONTENT) - 1

    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DownloadError, match=r"^no space left for"):
        fetch(REPO, NAME)
    assert stub.ranges == []


def test_two_processes_take_turns(stub: HubStub, tmp_path: Path) -> None:
    def both_have_asked() -> None:
        while sum(request.startswith("HEAD") for request in stub.requests) < 2:
            time.sleep(0.01)

    stub.before_body = both_have_asked
    program = f"from moshi_mlx.checkpoint.hub import fetch; print(fetch({REPO!r}, {NAME!r}))"
    environment = {**os.environ, **use_hub(constants.ENDPOINT, tmp_path / "cache")}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {process.communicate(timeout=120)[0].strip() for process in both}
    assert [Path(path).read_bytes() == CONTENT for path in paths] == [True]
    assert len(stub.ranges) == 1, "the other one found it"


def test_the_library_is_left_as_it_was(stub: HubStub) -> None:
    before = logging.get_verbosity(), are_progress_bars_disabled(), constants.DOWNLOAD_CHUNK_SIZE
    fetch(REPO, NAME)
    assert (logging.get_verbosity(), are_progress_bars_disabled(), constants.DOWNLOAD_CHUNK_SIZE) == before


def test_of_several_who_ask_at_once_the_last_leaves_the_library_as_it_was() -> None:
    """Not in the order in which they began, as threads do not."""
    before = constants.DOWNLOAD_CHUNK_SIZE, logging.get_verbosity(), are_progress_bars_disabled()
    first, second = download.quiet_library(), download.quiet_library()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert constants.DOWNLOAD_CHUNK_SIZE == PIECE, "the second is still here"
    second.__exit__(None, None, None)
    assert (constants.DOWNLOAD_CHUNK_SIZE, logging.get_verbosity(), are_progress_bars_disabled()) == before
