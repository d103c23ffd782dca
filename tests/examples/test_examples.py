"""The programs in examples/ run as they stand, with Nano, and Nano's answers are what they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.nano import RECORDING, captions
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.moshi import load
from moshi_mlx.sampling_config import SamplingConfig
from tests.sound_card import SoundCard
from tests.web.running import Running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 120.0  # seconds: the machine may be busy
FRANCE, FRANCE_ANSWER = "What is the capital of France?", "The capital of France is Paris."
HOURS, HOURS_ANSWER = "How many hours are in a day?", "A day has twenty four hours."


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two questions of the demo's recording, each in a file of its own."""
    folder, pcm = tmp_path_factory.mktemp("questions"), read_audio(RECORDING).pcm
    cut = {one["text"]: pcm[int(one["begin"] * SAMPLE_RATE) : int(one["end"] * SAMPLE_RATE)] for one in captions()}
    paths = {FRANCE: folder / "france.wav", HOURS: folder / "hours.wav"}
    for question, path in paths.items():
        soundfile.write(path, cut[question], SAMPLE_RATE)
    return paths


def start(name: str, *words: object, blas: bool = False) -> subprocess.Popen[str]:
    """The program, as a person would start it in a clone. blas: by scripts/with_blas.sh."""
    return subprocess.Popen(
        [
            *([ROOT / "scripts" / "with_blas.sh"] if blas else []),
            sys.executable,
            EXAMPLES / name,
            *map(str, words),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(program: subprocess.Popen[str], patience: float = PATIENCE) -> list[str]:
    """What it prints until it ends, which must be well."""
    out, err = program.communicate(timeout=patience)
    assert program.returncode == 0, err
    return out.splitlines()


def test_every_example_is_described_and_short() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    examples = sorted(EXAMPLES.glob("*.py"))
    assert len(examples) == 7
    assert [path.name for path in examples if f"(../examples/{path.name})" not in page] == []
    lengths = {path.name: len(path.read_text().splitlines()) for path in examples}
    assert lengths.pop("teach_nano.py") <= 150
    assert max(lengths.values()) <= 62


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_source_and_sink.py", "two_people.py"])
def test_each_recording_gets_its_answer(name: str, spoken: dict[str, Path]) -> None:
    assert sorted(lines(start(name, spoken[FRANCE], spoken[HOURS]))) == [
        f"{spoken[FRANCE]}: {FRANCE_ANSWER}",
        f"{spoken[HOURS]}: {HOURS_ANSWER}",
    ]


@pytest.mark.slow
def test_conversations_of_asyncio_take_turns(spoken: dict[str, Path]) -> None:
    printed = [line.split(maxsplit=3) for line in lines(start("asyncio_sessions.py", *spoken.values()))]
    words = {path: " ".join(word for who, *_, word in printed if who == str(path)) for path in spoken.values()}
    assert words == {spoken[FRANCE]: FRANCE_ANSWER, spoken[HOURS]: HOURS_ANSWER}
    speakers = [who for who, *_ in printed]
    assert speakers != sorted(speakers), "one was answered only after the other"
    times = [float(time) for who, time, *_ in printed if who == str(spoken[FRANCE])]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_quantized_model_is_compared_and_answers(spoken: dict[str, Path]) -> None:
    size, divergence, agreement, answer = lines(start("quantize_and_compare.py", spoken[FRANCE]))
    assert size == "7.1 MB of weights, 5.01 bits each"
    figures = re.findall(r"[\d.]+(?:e-\d+)?", divergence)
    value, low, high = (float(figures[index]) for index in (0, 2, 3))  # between them, the 95 %
    assert 0 < low <= value <= high < 0.1
    assert float(re.findall(r"at ([\d.]+)% of", agreement)[0]) > 95
    assert answer.strip() == FRANCE_ANSWER


@pytest.fixture
def server() -> Iterator[Running]:
    """Nano, which always takes the likeliest token, so that its answer does not depend on a seed."""
    moshi = load("nano", offline=True)
    moshi.sampling = SamplingConfig(text_temperature=0, audio_temperature=0)
    running = Running(moshi)
    yield running
    running.stop()


@pytest.mark.serial
@pytest.mark.slow
def test_a_server_is_asked_over_its_web_socket(server: Running, spoken: dict[str, Path], tmp_path: Path) -> None:
    (words,) = lines(start("web_socket_client.py", spoken[FRANCE], tmp_path / "answer.wav", "--url", server.url))
    with urllib.request.urlopen(f"{server.url}/metrics") as metrics:
        lost = sum(map(int, re.findall(r"^moshi_(?:dropped|missing)\w+ (\d+)$", metrics.read().decode(), re.M)))
    assert words
    if lost == 0:  # with parts of the question unheard, the answer may be another
        assert words.strip() == FRANCE_ANSWER
    answer, rate = soundfile.read(tmp_path / "answer.wav")
    assert rate == SAMPLE_RATE
    assert len(answer) / rate + lost * 0.08 > 6.5  # of 7.7 s that were spoken
    assert np.abs(answer).max() > 0.1


@pytest.mark.serial
@pytest.mark.slow
def test_one_talks_through_microphone_and_speaker(sound_card: SoundCard, spoken: dict[str, Path]) -> None:
    devices = ("--input", "virtmic", "--output", "virtspk")
    program = start("microphone.py", *devices, "--seconds", 7)
    assert program.stdout is not None
    with sound_card.listen() as heard:
        opened = [program.stdout.readline() for _ in range(3)]
        assert opened[2] == "speak now\n", program.communicate(timeout=PATIENCE)
        sound_card.speak(read_audio(spoken[FRANCE]).pcm)
        words, end = lines(program)
    assert [line.partition(",")[0] for line in opened[:2]] == ["microphone: virtmic", "speaker: virtspk"]
    assert words
    if end == "0 frames were dropped":
        assert words.strip() == FRANCE_ANSWER
    assert np.abs(heard[0]).max() > 0.1


@pytest.mark.slow
def test_nano_learns_a_question_and_keeps_what_it_knew(tmp_path: Path) -> None:
    if not shutil.which("flite"):
        pytest.skip("flite is not here")
    reduced = ("--seed", 3, "--steps", 40, "--takes", 2, "--old", 4)
    *_, taught, new, old = lines(start("teach_nano.py", tmp_path / "taught", *reduced, blas=True), 4 * PATIENCE)
    assert re.match(r"taught in [\d.]+ minutes: .+\? .+\.", taught)
    before, after = map(int, re.findall(r"(\d) of 5", new))
    assert before == 0
    assert after >= 4
    right, asked = map(int, re.findall(r"\d+", old))
    assert asked == 8
    assert right >= 0.95 * asked
