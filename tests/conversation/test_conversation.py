"""A live conversation with a scripted microphone: resets, mute, push-to-talk, recording, repetition, the end."""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.observer import Observer, State
from moshi_mlx.conversation.recorder import Recorder
from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.conversation.turns import Turn
from moshi_mlx.errors import AudioDeviceError
from moshi_mlx.runtime import pipeline
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Generated, Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.trace import Trace
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.tasks.captioner import Captioner
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Pause, Word


class Told(Observer):
    """Hears of the states of a conversation."""

    def __init__(self, tell: Callable[[State], None]) -> None:
        self._tell = tell

    def state(self, name: State) -> None:
        self._tell(name)


class Audio:
    """Microphone and speaker: `frames` of noise, then the end; `at` runs something before a frame."""

    def __init__(self, frames: int = 12) -> None:
        rng = np.random.default_rng(3)
        self.pcm = (0.1 * rng.standard_normal((frames, 1920))).astype(np.float32)
        self.at: dict[int, object] = {}
        self.muted = False
        self.replies: list[Reply] = []
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, frame in enumerate(self.pcm):
            if action := self.at.get(index):
                action()  # pyright: ignore[reportCallIssue]
            if self.closed.is_set():
                return
            yield np.zeros_like(frame) if self.muted else frame

    def write(self, reply: Reply) -> None:
        self.replies.append(reply)

    def close(self) -> None:
        self.closed.set()


def plain(moshi: Moshi, frames: np.ndarray) -> list[Reply]:
    """What a session alone makes of frames."""
    with moshi.session(seed=5) as session:
        return [session.step(frame) for frame in frames]


def same(one: list[Reply], other: list[Reply]) -> bool:
    return len(one) == len(other) and all(
        a.text == b.text
        and (a.audio is None) == (b.audio is None)
        and (a.audio is None or b.audio is None or np.array_equal(a.audio, b.audio))
        for a, b in zip(one, other, strict=True)
    )


def test_every_frame_gets_the_reply_of_a_session(tiny_moshi: Moshi) -> None:
    audio = Audio()
    with tiny_moshi.session(seed=5) as session:
        stats = Conversation(session, audio).run()
    assert stats.frames == 12
    assert same(audio.replies, plain(tiny_moshi, audio.pcm))
    assert audio.closed.is_set()


@pytest.mark.parametrize("at", [1, 7])
def test_reset_begins_a_new_conversation_with_the_next_frame(tiny_moshi: Moshi, at: int) -> None:
    audio, told, seen = Audio(), [], []

    class Seeing:
        def write(self, reply: Reply) -> None:
            seen.append(reply)

    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio, [Seeing()], Told(lambda name: told.append((name, len(seen)))))
        audio.at[at] = conversation.reset
        conversation.run()
    expected = plain(tiny_moshi, audio.pcm[:at]) + plain(tiny_moshi, audio.pcm[at:])
    assert same(audio.replies, expected)
    assert told == [("reset", at)], "after the last reply of the old one, before the first of the new one"


def test_replies_under_way_belong_to_the_conversation_before_the_reset() -> None:
    class Late:
        """A session whose replies come when the microphone is far ahead."""

        def __init__(self) -> None:
            moshi = SimpleNamespace(codec=SimpleNamespace(threaded=True))
            self.batch = SimpleNamespace(
                moshi=moshi, held_bytes=0, encode=lambda frames: lambda: frames, generate=dict, decode=self.decode
            )
            self.seed, self.sampling = 5, SamplingConfig()
            self.released = threading.Event()
            self._frames = 0

        def decode(self, made: Mapping[Any, np.ndarray]) -> Callable[[], dict[Any, Reply]]:
            assert self.released.wait(60)
            self._frames += 1
            return lambda: {self: Reply(made[self], f"{self._frames}", (self._frames - 1) * 0.08)}

        def reset_encoder(self) -> None: ...

        def resetting(self, positions: int) -> Iterator[None]:
            return iter(())

        def reset_decoder(self) -> None:
            self._frames = 0

    session, audio, seen = Late(), Audio(frames=6), []
    sink = SimpleNamespace(write=lambda reply: seen.append(reply.text))
    conversation = Conversation(session, audio, [sink], Told(seen.append))  # pyright: ignore[reportArgumentType]
    audio.at = {2: conversation.reset, 4: session.released.set}
    conversation.run()
    assert seen == ["1", "2", "reset", "1", "2", "3", "4"]


