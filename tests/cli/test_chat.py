"""`moshi-mlx chat` as a person uses it: a program of its own between a real microphone and a real speaker.

Both are made of software (tests/sound_card.py); the model is Nano, who answers.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.nano import FOLDER, RECORDING, captions
from moshi_mlx.cli.latency import breakdown_text
from moshi_mlx.conversation.latency import LatencyBreakdown, LatencyStage
from tests.audio.talking import SOME, found
from tests.cli.conftest import Done
from tests.sound_card import SoundCard

PATIENCE = 120  # seconds for what takes a few: the machine may be busy
ANSWER = 20.0  # seconds for an answer


class Chat:
    """A running `moshi-mlx chat --json` and the events it printed so far."""

    def __init__(self, *words: object, module: str = "moshi_mlx", command: str = "chat") -> None:
        program = [sys.executable, "-m", module, *([command] if command else []), *map(str, words)]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events: list[dict] = []
        self.errors = ""
        self._ended = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, wanted: Callable[[list[dict]], object]) -> None:
        """Until the events so far are as wanted."""
        with self._changed:
            self._changed.wait_for(lambda: wanted(self.events) or self._ended, PATIENCE)
            assert wanted(self.events), (self.events, self.errors)

    def said(self, word: str, seconds: float) -> bool:
        """Whether Nano says this within some seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: word in self.text, seconds)

    @property
    def text(self) -> str:
        return "".join(event["text"] for event in self.events if event["event"] == "text").strip()

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.errors += line


def is_ready(events: list[dict]) -> bool:
    return {"event": "state", "state": "ready"} in events


@pytest.fixture
def question() -> np.ndarray:
    """The first question of the demo."""
    first = captions()[0]
    pcm = read_audio(RECORDING).pcm
    return pcm[int(first["begin"] * 24_000) : int(first["end"] * 24_000)]


