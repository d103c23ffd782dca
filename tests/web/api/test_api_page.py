"""The first examples of docs/api.md, one of each language, run on small models under the names of large ones."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.audio.files import read_audio
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.model_pool import ModelPool
from tests.web.api.conftest import found, noise, wav
from tests.web.running import PATIENCE, Running

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = {"stt": "stt-1b", "tts": "tts-1.6b", "hibiki": "hibiki-1b"}


@pytest.fixture(scope="module")
def server(tiny_moshi: Moshi, folders: dict[str, Path]) -> Iterator[Running]:
    models = [found(folders[kind], kind, [name]) for kind, name in NAMES.items()]
    running = Running(tiny_moshi, pool=ModelPool(models), limits=Limits(tail=0.5))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


@pytest.fixture
def here(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recording that the examples send."""
    (tmp_path / "talk.wav").write_bytes(wav(noise(1.0)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(kind: str, server: Running, number: int = 0) -> str:
    text = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[number]
    assert "http://localhost:8998" in text
    return text.replace("http://localhost:8998", server.url)


def done(*words: str, given: str | None = None) -> str:
    """What a program prints that ends well."""
    finished = subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_commands_for_curl_run(server: Running, here: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    commands = example("bash", server).strip().splitlines()
    printed = [done("bash", "-c", command.replace("curl ", "curl -sSf ", 1)) for command in commands]
    assert len(printed) == 6
    text = json.loads(printed[0])["text"]
    assert len(text.split()) > 2
    assert "".join(re.findall(r"^(?!\d)(.+)$", printed[1], re.MULTILINE)).split() == text.split()
    assert "text" in json.loads(printed[2])
    assert read_audio(here / "speech.mp3").seconds > 0.5
    assert {"a", "b"} <= {one["id"] for one in json.loads(printed[4])["data"]}
    assert len(json.loads(printed[5])["data"]) == 4


def test_the_program_in_python_runs(server: Running, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example("python", server), "api.md", "exec"), {})
    whole, by_words = capsys.readouterr().out.split("\n")
    assert whole == by_words
    assert len(whole.split()) > 2
    assert read_audio(here / "speech.wav").seconds > 0.5


def test_the_program_in_javascript_runs(server: Running, here: Path) -> None:
    if not (shutil.which("node") and int(done("node", "-p", "process.versions.node").split(".")[0]) >= 18):
        pytest.skip("Node 18 or later is not installed")
    (here / "example.mjs").write_text(example("js", server))
    assert len(done("node", "example.mjs").split()) > 2
    assert read_audio(here / "speech.opus").seconds > 0.5


def test_the_programs_for_realtime_talk_and_translation_run(server: Running) -> None:
    """With the model that is there, which talks without a pause, and answers where others translate."""
    programs: dict[str, Any] = {}
    for number in (1, 2):
        text = re.sub(r'model="[\w-]+"', 'model="tiny"', example("python", server, number))
        exec(compile(text, "api.md", "exec"), programs)
    spoken = (32767 * noise(0.4)).astype("<i2").tobytes()

    async def some_words() -> list[str]:
        words = programs["answer"](spoken)
        return [await anext(words) for _ in range(3)]

    assert all(asyncio.run(some_words()))
    assert asyncio.run(programs["translate"](spoken))