def test_after_warming_up_not_even_the_first_frame_compiles_anything(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moshi = load(str(tiny_folder), codec="mlx")
    sampling = SamplingConfig(text_top_k=7, repetition_penalty=1.1)
    moshi.warm_up(sampling=sampling)
    traces: list[int] = []
    norm = mx.fast.rms_norm  # called by tracing, not by what was traced
    monkeypatch.setattr(mx.fast, "rms_norm", lambda *a: (traces.append(1), norm(*a))[1])
    with moshi.session(5, sampling) as session:
        Conversation(session, Audio()).run()
    assert not traces
    with moshi.session(5, SamplingConfig(min_p=0.5)) as session:
        Conversation(session, Audio()).run()
    assert traces, "what was not warmed up for is compiled: the count works"


def test_closing_ends_it(tiny_moshi: Moshi) -> None:
    audio = Audio()
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio)
        audio.at[4] = conversation.close
        assert conversation.run().frames == 4


def test_it_ends_after_as_many_frames_as_wanted(tiny_moshi: Moshi) -> None:
    audio = Audio()
    with tiny_moshi.session(seed=5) as session:
        assert Conversation(session, audio, frames=3).run().frames == 3


def test_mute_and_push_to_talk(tiny_moshi: Moshi) -> None:
    audio = Audio()
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio)
        assert conversation.toggle_mute() is audio.muted is True
        assert conversation.toggle_mute() is audio.muted is False
        assert conversation.push_to_talk() is True, "push and speak, also where the microphone was open"
        assert conversation.push_to_talk() is False
        assert audio.muted is True
        assert conversation.push_to_talk() is True
        assert conversation.push_to_talk() is False
        assert conversation.toggle_mute() is False, "m ends push-to-talk"
        conversation.toggle_mute()
        assert conversation.push_to_talk() is True, "push and speak, also where it was muted"
        assert audio.muted is False


def test_the_recorder_keeps_what_was_heard_and_said_across_a_reset(tiny_moshi: Moshi, tmp_path: Path) -> None:
    audio, recorder = Audio(), Recorder(tmp_path / "talk", {"seed": 5})
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio, recorder=recorder)
        audio.at[6] = conversation.reset
        conversation.run()
    recorder.close()
    user, _ = soundfile.read(tmp_path / "talk" / "user.wav", dtype="float32")
    moshi, _ = soundfile.read(tmp_path / "talk" / "moshi.wav", dtype="float32")
    np.testing.assert_allclose(user, audio.pcm.ravel().clip(-1, 1), atol=1 / 32768)
    silence = np.zeros(1920, np.float32)
    said = np.concatenate([silence if reply.audio is None else reply.audio for reply in audio.replies])
    np.testing.assert_allclose(moshi, said.clip(-1, 1), atol=1 / 32768)
    assert json.loads((tmp_path / "talk" / "session.json").read_text())["frames"] == 12


def test_the_trace_has_a_pass_of_every_stage_for_every_frame(tiny_moshi: Moshi, tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json")
    with tiny_moshi.session(seed=5) as session:
        Conversation(session, Audio(), trace=trace).run()
    trace.close()
    names = [event.get("name") for event in json.loads((tmp_path / "t.json").read_text())]
    assert {name: names.count(name) for name in ("encode", "generate", "decode")} == {
        "encode": 12, "generate": 12, "decode": 12,
    }  # fmt: skip


def test_the_trace_tells_when_the_model_forgot(tiny_moshi: Moshi, tmp_path: Path) -> None:
    trace, audio = Trace(tmp_path / "t.json"), Audio()
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio, trace=trace, trimmer=ContextTrimmer(session, kept=0.24))
        audio.at = {4: conversation.trim, 7: conversation.reset}
        conversation.run()
    trace.close()
    names = [event.get("name") for event in json.loads((tmp_path / "t.json").read_text())]
    assert [name for name in names if name in ("trim", "reset")] == ["trim", "reset"]
    assert names[: names.index("trim")].count("encode") == 4
    assert names[: names.index("reset")].count("encode") == 7


def parrot(session: Session) -> Session:
    """Make a session say one sentence for ever."""
    generate = session.batch.generate

    def same_words(codes: Mapping[Session, np.ndarray]) -> dict[Session, Generated]:
        return {who: replace(made, text=" so I said to him that") for who, made in generate(codes).items()}

    session.batch.generate = same_words
    return session