@pytest.fixture
def chat(sound_card: SoundCard) -> Iterator[Callable[..., Chat]]:
    """Starts chats that hear and speak through the software sound card."""
    started: list[Chat] = []

    def start(*words: object, **how: str) -> Chat:
        started.append(Chat(*words, **how))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_a_spoken_question_is_answered_through_the_speaker(
    chat: Callable[..., Chat], sound_card: SoundCard, question: np.ndarray, tmp_path: Path
) -> None:
    talk = chat(
        "--model", "nano", "--json", "--input", "virtmic", "--output", "virtspk", "--save", tmp_path / "talk",
        "--trace", tmp_path / "trace.json", "--seed", 3,
    )  # fmt: skip
    talk.wait_for(is_ready)
    with sound_card.listen() as heard:
        sound_card.speak(np.concatenate([np.zeros(12_000, np.float32), question])).wait()
        answered = talk.said("Paris.", ANSWER)
        threading.Event().wait(1.5)  # the last word is being said
    assert talk.end() == 130
    assert "interrupted: the conversation has ended, and all that was said is kept\n" in talk.errors
    end = talk.events[-1]
    assert answered, f"{talk.text!r}; {end['dropped']} of {end['frames']} frames dropped: the machine must keep up"
    assert talk.text == "The capital of France is Paris."
    assert (end["event"], end["text"], end["interrupted"], end["seed"]) == ("end", talk.text, True, 3)
    loud = np.sqrt(np.mean(heard[0][: len(heard[0]) // 1920 * 1920].reshape(-1, 1920) ** 2, axis=1)) > 0.01
    assert 8 <= loud.sum() <= 40, "about two seconds of speech"

    user, _ = soundfile.read(tmp_path / "talk" / "user.wav", dtype="float32")
    moshi, _ = soundfile.read(tmp_path / "talk" / "moshi.wav", dtype="float32")
    assert len(user) == len(moshi) == 1920 * json.loads((tmp_path / "talk" / "session.json").read_text())["frames"]
    pieces = np.split(question[:24_000], 25)  # half a frame each: a busy machine drops whole ones
    loudest = sorted(pieces, key=lambda piece: -float(piece @ piece))[:15]
    assert np.mean([found(piece, user)[0] > 0.95 for piece in loudest]) > SOME
    said = [json.loads(line) for line in (tmp_path / "talk" / "transcript.jsonl").read_text().splitlines()]
    assert "".join(one["text"] for one in said).strip() == talk.text
    spans = json.loads((tmp_path / "trace.json").read_text())
    assert sum(event.get("name") == "generate" for event in spans) == end["frames"]


def test_the_known_front_door_talks_too(chat: Callable[..., Chat], tmp_path: Path) -> None:
    talk = chat("--hf-repo", "nano", "--steps", 10, module="moshi_mlx.local", command="")
    assert talk.process.wait(PATIENCE) == 0
    talk.end()
    assert re.search(r"speak now\n", talk.errors)
    assert re.search(r"^10 frames in", talk.errors, re.MULTILINE)


def test_a_translation_model_translates_live(
    chat: Callable[..., Chat], hibiki_folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    talk = chat("--json", "-m", hibiki_folder, "--codec", "mlx", "--cfg", 2, "--save", kept)
    talk.wait_for(lambda events: sum(event["event"] == "text" for event in events) >= 3)
    assert talk.end() == 130
    about = json.loads((kept / "session.json").read_text())
    assert about["conditions"] == {"description": "very_good"}
    assert about["guidance"] == 2


def test_it_ends_though_the_sound_server_does_not_answer_any_more(
    sound_card: SoundCard, chat: Callable[..., Chat]
) -> None:
    """As it was once seen on a busy machine: the last call of PortAudio never came back."""
    talk = chat("--model", "nano", "--json")
    talk.wait_for(is_ready)
    sound_card.freeze()
    try:
        talk.wait_for(lambda events: any(event.get("kind") == "lost" for event in events))
        assert talk.end() == 130
    finally:
        sound_card.freeze(False)
    assert talk.events[-1]["event"] == "end"
    assert talk.events[-1]["seconds"] > 0
    assert re.search(r" has stopped or gone; waiting until it is back\n", talk.errors)
    assert re.search(r"^\d+ frames in .*\n(.+\n)?seed \d+\n$", talk.errors, re.MULTILINE), "all is said"
    assert "Traceback" not in talk.errors


def test_where_the_milliseconds_go(sound_card: SoundCard, chat: Callable[..., Chat]) -> None:
    talk = chat("--model", "nano", "--latency", "--json", "--input", "loopmic", "--output", "virtspk")
    assert talk.process.wait(PATIENCE) == 0
    talk.end()
    (breakdown,) = talk.events
    assert breakdown["event"] == "latency"
    assert breakdown["played"] == 10
    stages = {stage["name"]: stage["ms"] for stage in breakdown["rungs"]}
    assert {"a frame fills", "echo canceller", "encode", "generate", "decode"} <= set(stages)
    assert breakdown["mouth_to_ear_ms"] == pytest.approx(sum(stages.values()), abs=0.1)
    assert breakdown["mouth_to_ear_ms"] > 160, "a frame and the model's own delay"
    # A busy machine leaves frames out, and clicks before them do not count.
    assert (breakdown["heard"] > 0) == ("air and drivers, beyond what the system says" in stages)
    assert "listen to 10 clicks" in talk.errors


def test_clicks_are_no_conversation_to_be_kept(moshi_cli: Callable[..., Done], tmp_path: Path) -> None:
    for words in (("--save", tmp_path / "talk"), ("--persona", "You are a teacher."), ("--voice", "NATF2")):
        done = moshi_cli("chat", "--latency", *words)
        assert done.code == 2
        assert "--latency is no conversation" in done.err
    assert not (tmp_path / "talk").exists()


def test_the_breakdown_is_a_table_for_people() -> None:
    stages = [
        LatencyStage("a frame fills", 80.0, None, "fixed"),
        LatencyStage("generate", 21.5, 30.25, "measured"),
    ]
    lines = breakdown_text(LatencyBreakdown(stages, 10, 0)).splitlines()
    assert lines[1].split() == ["a", "frame", "fills", "80.0", "fixed"]
    assert lines[2].split() == ["generate", "21.5", "30.2", "measured"]
    assert lines[3].split() == ["mouth", "to", "ear", "101.5"]
    assert lines[4].startswith("0 of 10 clicks were heard: what the devices take is only what the system says")
    assert "only" not in breakdown_text(LatencyBreakdown(stages, 10, 9))


def test_a_device_that_is_not_there_is_one_line(sound_card: SoundCard, chat: Callable[..., Chat]) -> None:
    talk = chat("--model", "nano", "--input", "no such thing")
    assert talk.process.wait(PATIENCE) == 1
    talk.end()
    assert talk.errors.startswith("error: ")
    assert "no such thing" in talk.errors
    assert talk.errors.count("\n") == 1


def test_no_model_and_no_network_suggests_nano(moshi_cli: Callable[..., Done], sound_card: SoundCard) -> None:
    done = moshi_cli("chat", "--model", "moshiko-q8", "--offline")
    assert done.code == 1
    assert re.fullmatch(r"error: .*, or take nano or nano-stt or nano-persona, which are here already\n", done.err)


def test_a_folder_with_a_conversation_is_not_written_over(chat: Callable[..., Chat], tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text("{}")
    talk = chat("--model", "nano", "--save", tmp_path)
    assert talk.process.wait(PATIENCE) == 1
    talk.end()
    assert re.fullmatch(r"error: .* already holds a conversation; choose another folder\n", talk.errors), (
        "before anything is loaded"
    )


def test_killed_it_leaves_what_was_said(chat: Callable[..., Chat], tmp_path: Path) -> None:
    talk = chat("--model", "nano", "--json", "--input", "virtmic", "--save", tmp_path / "talk", "--seed", 3)
    talk.wait_for(is_ready)
    session = tmp_path / "talk" / "session.json"
    deadline = time.monotonic() + PATIENCE
    while json.loads(session.read_text())["frames"] < 12 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(talk.process.pid, signal.SIGKILL)
    talk.end()
    assert soundfile.info(tmp_path / "talk" / "mix.wav").frames >= 12 * 1920
    about = json.loads(session.read_text())
    assert (about["model"], about["seed"], about["echo"]) == ("nano", 3, "auto")
    assert about["weights"]["sha256"] == hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert about["frames"] >= 12
    assert about["dropped"] >= 0
    assert "virtmic" in about["devices"][0]


def test_what_one_says_is_written_down_too(
    chat: Callable[..., Chat], sound_card: SoundCard, tmp_path: Path
) -> None:
    talk = chat(
        "--model", "nano", "--json", "--input", "virtmic", "--output", "virtspk", "--captions", "nano-stt",
        "--codec", "mlx", "--save", tmp_path / "talk",
    )  # fmt: skip
    talk.wait_for(is_ready)
    sound_card.speak(read_audio(RECORDING).pcm[: 5 * 24_000])  # the first question
    talk.wait_for(lambda events: sum(event["event"] == "caption" for event in events) > 3)
    assert talk.end() == 130
    known = set(captions()[0]["text"].lower().strip("?").split())
    assert len({event["word"].lower() for event in talk.events if event["event"] == "caption"} & known) > 2
    assert talk.events[-1]["captions_dropped"] >= 0
