"""The model's state has about as many rows as people talk, and moving them changes nobody's tokens."""

from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.batch import PATIENCE, Batch
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.places import width_for, widths
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY

STEPS = 2 * PATIENCE + 20  # of five people; more than the tiny model's window of 64
LEFT = 20  # the step at which three have left


def rows(batch: Batch) -> int:
    return batch._state.temporal.batch


def made(batch: Batch, codes: dict[Session, np.ndarray]) -> dict[Session, list[int]]:
    return {
        session: [each.text_id, *([] if each.codes is None else each.codes.tolist())]
        for session, each in batch.generate(codes).items()
    }


@pytest.fixture(scope="module")
def hibiki(hibiki_folder: Path) -> Moshi:
    return load(hibiki_folder, codec="mlx")


@pytest.fixture(scope="module")
def int8(tiny_moshi: Moshi) -> Moshi:
    lm = Lm(LmConfig.from_dict(TINY | {"num_heads": 2}))  # int8 wants heads 32 wide
    return Moshi(lm, tiny_moshi.codec, tiny_moshi.tokenizer, GREEDY, kv_bits=8)


@pytest.mark.parametrize(("kind", "guidance"), [("tiny_moshi", 1), ("int8", 1), ("hibiki", 3)])
def test_who_stays_has_the_tokens_it_has_alone(kind: str, guidance: int, request: pytest.FixtureRequest) -> None:
    moshi: Moshi = request.getfixturevalue(kind)
    guided = guidance > 1
    heard = np.random.RandomState(3).randint(0, TINY["card"], (5, STEPS, moshi.lm.config.input_codebooks))
    told = [{"description": "very_good"}, {"description": "neutral"}] if guided else [None]
    batch = moshi.batch(8, guidance)
    people = [batch.join(seed, GREEDY, told[seed % len(told)]) for seed in range(5)]
    halves = 2 if guided else 1
    assert rows(batch) == 8 * halves
    together: dict[int, list[list[int]]] = {seed: [] for seed in (1, 3)}
    for step in range(STEPS):
        if step == LEFT:
            for seed in (0, 2, 4):
                people[seed].close()
        here = [seed for seed in range(5) if step < LEFT or seed in together]
        tokens = made(batch, {people[seed]: heard[seed, step] for seed in here})
        for seed, talk in together.items():
            talk.append(tokens[people[seed]])
        assert rows(batch) == (8 if step < LEFT + PATIENCE else 2) * halves
    for seed, talk in together.items():
        alone = moshi.batch(1, guidance)
        session = alone.join(seed, GREEDY, told[seed % len(told)])
        assert [made(alone, {session: codes})[session] for codes in heard[seed]] == talk


def test_whoever_comes_after_a_crowd_pays_for_one_row(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(6)
    crowd = [batch.join(seed) for seed in range(5)]
    assert rows(batch) == 6
    for session in crowd:
        session.close()
    with batch.join(9) as session:
        assert (rows(batch), session.row) == (1, 0)


def test_who_comes_and_goes_at_once_moves_nobody(tiny_moshi: Moshi) -> None:
    batch = tiny_moshi.batch(4)
    steady = batch.join(1)
    codes = np.zeros(8, np.int32)
    sizes = set()
    for _ in range(3):
        with batch.join(2) as visitor:
            batch.generate({steady: codes, visitor: codes})
        for _ in range(PATIENCE // 2):
            batch.generate({steady: codes})
            sizes.add(rows(batch))
    assert sizes == {2}


def test_what_is_held_is_told_as_when_all_places_are_taken(tiny_moshi: Moshi) -> None:
    one, four = tiny_moshi.batch(1), tiny_moshi.batch(4)
    row = sum(array.nbytes for array in one._state.arrays())
    assert four.held_bytes - one.held_bytes == 3 * row
    assert sum(array.nbytes for array in four._state.arrays()) == row, "of one, until somebody comes"


def test_sizes_are_few() -> None:
    assert widths(1) == [1]
    assert widths(6) == [1, 2, 4, 6]
    assert widths(16) == [1, 2, 4, 8, 16]
    assert [width_for(people, 6) for people in range(1, 7)] == [1, 2, 4, 4, 6, 6]
