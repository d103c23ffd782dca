"""A conversation in which nobody speaks gives the model's memory back, and has it again when somebody does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from moshi_mlx.cli.live_model import LiveModel
from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.observer import Observer, State
from moshi_mlx.conversation.rest import Idleness
from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.tasks.captioner import Captioner
from tests.memory import active_memory

SILENT = 1e-5 * np.random.default_rng(0).standard_normal(1920).astype(np.float32)
LOUD = 0.1 * np.random.default_rng(1).standard_normal((40, 1920)).astype(np.float32)
FEW = 5  # frames
PAUSE = 12  # frames of silence that are enough here: longer than a turn's last pause


class Scripted:
    """Microphone and speaker: frames of a script; `at` runs something before a frame.

    Frames come at once, but slowly while the model is loaded, and only a few until it is.
    """

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames, self.muted = frames, False
        self.at: dict[int, Callable[[], object]] = {}
        self.replies: list[Reply] = []
        self.closed = False
        self.loaded, self.at_once = threading.Event(), threading.Event()
        self.at_once.set()
        self._meanwhile = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, frame in enumerate(self.frames):
            if not self.at_once.is_set():
                self._meanwhile += 1
                if self._meanwhile > FEW:
                    self.loaded.wait(60)
                self.at_once.wait(0.05)
            if action := self.at.get(index):
                action()
            if self.closed:
                return
            yield frame

    def write(self, reply: Reply) -> None:
        self.replies.append(reply)

    def close(self) -> None:
        self.closed = True


class Told(Observer):
    """Notes states, with what MLX holds then and the number of replies before."""

    def __init__(self, audio: Scripted) -> None:
        self.audio, self.states, self.held, self.replies = audio, [], [], []

    def state(self, name: State) -> None:
        self.audio.at_once.clear() if name == "loading" else self.audio.at_once.set()
        self.states.append(name)
        self.held.append(active_memory())
        self.replies.append(len(self.audio.replies))


class Resting:
    """A conversation with a tiny model that rests, and all that became of it."""

    def __init__(self, folder: Path, frames: list[np.ndarray]) -> None:
        self.before = active_memory()
        moshi = load(folder, codec="mlx")
        self.weights = parameter_bytes(moshi.lm)
        self.audio = Scripted(frames)
        self.told = Told(self.audio)
        self.loads = 0

        def again(found: object, tell: object) -> Moshi:
            self.loads += 1
            return load(folder, codec="mlx")

        options = SimpleNamespace(load=again)
        screen = SimpleNamespace(note=print)
        self.live = LiveModel(moshi, None, options, screen, seed=5)  # pyright: ignore[reportArgumentType]
        assert self.live.session
        load_again = self.live.load

        def loaded() -> tuple[Session, Captioner | None]:
            try:
                return load_again()
            finally:
                self.audio.loaded.set()

        self.live.load = loaded
        trimmer = ContextTrimmer(self.live.session)
        self.conversation = Conversation(
            self.live.session, self.audio, (), self.told, trimmer=trimmer,
            reloading=self.live, idleness=Idleness(PAUSE * 0.08),
        )  # fmt: skip

    def run(self) -> None:
        try:
            self.conversation.run()
        finally:
            self.live.close()


def alone(folder: Path, frames: np.ndarray) -> list[Reply]:
    with load(folder, codec="mlx").session(seed=5) as session:
        return [session.step(frame) for frame in frames]


def quiet(moshi: Conversation) -> None:
    """Let the model be silent: a random one never is."""
    moshi.turns = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        speaking=(), close=lambda: None, add=lambda frame, reply: None
    )


def test_after_silence_the_memory_is_given_back_until_somebody_speaks(tiny_folder: Path) -> None:
    # Two loud frames are speech, a single one is a click.
    script = [SILENT, *LOUD[:2], *[SILENT] * (PAUSE + 5), LOUD[2], *[SILENT] * 3, *LOUD[3:]]
    scene = Resting(tiny_folder, script)
    quiet(scene.conversation)
    scene.run()
    told = scene.told
    assert told.states == ["unloaded", "loading", "ready", "reset"]
    assert told.held[0] - scene.before < 0.01 * scene.weights
    assert told.held[2] - scene.before > scene.weights
    slept = told.replies[1] - told.replies[0]
    assert slept == len([*[SILENT] * 5, LOUD[2], *[SILENT] * 3, *LOUD[3:5]])
    assert all(reply.audio is None for reply in scene.audio.replies[told.replies[0] : told.replies[2]])
    # Those that came while it loaded were not heard; a new conversation begins with the next.
    heard = len(script) - told.replies[2]
    assert heard > 10
    expected = alone(tiny_folder, np.stack(script[-heard:]))
    assert [reply.text for reply in scene.audio.replies[-heard:]] == [reply.text for reply in expected]
    assert scene.loads == 1
    assert len(scene.audio.replies) == len(script)
    assert scene.audio.closed


@pytest.mark.parametrize("key", ["reset", "toggle_mute"])
def test_a_key_wakes_it_too(tiny_folder: Path, key: str) -> None:
    scene = Resting(tiny_folder, [SILENT] * (PAUSE + 40))
    quiet(scene.conversation)
    scene.audio.at[PAUSE + 4] = getattr(scene.conversation, key)
    scene.run()
    assert scene.told.states[:3] == ["unloaded", "loading", "ready"]
    assert scene.told.replies[1] == PAUSE + 5


def test_it_can_be_ended_while_it_rests_and_does_not_rest_while_somebody_speaks(tiny_folder: Path) -> None:
    scene = Resting(tiny_folder, [SILENT] * (PAUSE + 10))
    quiet(scene.conversation)
    scene.audio.at[PAUSE + 4] = scene.conversation.close
    scene.run()
    assert (scene.told.states, scene.loads) == (["unloaded"], 0)
    talkative = Resting(tiny_folder, [SILENT] * (PAUSE + 5))
    quiet(talkative.conversation)
    talkative.conversation.turns.speaking = ("moshi",)  # pyright: ignore[reportAttributeAccessIssue]
    talkative.run()
    assert talkative.told.states == []
