"""Conditions and guidance of sessions: what holds where nothing is chosen, and that rows do not disturb others."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_HIBIKI
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import silence
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.sampling import away_from_contrary
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY


@pytest.fixture(scope="module")
def hibiki(hibiki_folder: Path) -> Moshi:
    return load(hibiki_folder, codec="mlx")


def heard(session: Session, frames: np.ndarray) -> np.ndarray:
    """The codes that a session makes of frames, (T, dep_q); delays take the first."""
    made = [session.generate(session.encode(frame)).codes for frame in frames]
    return np.array([codes for codes in made if codes is not None])


def test_a_session_has_the_best_condition_unless_told_otherwise(hibiki: Moshi, noise_frames: np.ndarray) -> None:
    assert hibiki.conditions == {"description": "very_good"}
    frames = noise_frames[:12]
    best = heard(hibiki.session(1, GREEDY, {"description": "very_good"}), frames)
    assert np.array_equal(heard(hibiki.session(1, GREEDY), frames), best)
    for other in ("very_bad", None):
        assert not np.array_equal(heard(hibiki.session(1, GREEDY, {"description": other}), frames), best)


def test_a_loaded_model_may_have_another_condition(hibiki_folder: Path, hibiki: Moshi) -> None:
    neutral = load(hibiki_folder, codec="mlx", conditions={"description": "neutral"})
    frames = np.stack([silence()] * 12)
    expected = heard(hibiki.session(1, GREEDY, {"description": "neutral"}), frames)
    assert np.array_equal(heard(neutral.session(1, GREEDY), frames), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mood": "good"}, r"no conditioner 'mood' \(only description\)"),
        ({"description": "fine"}, "no value 'fine'; it must be one of very_bad, bad, neutral, good, very_good"),
    ],
)
def test_a_condition_that_is_not_there_says_what_is(hibiki: Moshi, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hibiki.session(conditions=given)


def test_a_model_without_conditioners_takes_neither_conditions_nor_guidance(
    tiny_folder: Path, tiny_moshi: Moshi
) -> None:
    assert tiny_moshi.conditions == {}
    with pytest.raises(ConfigError, match=r"no conditioner 'description' \(it takes no conditions\)"):
        tiny_moshi.session(conditions={"description": "good"})
    with pytest.raises(ConfigError, match="guidance of 3 compares two conditions, but this model takes none"):
        tiny_moshi.session(guidance=3)
    with pytest.raises(ConfigError, match="guidance of 3"):
        load(tiny_folder, codec="mlx", guidance=3)


def test_guidance_is_a_number(hibiki: Moshi) -> None:
    with pytest.raises(ConfigError, match="guidance of nan: a number expected"):
        hibiki.session(guidance=float("nan"))


def test_guidance_of_one_is_the_condition_and_of_none_the_contrary() -> None:
    logits = mx.random.normal((4, 9), key=mx.random.key(1))
    assert np.allclose(away_from_contrary(logits, 1), logits[:2], atol=1e-6)
    assert np.allclose(away_from_contrary(logits, 0), logits[2:])
    assert np.allclose(away_from_contrary(logits, 3), 3 * logits[:2] - 2 * logits[2:], atol=1e-5)


def test_guided_sessions_are_the_same_alone_and_in_company(hibiki: Moshi, noise_frames: np.ndarray) -> None:
    frames = noise_frames[:16]
    alone = [heard(hibiki.session(1, GREEDY, {"description": one}, 2.0), frames) for one in ("very_good", "bad")]
    batch = hibiki.batch(2, 2.0)
    first = batch.join(1, GREEDY)
    together: dict[str, list[np.ndarray | None]] = {"first": [], "second": []}
    for frame in frames[:5]:
        together["first"] += [first.generate(first.encode(frame)).codes]
    second = batch.join(1, GREEDY, {"description": "bad"})
    for step in range(16):
        frame = frames[5 + step] if step < 11 else silence()
        made = batch.generate({first: first.encode(frame), second: second.encode(frames[step])})
        together["first"] += [made[first].codes]
        together["second"] += [made[second].codes]
    ours = [np.array([codes for codes in one if codes is not None]) for one in together.values()]
    assert np.array_equal(ours[0][: len(alone[0])], alone[0])
    assert np.array_equal(ours[1], alone[1])
    assert not np.array_equal(alone[0], alone[1])


def test_a_guided_session_that_is_reset_begins_as_it_did(hibiki: Moshi, noise_frames: np.ndarray) -> None:
    batch = hibiki.batch(2, 2.0)
    session, other = batch.join(1, GREEDY), batch.join(2, GREEDY)
    streams = []
    for _ in range(2):
        made = []
        for frame in noise_frames[:8]:
            replies = batch.generate({session: session.encode(frame), other: other.encode(frame)})
            made.append(replies[session].codes)
        streams.append(np.array([codes for codes in made if codes is not None]))
        session.reset()
    assert np.array_equal(*streams)


@pytest.mark.parametrize("company", [False, True])
def test_a_guided_session_that_is_prefilled_goes_on_as_if_stepped(
    hibiki: Moshi, noise_frames: np.ndarray, company: bool
) -> None:
    def joined() -> tuple[Batch, Session, Session | None]:
        batch = hibiki.batch(2, 2.0)
        other = batch.join(2, GREEDY) if company else None
        if other:
            heard(other, noise_frames[:12])
        return batch, batch.join(1, GREEDY), other

    def step(batch: Batch, session: Session, other: Session | None, codes: np.ndarray) -> int:
        others = {other: np.zeros(8, np.int32)} if other else {}
        made = batch.generate({session: codes, **others})
        return made[session].text_id

    codes = np.random.RandomState(0).randint(0, 64, (20, 8)).astype(np.int32)
    batch, session, other = joined()
    session.remember(12)
    for one in codes[:12]:
        step(batch, session, other, one)
    known_heard, known = session.remembered()
    expected = [step(batch, session, other, one) for one in codes[12:]]
    batch, session, other = joined()
    batch.prefill(session, known[:, 0], known[:, 1:], known_heard)
    assert [step(batch, session, other, one) for one in codes[12:]] == expected
    assert len(set(expected)) > 2


def text_rows(lm: Lm) -> np.ndarray:
    return np.array(lm.text_emb(mx.arange(8), mx.float32))


def test_the_end_of_text_is_read_as_padding(hibiki: Moshi, tiny_moshi: Moshi) -> None:
    assert np.array_equal(*text_rows(hibiki.lm)[2:4])
    assert not np.array_equal(*text_rows(tiny_moshi.lm)[2:4])


def test_a_row_of_a_quantized_table_is_read_as_another() -> None:
    lm = Lm(LmConfig.from_dict(TINY_HIBIKI))
    nn.quantize(lm, 64, 8, class_predicate=lambda path, _: path == "text_emb")
    before = text_rows(lm)
    lm.read_text_as(2, 3)
    assert np.array_equal(text_rows(lm), before[[0, 1, 3, 3, 4, 5, 6, 7]])
    assert not np.array_equal(before[2], before[3])
