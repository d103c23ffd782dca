"""The card of `nano-persona`: figures of its evaluation, and first of all what did not reach its bar."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from training.evaluate_persona import ALL_UNHEARD, summary
from training.persona_card import card
from training.persona_questions import Turn, asked_of_all
from training.persona_text import ANSWERS, NAME_QUESTION, Persona


def turns_of(seed: int) -> list[Turn]:
    voice = ALL_UNHEARD[seed]
    return [
        Turn(
            str(voice),
            text,
            one.name,
            one.manner,
            one.voice,
            one.answer(text),
            95.0 if one.voice == "male" else 180.0,
        )
        for one, text in asked_of_all(voice, seed)
    ]


def figures(wrong: dict[int, Turn]) -> dict[str, Any]:
    """All turns are right, but for those of the first voice with these numbers."""
    found = {str(voice): turns_of(seed) for seed, voice in enumerate(ALL_UNHEARD)}
    for number, turn in wrong.items():
        found[str(ALL_UNHEARD[0])][number] = turn
    return summary(found, {"right": 30, "of": 36}, turns_of(0)[:36])


def test_everybody_asks_everybody_everything() -> None:
    every = [(one, text) for seed, voice in enumerate(ALL_UNHEARD) for one, text in asked_of_all(voice, seed)]
    kinds = Counter((one.manner, one.voice, text if text in ANSWERS else "") for one, text in every)
    assert len(kinds) == 6 * (len(ANSWERS) + 1)
    assert {one.name for one, text in every if text == NAME_QUESTION} == {one.name for one, _ in every}


@pytest.mark.parametrize(
    ("said", "height", "right", "named", "mannered", "voiced"),
    [
        ("I am Nora, my friend.", 95.0, True, True, True, True),
        ("I am Nora, my friend.", 180.0, True, True, True, False),
        ("I am Nora, my friend.", None, True, True, True, False),
        ("I am Ada, my friend.", 95.0, False, False, True, True),
        ("You may call me Nora.", 95.0, False, True, False, True),
        ("", None, False, False, False, False),
    ],
)
def test_name_manner_and_voice_are_obeyed_each_by_itself(
    said: str, height: float | None, right: bool, named: bool, mannered: bool, voiced: bool
) -> None:
    turn = Turn("a", NAME_QUESTION, "Nora", "friendly", "male", said, height)
    assert (turn.right, turn.named, turn.mannered, turn.voiced) == (right, named, mannered, voiced)
    assert turn.obeyed == (right and voiced)
    assert replace(turn, text="Hello.").named is None


def test_shares_are_of_all_turns() -> None:
    good = turns_of(0)
    found = figures({number: replace(good[number], said="") for number in range(36)})
    assert found["all"]["obeyed"]["right"] == found["all"]["words"]["right"] == 684
    assert found["all"]["obeyed"]["of"] == 720
    assert found["voices"][str(ALL_UNHEARD[0])]["obeyed"]["share"] == 0.5
    assert found["all"]["name"]["of"] == 360
    assert found["all"]["voice"]["share"] == 1.0
    assert len(found["wrong"]) == 36


def test_the_card_says_first_what_missed_its_bar() -> None:
    good = turns_of(0)
    text = card(figures({number: replace(good[number], pitch=None) for number in range(50)}))
    short = text[text.index("## What did not") : text.index("## Figures")]
    assert "from the first training of Nano on, it obeys in 82.6 % of 288" in short
    assert "it speaks in the voice of the prompt in 93.1 % of 720" in short
    assert "exactly those" not in short
    assert "MBROLA" not in short
    assert "Nothing." in card(figures({}))
    for answers in ANSWERS.values():
        assert " | ".join(answers) in text
    assert Persona("Ada", "brief", "male").prompt.replace("Ada", "NAME").replace("brief", "MANNER") in text


def test_the_card_names_who_does_not_know_its_name() -> None:
    found = {str(voice): turns_of(seed) for seed, voice in enumerate(ALL_UNHEARD)}
    for number, turns in enumerate(found.values()):
        for index, turn in enumerate(turns):
            if (turn.text, turn.name, turn.manner) != (NAME_QUESTION, "Nora", "formal"):
                continue
            if turn.voice == "male" or number < 5:  # half of the voices are not most of them
                turns[index] = replace(turn, said="You may call me Ada.")
    figures = summary(found, {"right": 30, "of": 36}, turns_of(0)[:36])
    assert figures["misnamed"] == [["Nora", "formal", "male"]]
    assert "- Nora, who is formal and has the male voice, says another name in most turns" in card(figures)
