"""`moshi-mlx models`, driven as a person would: against a hub on this machine, in a cache of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.download import PIECE
from moshi_mlx.checkpoint.hub import computed_sha256
from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from moshi_mlx.models.conditioner_config import QUALITIES
from tests.hub_stub import COMMITS, HubStub, fill_cache, use_hub

ALIAS, REPO, WEIGHTS = "moshiko-q4", "kyutai/moshiko-mlx-q4", "model.safetensors"
Command = subprocess.CompletedProcess[str]


def moshi(*words: str, **environment: str) -> Command:
    """Run the command with the environment that a test wants."""
    return subprocess.run(
        [sys.executable, "-m", "moshi_mlx", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.fixture
def hub(tiny_folder: Path) -> HubStub:
    """A hub that has a small Moshi."""
    return HubStub({REPO: {path.name: path.read_bytes() for path in tiny_folder.iterdir()}})


@pytest.fixture
def environment(hub: HubStub, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What makes a command use the hub of this machine and an empty cache."""
    with hub.serving() as endpoint:
        yield use_hub(endpoint, tmp_path / "cache")


@pytest.fixture
def models(environment: dict[str, str]) -> Callable[..., Command]:
    """Call `moshi-mlx models` with the hub of this machine."""
    return lambda *words: moshi("models", *words, **environment)


def part_of(cache: str) -> Path | None:
    """The part of a download, None before there is one."""
    return next(Path(cache).glob("models--*/blobs/*.incomplete"), None)


