"""Forgetting the older part of a conversation: when, and that the model then goes on as if it had begun there."""

from itertools import pairwise

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.conversation.trimming import PAUSE_FRAMES, Refresher
from moshi_mlx.errors import SessionError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.session import Generated, Reply, Session

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
    session.take = lambda sampled: (record.append(np.array(sampled)), take(sampled))[1]
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
def test_a_refreshed_session_is_a_fresh_one_prefilled_with_what_was_kept(tiny_moshi: Moshi, kept: int) -> None:
    session, sampled = talked(tiny_moshi, kept)
    session.refresh()
    fresh = tiny_moshi.session(seed=3)
    last = sampled[-kept:]
    fresh.batch.prefill(fresh, last[:, 0], last[:, 1:], heard(STEPS)[-kept:])
    goes_on = [tokens(session.generate(codes)) for codes in heard(60, seed=5)]
    assert goes_on == [tokens(fresh.generate(codes)) for codes in heard(60, seed=5)]
    unrefreshed, _ = talked(tiny_moshi, kept)
    assert goes_on != [tokens(unrefreshed.generate(codes)) for codes in heard(60, seed=5)], "it did forget"


def test_what_was_kept_once_can_be_kept_again(tiny_moshi: Moshi) -> None:
    twice, _ = talked(tiny_moshi, 40)
    once, _ = talked(tiny_moshi, 40)
    twice.refresh()
    for session in (once, twice):
        session.refresh()
    assert [tokens(once.generate(codes)) for codes in heard(20)] == [
        tokens(twice.generate(codes)) for codes in heard(20)
    ]


def test_times_go_on(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 40)
    times = []
    for _ in range(2):
        session.refresh()
        times = [session.generate(codes).time for codes in heard(5)]
        assert [after - before for before, after in pairwise(times)] == pytest.approx([FRAME_SECONDS] * 4)
    assert times[-1] == pytest.approx((STEPS + 9) * FRAME_SECONDS)
    session.reset()
    assert session.generate(heard(1)[0]).time == 0


def test_nothing_kept_is_a_new_beginning_and_a_short_talk_is_kept_whole(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 0)
    session.refresh()
    fresh = tiny_moshi.session(seed=3)
    assert tokens(session.generate(heard(1)[0])) == tokens(fresh.generate(heard(1)[0]))
    short, _ = talked(tiny_moshi, 40, steps=10)
    other, _ = talked(tiny_moshi, 40, steps=10)
    short.refresh()
    assert [tokens(short.generate(codes)) for codes in heard(20)] == [
        tokens(other.generate(codes)) for codes in heard(20)
    ]


def test_a_reset_forgets_what_was_remembered(tiny_moshi: Moshi) -> None:
    session, _ = talked(tiny_moshi, 40)
    session.reset()
    session.refresh()
    fresh = tiny_moshi.session(seed=3)
    assert [tokens(session.generate(codes)) for codes in heard(5)] == [
        tokens(fresh.generate(codes)) for codes in heard(5)
    ]


def test_in_company_it_is_refused_and_nothing_is_lost(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(2)
    session = batch.join(3)
    session.remember(10)
    session.generate(heard(1)[0])
    other = batch.join(4)
    with pytest.raises(SessionError, match="alone in its batch"):
        session.refresh()
    assert session.delays.step == 1
    other.close()
    session.refresh()


def refresher(moshi: Moshi, automatic: bool = True, kept: float = 2.0) -> Refresher:
    return Refresher(moshi.session(seed=1), kept, automatic)


def frames(watching: Refresher, count: int, frame: np.ndarray = SPEECH, reply: Reply = WORD) -> list[int]:
    """Which of so many frames are to be refreshed before."""
    due = []
    for number in range(count):
        if watching.due(frame):
            due.append(number)
        watching.write(reply)
    return due


def test_it_comes_at_the_first_pause_after_the_window_is_full(tiny_moshi: Moshi) -> None:
    watching, context = refresher(tiny_moshi), TINY["context"]
    assert frames(watching, 50, SILENCE, QUIET) == [], "a pause, but not full"
    assert frames(watching, context, SPEECH, WORD) == [], "full, but no pause"
    assert frames(watching, 10, SILENCE, WORD) == [], "Moshi speaks"
    assert frames(watching, 10, SPEECH, QUIET) == [], "the user speaks"
    assert frames(watching, 10, SILENCE, QUIET) == [PAUSE_FRAMES - 1]
    assert frames(watching, context - watching.kept - 10, SILENCE, QUIET) == [], "it is not full again yet"
    first, second = frames(watching, context, SILENCE, QUIET)
    assert second - first == context - watching.kept, "and so on"


def test_without_being_told_it_never_comes_by_itself(tiny_moshi: Moshi) -> None:
    watching = refresher(tiny_moshi, automatic=False)
    assert frames(watching, 3 * TINY["context"], SILENCE, QUIET) == []
    watching.ask()
    assert frames(watching, 10) == [0], "asked, it comes at once, and once"


def test_a_new_conversation_has_an_empty_window(tiny_moshi: Moshi) -> None:
    watching = refresher(tiny_moshi)
    frames(watching, TINY["context"])
    watching.ask()
    watching.restart()
    assert frames(watching, TINY["context"], SILENCE, QUIET) == []


def test_no_more_is_kept_than_half_a_window(tiny_moshi: Moshi) -> None:
    assert refresher(tiny_moshi, kept=3600).kept == TINY["context"] // 2
    assert refresher(tiny_moshi, kept=1.0).kept == 12
    assert refresher(tiny_moshi, kept=0.01).kept == 1


def test_warming_up_lives_through_as_much_as_a_refresh(tiny_moshi: Moshi) -> None:
    watching = refresher(tiny_moshi)
    with tiny_moshi.session(seed=0) as spare:
        watching.warm_up(spare)
        assert spare.delays.step == watching.kept
