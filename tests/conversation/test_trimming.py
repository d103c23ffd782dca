"""Forgetting the older part of a conversation: when, and that the model then goes on as if it had begun there."""

from itertools import pairwise

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.conversation.trimming import PAUSE_FRAMES, ContextTrimmer
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Generated, Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY

pytestmark = pytest.mark.slow

STEPS = 150  # more than the tiny model's window
SILENCE, SPEECH = np.zeros(1920, np.float32), np.full(1920, 0.1, np.float32)
QUIET, WORD = Reply(SILENCE, "", 0.0), Reply(SPEECH, " word", 0.0)


def heard(steps: int, seed: int = 4) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, TINY["card"], (steps, 8))


def tokens(made: Generated) -> tuple[int, list[int] | None]:
    return made.text_id, None if made.codes is None else made.codes.tolist()


def watch(session: Session) -> list[np.ndarray]:
    """What the steps of a session sample, as they sample it."""
    record: list[np.ndarray] = []
    take = session.take
    session.take = lambda sampled, vad=None: (record.append(np.array(sampled)), take(sampled, vad))[1]
    return record


def talked(moshi: Moshi, kept: int, steps: int = STEPS) -> tuple[Session, np.ndarray]:
    """A session that remembers `kept` of `steps` steps, and all that it sampled."""
    session = moshi.session(seed=3)
    session.remember(kept)
    sampled = watch(session)
    for codes in heard(STEPS)[:steps]:
        session.generate(codes)
    del session.take
    return session, np.array(sampled)


@pytest.mark.parametrize("kept", [1, 40, 130])
def test_a_trimmed_session_is_a_fresh_one_prefilled_with_what_was_kept(tiny_moshi: Moshi, kept: int) -> None:
    session, sampled = talked(tiny_moshi, kept)
    session.trim()
    fresh = tiny_moshi.session(seed=3)
    last = sampled[-kept:]
    fresh.batch.prefill(fresh, last[:, 0], last[:, 1:], heard(STEPS)[-kept:])
    goes_on = [tokens(session.generate(codes)) for codes in heard(60, seed=5)]
    assert goes_on == [tokens(fresh.generate(codes)) for codes in heard(60, seed=5)]
    untrimmed, _ = talked(tiny_moshi, kept)
    assert goes_on != [tokens(untrimmed.generate(codes)) for codes in heard(60, seed=5)], "it did forget"


def test_what_was_kept_once_can_be_kept_again(tiny_moshi: Moshi) -> None:
    twice, _ = talked(tiny_moshi, 40)
    once, _ = talked(tiny_moshi, 40)
    twice.trim()
    for session in (once, twice):
        session.trim()
    assert [tokens(once.generate(codes)) for codes in heard(20)] == [
        tokens(twice.generate(codes)) for codes in heard(20)
    ]


def test_times_go_on(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 40)
    times = []
    for _ in range(2):
        session.trim()
        times = [session.generate(codes).time for codes in heard(5)]
        assert [after - before for before, after in pairwise(times)] == pytest.approx([FRAME_SECONDS] * 4)
    assert times[-1] == pytest.approx((STEPS + 9) * FRAME_SECONDS)
    session.reset()
    assert session.generate(heard(1)[0]).time == 0


def test_nothing_kept_is_a_new_beginning_and_a_short_talk_is_kept_whole(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 0)
    session.trim()
    fresh = tiny_moshi.session(seed=3)
    assert tokens(session.generate(heard(1)[0])) == tokens(fresh.generate(heard(1)[0]))
    short, _ = talked(tiny_moshi, 40, steps=10)
    other, _ = talked(tiny_moshi, 40, steps=10)
    short.trim()
    assert [tokens(short.generate(codes)) for codes in heard(20)] == [
        tokens(other.generate(codes)) for codes in heard(20)
    ]


def test_a_reset_forgets_what_was_remembered(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 40)
    session.reset()
    session.trim()
    fresh = tiny_moshi.session(seed=3)
    assert [tokens(session.generate(codes)) for codes in heard(5)] == [
        tokens(fresh.generate(codes)) for codes in heard(5)
    ]


def test_in_company_the_others_do_not_notice(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(2)
    session, other = batch.join(3), batch.join(4)
    session.remember(20)
    sampled, others = watch(session), watch(other)
    for mine, theirs in zip(heard(60), heard(60, seed=6), strict=True):
        batch.generate({session: mine, other: theirs})
    kept = np.array(sampled[-20:])
    session.trim()
    del sampled[:]
    for mine, theirs in zip(heard(60, seed=5), heard(60, seed=7), strict=True):
        batch.generate({session: mine, other: theirs})

    fresh, alone = tiny_moshi.session(seed=3), tiny_moshi.session(seed=4)
    fresh.batch.prefill(fresh, kept[:, 0], kept[:, 1:], heard(60)[-20:])
    goes_on, undisturbed = watch(fresh), watch(alone)
    for codes in heard(60, seed=5):
        fresh.generate(codes)
    for codes in np.concatenate([heard(60, seed=6), heard(60, seed=7)]):
        alone.generate(codes)
    np.testing.assert_array_equal(sampled, goes_on)
    np.testing.assert_array_equal(others, undisturbed)


def test_in_company_an_int8_window_is_trimmed_too(tiny_moshi: Moshi) -> None:
    lm = Lm(LmConfig.from_dict(TINY | {"num_heads": 2}))  # int8 wants heads 32 wide
    moshi = Moshi(lm, tiny_moshi.codec, tiny_moshi.tokenizer, GREEDY, kv_bits=8)
    batch = moshi.batch(2)
    session, other = batch.join(3), batch.join(4)
    session.remember(20)
    for mine, theirs in zip(heard(60), heard(60, seed=6), strict=True):
        batch.generate({session: mine, other: theirs})
    kept, known = session.remembered()
    before = [np.array(array[1::2]) for array in batch._state.arrays()]
    session.trim()
    after = [np.array(array[1::2]) for array in batch._state.arrays()]
    for one, same in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, same, "the other row is as it was")
    fresh = moshi.batch(1)
    fresh.prefill(fresh.join(3), known[:, 0], known[:, 1:], kept)
    for trimmed, anew in zip(batch._state.temporal.rings, fresh._state.temporal.rings, strict=True):
        values = np.array(trimmed.read_dense(60)[1][0, :, -20:])  # not rotated, so the same at all positions
        np.testing.assert_allclose(values, np.array(anew.read_dense(20)[1][0]), atol=0.02 * np.abs(values).max())