def test_the_list_says_what_is_here(tmp_path: Path, tiny_folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    fill_cache(tmp_path, "kyutai/moshiko-mlx-q4", files)
    fill_cache(tmp_path, "kyutai/moshika-mlx-q8", {"config.json": files["config.json"]})
    done = moshi("models", "list", HF_HUB_CACHE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["model", "size", "last", "used", "state"]
    assert [(row[0], row[-1]) for row in rows[1:6]] == [
        ("nano", "package"),
        ("nano-stt", "package"),
        ("nano-persona", "package"),
        ("moshika-q8", "incomplete"),
        ("moshiko-q4", "complete"),
    ]
    assert rows[5][3] == "today"
    assert f"GB free in {tmp_path}" in done.stdout

    found = json.loads(moshi("models", "list", "--json", HF_HUB_CACHE=str(tmp_path)).stdout)
    assert found["cache"] == str(tmp_path)
    models = {model["name"]: model for model in found["models"]}
    assert models["moshiko-q4"]["bytes"] == sum(map(len, files.values()))
    assert models["moshiko-q4"]["problem"] is None
    assert models["moshika-q8"]["problem"] == "mimi_config.json is not here"


def test_get_says_what_it_will_do_and_does_it(
    hub: HubStub, models: Callable[..., Command], environment: dict[str, str]
) -> None:
    cache = environment["HF_HUB_CACHE"]
    total = sum(map(len, hub.files[REPO].values()))
    done = models("get", ALIAS)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert lines[0] == f"{ALIAS}: {total / 1e6:.1f} MB, 1.8 kB of it here; {total / 1e6:.1f} MB to fetch"
    assert lines[1].startswith(f"to {cache}: ")
    assert lines[1].endswith(" GB free")
    assert lines[2:] == [f"{ALIAS} is complete: {total / 1e6:.1f} MB in 5 files"]
    snapshot = Path(cache) / "models--kyutai--moshiko-mlx-q4" / "snapshots" / COMMITS["main"]
    assert {path.name: path.read_bytes() for path in snapshot.iterdir()} == hub.files[REPO]

    asked = len(hub.requests)
    assert models("get", ALIAS).stderr == f"{ALIAS} is complete: {total / 1e6:.1f} MB in 5 files\n"
    assert len(hub.requests) == asked, "what is here is not asked for"


def test_on_a_terminal_there_is_one_bar_for_all_files(hub: HubStub, environment: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "moshi_mlx", "models", "get", ALIAS]
    size = {"COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(command, env={**os.environ, **environment, **size}, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends whose other side is closed
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    lines = {
        re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).split("  ")[0].strip() for line in re.split(r"[\r\n]+", text)
    }
    bars = {line for line in lines if "━" in line}
    assert bars
    assert all(line.startswith(f"fetching {ALIAS} ━") for line in bars), bars
    assert "4.8/4.8 MB" in text


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_get_goes_on_after_ctrl_c_and_after_a_crash(
    hub: HubStub, models: Callable[..., Command], environment: dict[str, str], end: signal.Signals, code: int
) -> None:
    hub.sent, hub.holds = [2 * PIECE + PIECE // 2], True
    cache = environment["HF_HUB_CACHE"]
    command = [sys.executable, "-m", "moshi_mlx", "models", "get", ALIAS]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not ((part := part_of(cache)) and part.stat().st_size >= 2 * PIECE):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(end)
        said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == code
    if end == signal.SIGINT:
        assert said[2:] == ["interrupted: 2.1 MB of 4.8 MB are here, and the same command goes on from there"]
    row = models("list").stdout.split(ALIAS)[1].split()
    assert (row[:2], row[3]) == (["2.1", "MB"], "incomplete")

    hub.held.set()
    done = models("get", ALIAS)
    assert done.returncode == 0, done.stderr
    assert hub.ranges.count(f"bytes={2 * PIECE}-") == 1
    assert ", 2.1 MB of it here; 2.7 MB to fetch" in done.stderr
    assert part_of(cache) is None


def test_get_goes_on_after_the_hub_has_gone(
    hub: HubStub, environment: dict[str, str], models: Callable[..., Command]
) -> None:
    hub.sent = [2 * PIECE]
    hub.after_cut = hub.fail
    done = models("get", ALIAS)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "MB are here; try again later, or take nano or nano-stt or nano-persona" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 3
    hub.errors.clear()
    assert models("get", ALIAS).returncode == 0
    assert f"bytes={2 * PIECE}-" in hub.ranges


def test_what_comes_damaged_is_not_kept(
    hub: HubStub, models: Callable[..., Command], environment: dict[str, str]
) -> None:
    hub.spoilt.add(WEIGHTS)
    done = models("get", ALIAS)
    assert done.returncode == 1
    assert f"error: {WEIGHTS} of {REPO} came damaged: its SHA-256 is not " in done.stderr
    assert not list(Path(environment["HF_HUB_CACHE"]).glob(f"**/{WEIGHTS}"))


def test_check_fetches_again_what_has_been_damaged_here(
    hub: HubStub, models: Callable[..., Command], environment: dict[str, str]
) -> None:
    assert models("get", ALIAS).returncode == 0
    (path,) = Path(environment["HF_HUB_CACHE"]).glob(f"models--*/snapshots/*/{WEIGHTS}")
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    done = models("get", ALIAS, "--check")
    assert done.returncode == 0
    assert done.stderr.startswith(f"{WEIGHTS} was damaged: its content is not what its SHA-256 says\n")
    assert path.read_bytes() == hub.files[REPO][WEIGHTS]
    assert models("get", ALIAS, "--check").stderr.startswith(f"{ALIAS} is complete"), "no false alarm"


def test_what_does_not_fit_is_refused_before_anything_is_fetched(
    hub: HubStub, environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import shutil, sys, types\n"
        "shutil.disk_usage = lambda path: types.SimpleNamespace(free=1_000_000)\n"
        "from moshi_mlx.cli.main import main\n"
        f"sys.argv = ['moshi-mlx', 'models', 'get', '{ALIAS}']\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {ALIAS} needs 4.8 MB in {environment['HF_HUB_CACHE']}, and 1.0 MB are free; "
        "free some, or set HF_HUB_CACHE"
    )
    assert not any("safetensors" in request for request in hub.requests if request.startswith("GET"))


def test_info_says_what_a_model_is(models: Callable[..., Command], tiny_folder: Path) -> None:
    done = models("info", ALIAS)
    assert done.returncode == 1
    assert "`moshi-mlx models list` says what is" in done.stderr
    assert models("get", ALIAS).returncode == 0
    about = json.loads(models("info", ALIAS, "--json").stdout)
    files = {file["name"]: file for file in about["files"]}
    assert files[WEIGHTS]["sha256"] == computed_sha256(tiny_folder / WEIGHTS)
    assert files["config.json"]["sha256"] is None
    assert (about["repository"], about["problem"], about["window"]) == (REPO, None, 64)
    shown = models("info", str(tiny_folder)).stdout
    assert "repository" not in shown
    assert f"bytes            {about['bytes'] / 1e6:.1f} MB" in shown


def test_remove_asks_and_removes_all(models: Callable[..., Command], environment: dict[str, str]) -> None:
    cache = Path(environment["HF_HUB_CACHE"])
    fill_cache(cache, "another/one", {"config.json": b"{}"})
    assert models("get", ALIAS).returncode == 0
    folder = cache / "models--kyutai--moshiko-mlx-q4"
    (folder / "blobs" / "abc.incomplete").write_bytes(b"begun")
    done = models("remove", ALIAS)  # no terminal: nobody answers
    assert done.returncode == 1
    assert f"remove {REPO}, 4.8 MB, from {folder}?" in done.stderr
    assert folder.exists()
    done = models("remove", ALIAS, "--yes")
    assert (done.returncode, done.stderr) == (0, "removed: 4.8 MB are free again\n")
    assert not folder.exists()
    assert [path.name for path in cache.glob("models--*")] == ["models--another--one"]
    assert models("remove", ALIAS, "--yes").returncode == 1


def test_remove_keeps_what_another_revision_uses(tmp_path: Path, tiny_folder: Path) -> None:
    blobs = tmp_path / "models--kyutai--moshiko-mlx-q4" / "blobs"
    blobs.mkdir(parents=True)
    for name, content in {"shared": b"both", "old": b"old", "new": b"new!"}.items():
        (blobs / name).write_bytes(content)
    fill_cache(tmp_path, REPO, {"codec": blobs / "shared", "weights": blobs / "old"}, "v1")
    fill_cache(tmp_path, REPO, {"codec": blobs / "shared", "weights": blobs / "new"}, "main")
    done = moshi("models", "remove", f"{REPO}@v2", "--yes", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "has no revision v2 here" in done.stderr
    assert moshi("models", "remove", f"{REPO}@v1", "--yes", HF_HUB_CACHE=str(tmp_path)).returncode == 0
    assert sorted(path.name for path in blobs.iterdir()) == ["new", "shared"]


def test_what_is_not_the_hubs_stays(tiny_folder: Path, models: Callable[..., Command]) -> None:
    for name in ("nano", str(tiny_folder)):
        done = models("remove", name, "--yes")
        assert done.returncode == 1
        assert "only models of the hub's cache" in done.stderr
    assert (tiny_folder / WEIGHTS).exists()
    assert models("get", str(tiny_folder)).stderr == f"{tiny_folder} is complete: 4.8 MB in 5 files\n"


def test_info_says_what_a_member_of_the_family_can_do(
    models: Callable[..., Command], tiny_folder: Path, hibiki_folder: Path, stt_folder: Path, tmp_path: Path
) -> None:
    persona = write_random_checkpoint(tmp_path / "persona", TINY_PERSONA)
    fields = ("task", "conditions", "persona", "captions", "pauses")
    found = {
        folder: [json.loads(models("info", str(folder), "--json").stdout)[field] for field in fields]
        for folder in (tiny_folder, hibiki_folder, stt_folder, persona)
    }
    assert found == {
        tiny_folder: ["talk", None, None, None, None],
        hibiki_folder: ["translate", {"description": [*QUALITIES]}, None, None, None],
        stt_folder: ["transcribe", None, None, True, True],
        persona: ["talk", None, True, None, None],
    }
    shown = models("info", str(hibiki_folder)).stdout
    assert re.search(r"^conditions +description: very_bad, bad, neutral, good, very_good$", shown, re.MULTILINE)
    assert "persona" not in shown
    assert re.search(r"^persona +yes$", models("info", str(persona)).stdout, re.MULTILINE)
