"""Prompts: known frames before a conversation, lived through in passes to the state of stepping them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from moshi_mlx.errors import ConfigError, SessionError
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import SAMPLED, Prompt
from moshi_mlx.runtime.reply import Generated
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY

CARD, TEXTS = TINY_PERSONA["card"], TINY_PERSONA["text_card"]


@pytest.fixture(scope="module")
def persona(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    return load(write_random_checkpoint(tmp_path_factory.mktemp("persona") / "tiny", TINY_PERSONA), codec="mlx")


def prompt(frames: int = 40, seed: int = 1) -> Prompt:
    random = np.random.RandomState(seed)
    texts, codes, users = (
        random.randint(0, high, shape).astype(np.int32)
        for high, shape in ((TEXTS, frames), (CARD, (frames, 8)), (CARD, (frames, 8)))
    )
    return Prompt(texts, codes, users)


def tokens(made: Generated) -> tuple[int, list[int] | None]:
    return made.text_id, None if made.codes is None else made.codes.tolist()


def users(count: int, seed: int = 8) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, CARD, (count, 8))


def talk(session: Session, count: int = 30, seed: int = 8) -> list[tuple[int, list[int] | None]]:
    """Greedy tokens of a conversation; its first step hears what a session hears then."""
    first = session.encode(np.zeros(1920, np.float32))
    return [tokens(session.generate(codes)) for codes in [first, *users(count, seed)]]


def state(session: Session) -> list[np.ndarray]:
    return [np.array(array) for array in session.batch._state.temporal.arrays()]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("frames", [2, 20, 63])
def test_a_prompt_leads_to_the_state_of_stepping_it(persona: Moshi, frames: int) -> None:
    known = prompt(frames)
    config = persona.lm.config
    stepped = persona.session(1, GREEDY)
    take = stepped.take
    made: Iterator[np.ndarray] = (row for _, row in known.steps(config))
    stepped.take = lambda sampled, vad=None: take(next(made))
    for heard, _ in known.steps(config):
        stepped.generate(heard)
    session = persona.session(1, GREEDY, prompt=known)
    assert session.delays.step == stepped.delays.step == frames - 1
    worst = max(np.abs(one - two).max() for one, two in zip(state(session), state(stepped), strict=True))
    assert worst < 1e-5
    # The last frame of the prompt is that of the first step, whose delayed codes are still the prompt's.
    ahead = list(known.ahead(config))
    made = iter(ahead)
    stepped.take = lambda sampled, vad=None: take(np.where((row := next(made)) == SAMPLED, sampled, row))
    first = tokens(stepped.generate(known.user_codes[-1]))
    del stepped.take
    assert ahead[0].tolist() == [SAMPLED, SAMPLED, *known.codes[-1][1:]]
    assert talk(session) == [first, *(tokens(stepped.generate(codes)) for codes in users(30))]
    assert first[1] == known.codes[-1].tolist()


def test_what_a_prompt_says_changes_the_conversation(persona: Moshi) -> None:
    one = talk(persona.session(1, GREEDY, prompt=prompt(seed=1)))
    assert one == talk(persona.session(1, GREEDY, prompt=prompt(seed=1)))
    assert one[1:] != talk(persona.session(1, GREEDY, prompt=prompt(seed=2)))[1:]
    assert one[1:] != talk(persona.session(1, GREEDY))[1:]


@pytest.mark.parametrize("frames", [1, 30, 150])
def test_embeddings_stand_in_place_of_tokens(tmp_path: Path, frames: int) -> None:
    """150: more than is prefilled at once."""
    config = TINY_PERSONA | {"context": 200}
    persona = load(write_random_checkpoint(tmp_path / "model", config), codec="mlx")
    known = prompt(frames + 10)
    columns = persona.session(1, GREEDY, prompt=known)
    read = persona.session(1, GREEDY)
    read.prompt = known
    inputs = np.stack(read.begin()[:frames], axis=1)[None]
    vectors = np.array(persona.lm.embed(mx.array(inputs))[0])
    hidden = known.codes.copy()
    hidden[: frames - 1] = known.texts[: frames - 1, None] = -1  # of these positions nobody knows the tokens
    given = persona.session(1, GREEDY, prompt=replace(known, codes=hidden, embeddings=vectors))
    assert max(np.abs(one - two).max() for one, two in zip(state(columns), state(given), strict=True)) < 1e-5
    assert talk(columns) == talk(given)


@pytest.mark.parametrize("waits", [0, 9, 80])
@pytest.mark.parametrize("first", [True, False])
def test_in_company_a_prompt_is_as_fresh_at_the_first_frame_as_alone(
    persona: Moshi, waits: int, first: bool
) -> None:
    """first: whether it joins before the other one, who then takes steps until it begins."""
    known = prompt()
    alone = talk(persona.session(1, GREEDY, prompt=known))
    steady = persona.session(2, GREEDY)
    theirs = [tokens(steady.generate(codes)) for codes in users(waits + 31, seed=5)]
    batch = persona.batch(2)
    if first:
        session, other = batch.join(1, GREEDY, prompt=known), batch.join(2, GREEDY)
    else:
        other, session = batch.join(2, GREEDY), batch.join(1, GREEDY, prompt=known)
    company = iter(users(waits + 31, seed=5))
    seen = [tokens(batch.generate({other: codes})[other]) for codes, _ in zip(company, range(waits), strict=False)]
    heard = session.encode(np.zeros(1920, np.float32))
    mine = []
    for codes, more in zip([heard, *users(30)], users(waits + 31, seed=5)[waits:], strict=True):
        made = batch.generate({session: codes, other: more})
        mine.append(tokens(made[session]))
        seen.append(tokens(made[other]))
    assert mine == alone
    assert seen == theirs


def test_reset_returns_to_the_end_of_the_prompt(persona: Moshi) -> None:
    for size in (1, 2):
        session = persona.batch(size).join(1, GREEDY, prompt=prompt())
        once = talk(session)
        session.reset()
        assert talk(session) == once


def test_trimming_keeps_the_prompt(persona: Moshi) -> None:
    session = persona.session(1, GREEDY, prompt=prompt(20))
    session.remember(10)
    talk(session, 40)
    last = session.generate(users(1)[0])
    heard, sampled = session.remembered()
    session.trim()
    fresh = persona.session(1, GREEDY, prompt=prompt(20))
    fresh.restart(heard, sampled)
    assert len(heard) == 10
    assert session.delays.step == 19 + 10
    made = [session.generate(codes) for codes in users(20)]
    assert [tokens(one) for one in made] == [tokens(fresh.generate(codes)) for codes in users(20)]
    assert made[0].time == pytest.approx(last.time + 0.08)
    with pytest.raises(SessionError, match=r"Session\.restart"):
        fresh.batch.prefill(fresh, sampled[:, 0], sampled[:, 1:], heard)


def test_time_begins_after_the_prompt_and_its_words_are_not_spoken(persona: Moshi) -> None:
    session = persona.session(1, GREEDY, prompt=prompt())
    plain = persona.session(1, GREEDY)
    assert not session._recent_text
    assert not len(session._history)
    replies = [session.step(np.zeros(1920, np.float32)) for _ in range(3)]
    assert [reply.time for reply in replies] == pytest.approx([0, 0.08, 0.16])
    assert [plain.step(np.zeros(1920, np.float32)).time for _ in range(3)] == pytest.approx([0, 0.08, 0.16])
    assert replies[0].audio is not None  # the prompt's last frame has filled the delay


def test_a_prompt_that_does_not_fit_is_refused(persona: Moshi, tiny_moshi: Moshi) -> None:
    with pytest.raises(ConfigError, match="this model takes no prompt"):
        tiny_moshi.session(prompt=prompt())
    with pytest.raises(ConfigError, match="100 frames is longer than the model's window of 64"):
        persona.session(prompt=prompt(100))
    for wrong in (
        replace(prompt(), texts=np.zeros(3, np.int32)),
        replace(prompt(), codes=np.zeros((40, 16), np.int32)),
        replace(prompt(), embeddings=np.zeros((4, 32), np.float32)),
        replace(prompt(), embeddings=np.zeros((40, 64), np.float32)),
        prompt(1),
    ):
        with pytest.raises(ConfigError, match=r"of a prompt ha(s|ve) shape"):
            persona.session(prompt=wrong)
    batch = persona.batch(1)
    with pytest.raises(ConfigError):
        batch.join(prompt=prompt(100))
    batch.join(prompt=prompt())  # its place was not taken


def test_an_empty_prompt_is_refused_as_too_short_ones_are(persona: Moshi) -> None:
    for frames in (0, 1):
        with pytest.raises(ConfigError, match="the arrays of a prompt have shapes"):
            persona.session(prompt=prompt(frames))