def test_repetition_is_told(tiny_moshi: Moshi) -> None:
    told: list[State] = []
    audio = Audio()
    with tiny_moshi.session(seed=5) as session:
        Conversation(parrot(session), audio, observer=Told(told.append)).run()
    assert told == ["loop"] * (12 // 3)


def test_what_was_said_before_a_reset_is_not_repeated(tiny_moshi: Moshi) -> None:
    told: list[State] = []
    audio = Audio(frames=4)
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(parrot(session), audio, observer=Told(told.append))
        audio.at[2] = conversation.reset
        conversation.run()
    assert told == ["reset"]


def test_an_error_of_the_microphone_is_raised(tiny_moshi: Moshi) -> None:
    audio = Audio()

    def gone() -> None:
        raise AudioDeviceError("the microphone has gone")

    audio.at[3] = gone
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio)
        with pytest.raises(AudioDeviceError, match="has gone"):
            conversation.run()
    assert audio.closed.is_set()
    assert conversation.stats.frames == 3
    assert conversation.stats.seconds > 0, "it was counted until then"


def test_a_trim_comes_with_the_next_frame_and_the_voice_goes_on(tiny_moshi: Moshi) -> None:
    audio, told = Audio(), []
    with tiny_moshi.session(seed=5) as session:
        trimmer = ContextTrimmer(session, kept=0.24)
        conversation = Conversation(session, audio, observer=Told(told.append), trimmer=trimmer)
        audio.at[7] = conversation.trim
        conversation.run()
    with tiny_moshi.session(seed=5) as session:
        session.remember(3)
        expected = [session.step(frame) for frame in audio.pcm[:7]]
        session.trim()
        expected += [session.step(frame) for frame in audio.pcm[7:]]
    assert same(audio.replies, expected)
    assert not same(audio.replies, plain(tiny_moshi, audio.pcm))
    assert [reply.time for reply in audio.replies] == pytest.approx(np.arange(12) * 0.08)
    assert told == ["refresh"]


def test_a_reset_makes_a_trim_needless(tiny_moshi: Moshi) -> None:
    audio, told = Audio(), []
    with tiny_moshi.session(seed=5) as session:
        conversation = Conversation(session, audio, observer=Told(told.append), trimmer=ContextTrimmer(session))

        def both() -> None:
            conversation.trim()
            conversation.reset()

        audio.at[7] = both
        conversation.run()
    assert same(audio.replies, plain(tiny_moshi, audio.pcm[:7]) + plain(tiny_moshi, audio.pcm[7:]))
    assert told == ["reset"]


class Slow(Audio):
    """One whose frames are waited for, by the clock that it turns."""

    now = 5.0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in super().__iter__():
            self.now += 0.005
            yield frame

    def clock(self) -> float:
        return self.now


class Unhurried(Captioner):
    """Captions on a machine that is as fast as it takes."""

    def work(self, until: float) -> None:
        super().work(math.inf)


class Captions(Told):
    """Hears of captions and turns."""

    def __init__(self) -> None:
        super().__init__(lambda name: None)
        self.words: list[Word] = []
        self.turns: list[Turn] = []

    def caption(self, event: Word | Pause) -> None:
        if isinstance(event, Word):
            self.words.append(event)

    def turn(self, turn: Turn) -> None:
        self.turns.append(turn)


@pytest.fixture(scope="module")
def transcriber(stt_folder: Path) -> Transcriber:
    return Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.16))


def test_captions_are_made_between_the_frames(
    tiny_moshi: Moshi, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, told, audio = Unhurried(transcriber), Captions(), Slow(frames=40)
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=audio.clock))
    audio.pcm[:5] = audio.pcm[30:] = 0.0
    with tiny_moshi.session(seed=5) as session:
        Conversation(session, audio, observer=told, captions=captions).run()
    assert same(audio.replies, plain(tiny_moshi, audio.pcm)), "Moshi says the same as without"
    assert len(told.words) > 3
    assert captions.dropped == 0
    user = next(turn for turn in told.turns if turn.speaker == "user")
    said = " ".join(word.text for word in told.words if user.begin - 1 <= word.start < user.end)
    assert user.text.startswith(said)
    assert said


def test_a_conversation_that_is_behind_makes_no_captions(
    tiny_moshi: Moshi, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, told, audio = Unhurried(transcriber), Captions(), Audio(frames=60)
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=lambda: 5.0))  # all are there at once
    with tiny_moshi.session(seed=5) as session:
        Conversation(session, audio, observer=told, captions=captions).run()
    assert same(audio.replies, plain(tiny_moshi, audio.pcm))
    assert told.words == []
    assert captions.dropped == 10, "fifty wait"
