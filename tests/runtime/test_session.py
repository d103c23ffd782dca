"""Conversations: delays, reset, company, threads, endless length."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import ConfigError, SessionError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Generated, Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import GREEDY, SamplingConfig
from tests.memory import active_memory


def talk(session: Session, frames: np.ndarray) -> list[Reply]:
    return [session.step(frame) for frame in frames]


LAST_BITS = 1e-5  # of the audio's peak: products of several rows add up in another order than those of one


def same(first: list[Reply], second: list[Reply], tolerance: float = LAST_BITS) -> bool:
    """Whether two talks are equal, all words and times of them; tolerance is for the audio, of its peak."""

    def equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
        return a is b if a is None or b is None else bool(np.abs(a - b).max() <= tolerance * np.abs(a).max())

    return len(first) == len(second) and all(
        a.text_id == b.text_id and a.text == b.text and a.time == b.time and equal(a.audio, b.audio)
        for a, b in zip(first, second, strict=True)
    )


def test_audio_comes_once_the_acoustic_delay_is_filled(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    replies = talk(tiny_moshi.session(seed=1), noise_frames[:5])
    assert replies[0].audio is None
    for reply in replies[1:]:
        assert reply.audio is not None
        assert reply.audio.shape == (FRAME_SAMPLES,)
        assert reply.audio.dtype == np.float32
        assert np.abs(reply.audio).max() > 0
    assert [reply.time for reply in replies] == pytest.approx([step * FRAME_SECONDS for step in range(5)])


def test_a_seed_decides_the_conversation(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    first, again, other = (talk(tiny_moshi.session(seed=seed), noise_frames[:20]) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_the_user_is_heard_from_the_second_frame_on(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames = noise_frames[:20].copy()
    plain = talk(tiny_moshi.session(seed=1, sampling=GREEDY), frames)
    frames[0] = 0
    assert same(plain, talk(tiny_moshi.session(seed=1, sampling=GREEDY), frames))
    frames[1] = 0
    assert not same(plain, talk(tiny_moshi.session(seed=1, sampling=GREEDY), frames))


def test_second_talk_equals_first_after_reset(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    session = tiny_moshi.session(seed=5)
    first = talk(session, noise_frames[:30])
    session.reset()
    assert same(first, talk(session, noise_frames[:30]))


def test_sessions_of_one_model_do_not_touch_each_other(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    alone = talk(tiny_moshi.session(seed=1), noise_frames[:20])
    one, two = tiny_moshi.session(seed=1), tiny_moshi.session(seed=2)
    mixed = []
    for frame, other in zip(noise_frames[:20], noise_frames[20:40], strict=True):
        mixed.append(one.step(frame))
        two.step(other)
    assert same(alone, mixed)


def tokens_of(generated: Generated) -> tuple[int, list[int] | None]:
    return generated.text_id, None if generated.codes is None else generated.codes.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig()], ids=["greedy", "sampled"])
def test_in_a_batch_each_gets_exactly_its_tokens_alone(
    tiny_moshi: Moshi, noise_frames: np.ndarray, sampling: SamplingConfig
) -> None:
    length = 2 * TINY["context"] + 40
    random = np.random.RandomState(2)
    users = random.randint(0, TINY["card"], (4, length, 8))
    alone = []
    for seed, codes in enumerate(users):
        session = tiny_moshi.session(seed, sampling)
        alone.append([tokens_of(session.generate(frame)) for frame in codes])

    batch = tiny_moshi.batch(3)
    starts = {0: 0, 1: 7, 2: 30, 3: 95}  # the fourth takes the place of the second, which leaves at 90
    ends = {0: length, 1: 90, 2: length, 3: length}
    sessions: dict[int, Session] = {}
    together: dict[int, list] = {person: [] for person in starts}
    for step in range(length):
        for person, start in starts.items():
            if step == start:
                sessions[person] = batch.join(person, sampling)
            if step == ends[person]:
                sessions.pop(person).close()
        frames = {session: users[person][step - starts[person]] for person, session in sessions.items()}
        made = batch.generate(frames)
        for person, session in sessions.items():
            together[person].append(tokens_of(made[session]))
    for person, tokens in together.items():
        assert len(tokens) == ends[person] - starts[person]
        assert tokens == alone[person][: len(tokens)], f"person {person}"


@pytest.mark.slow
def test_a_session_without_a_frame_hears_silence_and_disturbs_nobody(
    tiny_moshi: Moshi, noise_frames: np.ndarray
) -> None:
    gappy = [frame if step % 3 == 0 else np.zeros_like(frame) for step, frame in enumerate(noise_frames[:30])]
    alone = [
        talk(tiny_moshi.session(1, GREEDY), noise_frames[:30]),
        talk(tiny_moshi.session(2, GREEDY), np.array(gappy)),
    ]
    batch = tiny_moshi.batch(2)
    steady, slow = batch.join(1, GREEDY), batch.join(2, GREEDY)
    together = []
    for step, frame in enumerate(noise_frames[:30]):
        together.append(batch.step({steady: frame} if step % 3 else {steady: frame, slow: frame}))
    for session, expected in zip((steady, slow), alone, strict=True):
        assert same(expected, [replies[session] for replies in together], tolerance=1e-5)


def test_a_session_that_has_begun_cannot_be_left_out_unnoticed(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(2)
    first, second = batch.join(1), batch.join(2)
    codes = np.zeros(8, np.int32)
    batch.generate({first: codes})
    batch.generate({first: codes, second: codes})
    with pytest.raises(SessionError, match=r"1 session\(s\) of this batch have begun and got no frame"):
        batch.generate({first: codes})


def test_a_row_that_has_not_begun_hears_nothing_of_its_waiting(tiny_moshi: Moshi) -> None:
    users = np.random.RandomState(6).randint(0, TINY["card"], (30, 8))
    session = tiny_moshi.session(2, GREEDY)
    alone = [tokens_of(session.generate(codes)) for codes in users]
    batch = tiny_moshi.batch(2)
    early, late = batch.join(1, GREEDY), batch.join(2, GREEDY)
    for _ in range(10):
        batch.generate({early: users[0]})
    assert [tokens_of(batch.generate({early: codes, late: codes})[late]) for codes in users] == alone


@pytest.mark.parametrize("known", [1, 50, 200])
def test_after_prefilling_a_conversation_goes_on_as_after_stepping(tiny_moshi: Moshi, known: int) -> None:
    users = np.random.RandomState(8).randint(0, TINY["card"], (known + 30, 8))
    stepped = tiny_moshi.session(1, GREEDY)
    made = []  # what the step itself sampled, before delays
    take = stepped.take
    stepped.take = lambda sampled, vad=None: (made.append(sampled.copy()), take(sampled, vad))[1]
    whole = [tokens_of(stepped.generate(codes)) for codes in users]
    history = np.array(made[:known])
    session = tiny_moshi.session(1, GREEDY)
    session.batch.prefill(session, history[:, 0], history[:, 1:], users[:known])
    assert session.delays.step == known
    assert [tokens_of(session.generate(codes)) for codes in users[known:]] == whole[known:]
    states = [one.batch._state.temporal.arrays() for one in (session, stepped)]  # pyright: ignore[reportAttributeAccessIssue]
    assert all(np.abs(np.array(one) - np.array(other)).max() < 1e-5 for one, other in zip(*states, strict=True))


def test_a_reset_in_company_forgets_one_row_only(tiny_moshi: Moshi) -> None:
    users = np.random.RandomState(5).randint(0, TINY["card"], (60, 8))
    session = tiny_moshi.session(1, GREEDY)
    alone = [tokens_of(session.generate(codes)) for codes in users]
    batch = tiny_moshi.batch(2)
    steady, other = batch.join(1, GREEDY), batch.join(1, GREEDY)
    steadily, anew = [], []
    for step, codes in enumerate(users):
        if step == 20:
            other.reset()
        made = batch.generate({steady: codes, other: users[step - 20 if step >= 20 else step]})
        steadily.append(tokens_of(made[steady]))
        anew.append(tokens_of(made[other]))
    assert steadily == alone
    assert anew[20:] == alone[:40]


def test_a_step_on_a_worker_thread_equals_one_here(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    here = talk(tiny_moshi.session(seed=1), noise_frames[:10])
    session = tiny_moshi.session(seed=1)  # made here, stepped there
    there: list[Reply] = []
    worker = threading.Thread(target=lambda: there.extend(talk(session, noise_frames[:10])))
    worker.start()
    worker.join()
    assert same(here, there)


def test_a_step_pushed_from_asyncio_equals_one_here(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    here = talk(tiny_moshi.session(seed=1), noise_frames[:10])
    session = tiny_moshi.session(seed=1)

    async def push() -> list[Reply]:
        return [await asyncio.to_thread(session.step, frame) for frame in noise_frames[:10]]

    assert same(here, asyncio.run(push()))


@pytest.fixture
def no_buffer_cache() -> Iterator[None]:
    """A reused buffer may be larger than asked for, which would show in counts of bytes."""
    limit = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(limit)


@pytest.mark.slow
@pytest.mark.usefixtures("no_buffer_cache")
def test_memory_of_frame_500_is_memory_of_frame_1500(tiny_moshi: Moshi) -> None:
    small = {**TINY, "context": 256, "dim": 32, "num_layers": 1, "depformer_num_layers": 1}
    lm = Lm(LmConfig.from_dict(small))
    mx.eval(lm.parameters())
    session = Moshi(lm, tiny_moshi.codec, tiny_moshi.tokenizer).session(seed=1)
    codes = np.zeros(8, np.int32)
    held = {}
    for frame in range(1, 1501):
        session.generate(codes)
        if frame in (500, 1500):  # the window has long been full
            held[frame] = active_memory()
    assert abs(held[1500] - held[500]) < 4 * 1000, "less than one number a frame"


@pytest.mark.slow
def test_after_warming_up_nothing_is_traced_again(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moshi = load(str(tiny_folder), codec="mlx")
    moshi.warm_up(2)
    traces: list[int] = []
    norm = mx.fast.rms_norm  # called by tracing, not by what was traced
    monkeypatch.setattr(mx.fast, "rms_norm", lambda *a: (traces.append(1), norm(*a))[1])
    batch = moshi.batch(2)
    first = batch.join(1)
    second = None
    for frame in range(3 * TINY["context"]):  # through a filling window, its wrap, and company that comes and goes
        if frame == 20:
            second = batch.join(2)
        if frame == 100 and second:
            second.close()
            second = None
        batch.generate({session: np.zeros(8, np.int32) for session in (first, second) if session})
    assert not traces
    moshi.session(sampling=SamplingConfig(min_p=0.5)).generate(np.zeros(8, np.int32))
    assert traces, "other settings and another size are compiled anew: the count works"


def test_one_read_back_a_frame(tiny_moshi: Moshi, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_moshi.session(seed=1)
    calls: list[int] = []
    evaluate = mx.eval
    monkeypatch.setattr(mx, "eval", lambda *arrays: (calls.append(1), evaluate(*arrays))[1])
    session.generate(np.zeros(8, np.int32))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros(1919, np.float32),
        np.zeros((1, 1920), np.float32),
        np.zeros(1920, np.int16),
        np.zeros(1920, np.complex64),
    ],
    ids=lambda frame: f"{frame.shape} {frame.dtype}",
)
def test_what_is_not_a_frame_is_refused_and_nothing_is_lost(
    tiny_moshi: Moshi, noise_frames: np.ndarray, frame: np.ndarray
) -> None:
    plain = talk(tiny_moshi.session(seed=1), noise_frames[:5])
    session = tiny_moshi.session(seed=1)
    with pytest.raises(SessionError, match=r"a frame is \(1920,\) float32"):
        session.step(frame)
    assert same(plain, talk(session, noise_frames[:5]))


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_frames_of_other_floats_are_converted(tiny_moshi: Moshi, noise_frames: np.ndarray, kind: type) -> None:
    given = noise_frames[:5].astype(kind)
    there, here = tiny_moshi.session(seed=1), tiny_moshi.session(seed=1)
    assert same(talk(there, given), talk(here, given.astype(np.float32)))
    batch = tiny_moshi.batch(1)
    row = batch.join(seed=1)
    in_company = [batch.step({row: frame})[row] for frame in given]
    assert same(in_company, talk(tiny_moshi.session(seed=1), given))
    given[3, 7] = np.nan
    with pytest.raises(SessionError, match="sample 7 of a frame is nan"):
        there.step(given[3])
    with pytest.raises(SessionError, match="sample 0 of a frame is inf"):
        there.step(np.full(1920, 1e39))  # more than float32 can say


@pytest.mark.parametrize("sampling", [{"text_temperature": 0.5}, {}, 0.5], ids=str)
def test_settings_that_are_none_are_refused_in_words(tiny_moshi: Moshi, sampling: object) -> None:
    batch = tiny_moshi.batch(1)
    with pytest.raises(SessionError, match=f"sampling is a {type(sampling).__name__}; moshi_mlx.SamplingConfig"):
        batch.join(sampling=sampling)  # pyright: ignore[reportArgumentType]
    batch.join(sampling=SamplingConfig(text_temperature=0.5))  # its place was not taken


def test_what_is_shown_of_an_object_says_what_it_is(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    batch = tiny_moshi.batch(3)
    session = batch.join(seed=7)
    for frame in noise_frames[:2]:
        session.step(frame)
    assert repr(session) == "<Session in row 0: 2 frames heard, seed 7>"
    assert repr(batch) == "<Batch of 3 places, 1 taken>"
    assert repr(tiny_moshi).startswith("<Moshi of 0.0")
    assert repr(tiny_moshi).endswith(" GB, mlx codec of 8 codebooks>")
    assert repr(Stats()).startswith("<Stats: 0 frames in 0.00 s")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_and_nothing_is_lost(
    tiny_moshi: Moshi, noise_frames: np.ndarray, value: float
) -> None:
    frame = noise_frames[3].copy()
    frame[7] = value
    plain = talk(tiny_moshi.session(seed=1), noise_frames[:5])
    session = tiny_moshi.session(seed=1)
    with pytest.raises(SessionError, match=f"sample 7 of a frame is {value}"):
        session.step(frame)
    assert same(plain, talk(session, noise_frames[:5]))


def test_a_full_batch_and_a_closed_session_are_refused(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(1)
    session = batch.join(1)
    with pytest.raises(SessionError, match="all 1 places"):
        batch.join(2)
    session.close()
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.generate(np.zeros(8, np.int32))
    batch.join(2).generate(np.zeros(8, np.int32))


def test_an_unknown_condition_or_seed_is_refused(tiny_moshi: Moshi) -> None:
    with pytest.raises(ConfigError, match="no conditioner 'mood'"):
        tiny_moshi.session(conditions={"mood": "good"})
    with pytest.raises(SessionError, match="seed -1"):
        tiny_moshi.session(seed=-1)


def test_an_int8_window_can_be_asked_for_and_nothing_else(tiny_moshi: Moshi) -> None:
    lm = Lm(LmConfig.from_dict({**TINY, "num_heads": 2}))  # heads of 32 channels
    mx.eval(lm.parameters())
    codes = np.random.RandomState(7).randint(0, TINY["card"], (30, 8))
    held = {}
    for bits in (None, 8):
        batch = Moshi(lm, tiny_moshi.codec, tiny_moshi.tokenizer, kv_bits=bits).batch(1)
        session = batch.join(1)
        assert [session.generate(frame).text_id for frame in codes]
        held[bits] = batch.held_bytes
    assert held[8] < held[None]
    with pytest.raises(ConfigError, match=r"kv_bits is 4: 8 \(int8\) or None"):
        Moshi(lm, tiny_moshi.codec, tiny_moshi.tokenizer, kv_bits=4)


def test_a_codec_of_another_width_is_refused(tiny_moshi: Moshi) -> None:
    config = LmConfig.from_dict({**TINY, "n_q": 8, "dep_q": 4, "delays": [0] * 9})
    with pytest.raises(ConfigError, match="8 codebooks, the model needs 4"):
        Moshi(Lm(config), tiny_moshi.codec, tiny_moshi.tokenizer)


def test_padding_is_never_penalised(tiny_moshi: Moshi) -> None:
    sampling = replace(GREEDY, repetition_penalty=1.5, repetition_context=2)
    session = tiny_moshi.session(1, sampling)
    for text in (3, 7, 0, 8, 9, 3):
        session.take(np.array([text, *range(8)]))
    assert list(session.draw().recent_text) == [8, 9]
