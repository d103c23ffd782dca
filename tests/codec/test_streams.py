"""Streams that take their frames together: each gives what it gives alone, whoever else comes, goes or rests."""

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.codec.base import CodecStream, StreamsApart
from moshi_mlx.codec.mlx import MlxStreams
from moshi_mlx.errors import CodecError
from moshi_mlx.frames import FRAME_SAMPLES, silence
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MIMI, MimiConfig
from tests.models.test_mimi import build
from tests.random_mimi import SMALL_MIMI, gliding_tone

SMALL = MimiConfig.from_dict(SMALL_MIMI)
NARROW = replace(  # the published one with a twelfth of its channels
    MIMI,
    seanet=replace(MIMI.seanet, dimension=48, n_filters=6),
    transformer=replace(MIMI.transformer, dim=48, num_heads=4, ffn_hidden=96, context=40),
    n_q=8,
    bins=64,
    codebook_dim=16,
)
TICKS, PLACES = 40, 6


def nano() -> Mimi:
    return Checkpoint.resolve("nano").load_codec("mlx")._mimi  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(params=[lambda: build(SMALL), lambda: build(NARROW), nano], ids=["small", "narrow", "nano"])
def mimi(request: pytest.FixtureRequest) -> Mimi:
    return request.param()


class Voice:
    """One who comes, rests, begins anew and goes; and what it heard and got since it last began."""

    def __init__(self, stream: CodecStream, pcm: np.ndarray) -> None:
        self.stream, self.pcm = stream, pcm
        self.heard: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.audio: list[np.ndarray] = []

    def check(self, mimi: Mimi) -> None:
        if not self.codes:
            return
        codes = np.array(mimi.encode(mx.array(np.concatenate(self.heard))[None]))[0]
        np.testing.assert_array_equal(np.transpose(self.codes), codes)
        audio = np.array(mimi.decode(mx.array(codes)[None]))[0]
        tolerance = 1e-5 * np.abs(audio).max()
        np.testing.assert_allclose(np.concatenate(self.audio), audio, rtol=0, atol=tolerance)

    def begin_anew(self, mimi: Mimi) -> None:
        self.check(mimi)
        self.heard, self.codes, self.audio = [], [], []
        self.stream.reset_encoder()
        self.stream.reset_decoder()


def test_each_gives_what_it_gives_alone(mimi: Mimi) -> None:
    random, streams = np.random.RandomState(0), MlxStreams(mimi, 2048)
    pcm = gliding_tone(TICKS + 40).reshape(-1, FRAME_SAMPLES)
    voices: list[Voice] = []
    sizes = set()
    for tick in range(TICKS):
        if len(voices) < PLACES and random.rand() < 0.3:
            voices.append(Voice(streams.stream(), pcm[random.randint(40) :]))
        if voices and random.rand() < 0.1:
            voices[random.randint(len(voices))].begin_anew(mimi)
        if len(voices) > 2 and random.rand() < 0.1:
            gone = voices.pop(random.randint(len(voices)))
            gone.check(mimi)
            gone.stream.close()
        here = [voice for voice in voices if random.rand() < 0.95]
        frames = {voice.stream: voice.pcm[tick] for voice in here}
        codes = streams.encode(frames)()
        audio = streams.decode({voice.stream: _good(codes[voice.stream]) for voice in here})()
        for voice in here:
            voice.heard.append(frames[voice.stream])
            voice.codes.append(_good(codes[voice.stream]))
            voice.audio.append(_good(audio[voice.stream]))
        sizes.add(len(here))
    for voice in voices:
        voice.check(mimi)
    assert {1, 4} <= sizes


def _good(answer: np.ndarray | CodecError) -> np.ndarray:
    assert isinstance(answer, np.ndarray)
    return answer


def test_a_state_has_the_rows_of_those_who_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    mimi, rows = build(SMALL), []
    streams = MlxStreams(mimi, SMALL.bins)
    encode: Callable[..., mx.array] = mimi.encode_half
    monkeypatch.setattr(mimi, "encode_half", lambda pcm, half: (rows.append(len(pcm)), encode(pcm, half))[1])
    people = [streams.stream() for _ in range(4)]
    for there in ([0], [0, 1, 2, 3], [3, 0], [0]):
        streams.encode({people[index]: silence() for index in there})()
    people[1].encode(silence())
    assert rows == [1, 4, 2, 1, 1]


def test_who_has_no_frame_asks_nothing() -> None:
    streams = MlxStreams(build(SMALL), SMALL.bins)
    assert streams.encode({})() == streams.decode({})() == {}


def test_a_wrong_code_is_the_trouble_of_one() -> None:
    streams = MlxStreams(build(SMALL), SMALL.bins)
    good, bad = streams.stream(), streams.stream()
    codes = np.zeros(SMALL.n_q, np.int32)
    audio = streams.decode({bad: codes + SMALL.bins, good: codes})()
    assert isinstance(audio[good], np.ndarray)
    assert isinstance(audio[bad], CodecError)
    with pytest.raises(CodecError, match="code 48 of codebook 0"):
        bad.decode(codes + SMALL.bins)


@pytest.mark.parametrize("threaded", [False, True], ids=str)
def test_streams_that_share_nothing_answer_each_for_itself(threaded: bool) -> None:
    class Dead:
        def encode(self, frame: np.ndarray) -> np.ndarray:
            raise CodecError("its process died")

    class Alive:
        def encode(self, frame: np.ndarray) -> np.ndarray:
            return frame + 1

    class Some:
        pass

    codec, dead, alive = Some(), Dead(), Alive()
    codec.threaded = threaded  # pyright: ignore[reportAttributeAccessIssue]
    streams = StreamsApart(codec)  # pyright: ignore[reportArgumentType]
    answers = streams.encode({dead: silence(), alive: silence()})()  # pyright: ignore[reportArgumentType]
    assert str(answers[dead]) == "its process died"  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(answers[alive], silence() + 1)  # pyright: ignore[reportArgumentType]