@pytest.mark.parametrize("passed", [0, 3, 20, 100])
def test_in_company_more_may_be_prefilled_than_has_passed(tiny_moshi: Moshi, passed: int) -> None:
    """The tiny model's window is 64: the ring has not begun, is partly full, or has gone around."""
    _, known = talked(tiny_moshi, 1, 40)
    users = heard(40)
    alone = tiny_moshi.batch(1)
    alone.prefill(one := alone.join(3), known[:, 0], known[:, 1:], users)
    batch, steady = tiny_moshi.batch(2), tiny_moshi.session(5)
    other, session = batch.join(5), batch.join(3)
    undisturbed = [tokens(steady.generate(codes)) for codes in heard(passed + 80, seed=6)]
    goes_on = [tokens(one.generate(codes)) for codes in heard(80, seed=7)]
    company = heard(passed + 80, seed=6)
    theirs = [tokens(batch.generate({other: codes})[other]) for codes in company[:passed]]
    batch.prefill(session, known[:, 0], known[:, 1:], users)
    mine = []
    for codes, more in zip(heard(80, seed=7), company[passed:], strict=True):
        made = batch.generate({session: codes, other: more})
        mine.append(tokens(made[session]))
        theirs.append(tokens(made[other]))
    assert mine == goes_on
    assert theirs == undisturbed


def test_in_company_a_long_talk_is_trimmed_where_positions_are_counted_anew(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(2)
    session, other = batch.join(3), batch.join(4)
    session.remember(20)
    users = heard(STEPS)
    for codes in users[:30]:
        batch.generate({session: codes, other: codes})
    batch._state.temporal.rotate_keys(4096)  # as if so many positions more had passed
    batch._state.temporal.position += 4096
    batch._state.temporal.rebase_at = 6000  # as in a model with a longer window
    kept, known = session.remembered()
    session.trim()
    fresh = tiny_moshi.session(3)
    fresh.batch.prefill(fresh, known[:, 0], known[:, 1:], kept)
    for codes in users[30:50]:
        made = batch.generate({session: codes, other: codes})
        assert tokens(made[session]) == tokens(fresh.generate(codes))


def trimmer(moshi: Moshi, automatic: bool = True, kept: float = 2.0) -> ContextTrimmer:
    return ContextTrimmer(moshi.session(seed=1), kept, automatic)


def frames(watching: ContextTrimmer, count: int, frame: np.ndarray = SPEECH, reply: Reply = WORD) -> list[int]:
    """Which of so many frames are to be trimmed before."""
    due = []
    for number in range(count):
        if watching.due(frame):
            due.append(number)
        watching.write(reply)
    return due


def test_it_comes_at_the_first_pause_after_the_window_is_full(tiny_moshi: Moshi) -> None:
    watching, context = trimmer(tiny_moshi), TINY["context"]
    assert frames(watching, 50, SILENCE, QUIET) == [], "a pause, but not full"
    assert frames(watching, context, SPEECH, WORD) == [], "full, but no pause"
    assert frames(watching, 10, SILENCE, WORD) == [], "Moshi speaks"
    assert frames(watching, 10, SPEECH, QUIET) == [], "the user speaks"
    assert frames(watching, 10, SILENCE, QUIET) == [PAUSE_FRAMES - 1]
    assert frames(watching, context - watching.kept - 10, SILENCE, QUIET) == [], "it is not full again yet"
    first, second = frames(watching, context, SILENCE, QUIET)
    assert second - first == context - watching.kept, "and so on"


def test_without_being_told_it_never_comes_by_itself(tiny_moshi: Moshi) -> None:
    watching = trimmer(tiny_moshi, automatic=False)
    assert frames(watching, 3 * TINY["context"], SILENCE, QUIET) == []
    watching.ask()
    assert frames(watching, 10) == [0], "asked, it comes at once, and once"


def test_a_new_conversation_has_an_empty_window(tiny_moshi: Moshi) -> None:
    watching = trimmer(tiny_moshi)
    frames(watching, TINY["context"])
    watching.ask()
    watching.restart()
    assert frames(watching, TINY["context"], SILENCE, QUIET) == []


def test_no_more_is_kept_than_half_a_window(tiny_moshi: Moshi) -> None:
    assert trimmer(tiny_moshi, kept=3600).kept == TINY["context"] // 2
    assert trimmer(tiny_moshi, kept=1.0).kept == 12
    assert trimmer(tiny_moshi, kept=0.01).kept == 1


def test_warming_up_lives_through_as_much_as_a_trim(tiny_moshi: Moshi) -> None:
    watching = trimmer(tiny_moshi)
    with tiny_moshi.session(seed=0) as spare:
        watching.warm_up(spare)
        assert spare.delays.step == watching.kept
