"""Text into a text-to-speech model: what PyTorch's state machine feeds, token for token."""

import json
from itertools import pairwise

import numpy as np
import pytest

from moshi_mlx.tasks.script import Feeder, Word, Words
from tests.golden import ASSETS
from tests.say_texts import encode, texts, wishes

CARD = 13


def feeder(turns: list[str], ahead: int, between: int, marked: bool) -> Feeder:
    made, words = Feeder(CARD, ahead), Words(encode, marked, between)
    for turn in turns:
        made.words.extend(words.turn(turn))
    made.complete = True
    return made


def test_a_hundred_texts_are_fed_as_pytorch_feeds_them() -> None:
    with np.load(ASSETS / "say_script.npz") as file:
        fed, lengths, facts = file["fed"], file["lengths"], json.loads(str(file["facts"]))
    all_fed = np.split(fed, np.cumsum(lengths)[:-1])
    scripts = texts()
    assert len(scripts) == len(facts) == 100
    for index, (turns, theirs, (ahead, between, marked, end, said)) in enumerate(
        zip(scripts, all_fed, facts, strict=True)
    ):
        one = feeder(turns, ahead, between, marked)
        wished = wishes(index, len(theirs))
        expected, ours = [], []
        for step, wish in enumerate(wished):
            expected.append(one.choices()[int(wish != 0)])
            ours.append(one.step(step, wish))
        assert ours == theirs.tolist(), f"text {index}: {turns}"
        assert expected == ours, "what is read was known before the model wrote"
        assert (one.ended_at, [list(each) for each in one.said]) == (end, said), f"text {index}: {turns}"


def test_texts_say_enough_to_be_compared() -> None:
    with np.load(ASSETS / "say_script.npz") as file:
        facts = json.loads(str(file["facts"]))
    assert {fact[0] for fact in facts} == {0, 2}
    assert sum(len(fact[4]) for fact in facts) > 1000, "words"
    assert all(fact[3] is not None for fact in facts)
    turns = [turn for script in texts() for turn in script]
    said = " ".join(turns)
    assert set(".,:;!?…()’\"'–") <= set(said), "punctuation"
    assert any(word.isdecimal() for word in said.split()), "numbers"
    assert any(len(script) > 2 for script in texts()), "two speakers, in turns"
    assert "" in turns
    assert max(map(len, said.split())) > 100, "very long words"


def test_a_text_that_comes_in_pieces_is_fed_as_if_it_had_been_there() -> None:
    turns = ["good morning, how did you sleep last night? very well indeed", "so did I"]
    whole, parts = feeder(turns, 2, 1, True), Feeder(CARD, 2)
    words, coming = Words(encode, True, 1), [word for turn in turns for word in turn.split()]
    first_of_turn = {0, len(turns[0].split())}
    waited, given = 0, 0
    for step, wish in enumerate(wishes(5, 150)):
        while parts.hungry:
            waited += 1
            if given == len(coming):
                parts.complete = True
            else:
                begin = words.turn if given in first_of_turn else words.more
                parts.words.extend(begin(coming[given]))
                given += 1
        assert parts.step(step, wish) == whole.step(step, wish), step
    assert waited == len(coming) + 1
    assert parts.ended_at == whole.ended_at is not None


def test_words_and_turns() -> None:
    words = Words(encode, turns_are_marked=True, between=1)
    first = list(words.turn('it’s (so): <break time="2.4s"/>now'))
    assert [word.text for word in first] == ["it's", "so", "", "now"]
    assert first[0].tokens == (1, *encode("it's"))
    assert first[0].padding == len(first[0].tokens)
    assert first[2] == Word("", (), 30)
    assert list(words.turn("")) == []
    assert next(words.turn("again")).tokens == tuple(encode("again")), "an empty turn between gives no new speaker"
    assert next(words.turn("and")).tokens[0] == 2


@pytest.mark.parametrize("ahead", [0, 2])
def test_padding_is_never_longer_than_it_may_be(ahead: int) -> None:
    one = feeder(["one two three four five"], ahead, 0, False)
    for step in range(60):
        one.step(step, 3)  # the model never asks
    steps = [step for _, step in one.said]
    assert steps[0] == 2
    assert max(later - earlier for earlier, later in pairwise(steps)) == 1 + 8


def test_a_word_that_the_model_lacks_is_left_out_and_told_once() -> None:
    told: list[str] = []
    words = Words(encode, turns_are_marked=True, lacks=lambda word: word.startswith("Zorro"), tell=told.append)
    found = [*words.turn("Zorro, Zorro! good Zorro, morning"), *words.turn("Zorro,")]
    assert [word.text for word in found] == ["good", "morning"]
    assert found[0].tokens[0] == 1, "the first word that is said begins the turn"
    assert told == [
        "'Zorro,' is left out: this model does not know the word",
        "'Zorro!' is left out: this model does not know the word",
    ]
