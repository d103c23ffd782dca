"""English said by voices of other languages: in time with flite, in phones that the language has."""

import re

import numpy as np
import pytest

from training.accents import LANGUAGES, SPEAKERS, as_segments
from training.phones import PHONES
from training.voices import CHOOSING_VOICES, TRAINING_VOICES

HELLO = [("pau", 0.2), ("hh", 0.26), ("ax", 0.3), ("l", 0.38), ("ow", 0.6), ("pau", 0.8)]


def said(name: str, ends: list[tuple[str, float]], seed: int = 1) -> list[tuple[str, float]]:
    """Phones and how long each is."""
    segments = as_segments(np.random.default_rng(seed), name, ends, 1.0)
    return [(phone, float(length)) for phone, length in re.findall(r"\(([^ ()]+) ([0-9]\.[0-9]{4})", segments)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_says_every_phone_of_flite(language: str) -> None:
    assert {*LANGUAGES[language]} == {*PHONES} - {"pau"}


@pytest.mark.parametrize("name", SPEAKERS)
def test_it_takes_as_long_as_flite(name: str) -> None:
    assert sum(length for _, length in said(name, HELLO)) == pytest.approx(0.8, abs=1e-3)


def test_phones_are_those_of_the_language() -> None:
    assert [phone for phone, _ in said("el_diphone", HELLO)] == ["#", "x", "e", "l", "o", "u", "#"]
    assert said("lp_diphone", HELLO)[:2] == [("#", 0.2), ("E", 0.1)], "Italian has no h: what comes next is longer"


@pytest.mark.parametrize(
    ("phones", "spoken"),
    [(["b", "ae", "d"], ["b", "e", "t"]), (["t", "z"], ["t", "s"]), (["s", "g", "aa"], ["z", "g", "a"])],
)
def test_czech_voices_obstruents_as_the_next_one(phones: list[str], spoken: list[str]) -> None:
    ends = [(phone, 0.1 * (index + 1)) for index, phone in enumerate([*phones, "pau"])]
    assert [phone for phone, _ in said("czech_dita", ends)] == [*spoken, "#"]


def test_the_melody_is_drawn_and_stays_near_the_voices_own() -> None:
    def targets(seed: int) -> list[int]:
        segments = as_segments(np.random.default_rng(seed), "czech_ph", HELLO, 1.1)
        return [int(hertz) for hertz in re.findall(r"\([0-9.]+ ([0-9]+)\)", segments)]

    assert len(targets(1)) == 2
    assert targets(1) == targets(1) != targets(2)
    every = [hertz for seed in range(50) for hertz in targets(seed)]
    assert 100 < np.mean(every) < 150


def test_voices_to_choose_by_are_not_trained_on() -> None:
    assert not {*CHOOSING_VOICES} & {*TRAINING_VOICES}
    accents = {voice.name for voice in (*CHOOSING_VOICES, *TRAINING_VOICES) if voice.engine == "accent"}
    assert accents == {*SPEAKERS}
