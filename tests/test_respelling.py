"""English in the letters of other languages."""

import pytest

from training.phones import PHONES
from training.respelling import LETTERS, SPEAKERS, respelled
from training.voices import TRAINING_VOICES

WORDS = {
    "What": ["w", "ah", "t"], "time": ["t", "ay", "m"], "Good": ["g", "uh", "d"], "Guess": ["g", "eh", "s"],
    "Can": ["k", "ae", "n"], "key": ["k", "iy"], "Each": ["iy", "ch"], "cheese": ["ch", "iy", "z"],
    "he": ["hh", "iy"], "Don't": ["d", "ow", "n", "t"],
}  # fmt: skip


def spelled(text: str, language: str) -> str:
    return respelled(text, language, lambda word: WORDS[word])


@pytest.mark.parametrize("language", LETTERS)
def test_a_language_writes_every_phone_of_flite(language: str) -> None:
    assert {*LETTERS[language]} == {*PHONES} - {"pau"}


def test_every_voice_has_a_language_and_is_trained_on() -> None:
    assert {language for _, language in SPEAKERS.values()} == {*LETTERS}
    assert {voice.name for voice in TRAINING_VOICES if voice.engine == "foreign"} == {*SPEAKERS}


@pytest.mark.parametrize(
    ("language", "said"), [("ru", "уат тайм? Доунт"), ("eo", "vat tajm? Doŭnt"), ("de", "uat teim? Dont")]
)
def test_words_stay_words_and_signs_stay(language: str, said: str) -> None:
    assert spelled("What time? Don't", language) == said.lower()


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("it", "Good", "gud"), ("it", "Guess", "ghess"), ("it", "Can", "can"), ("it", "key", "chi"),
        ("it", "Each", "ici"), ("it", "cheese", "cis"), ("es", "Guess", "gues"), ("es", "Good", "gud"),
        ("fr", "key", "ki"), ("fr", "Guess", "guèsse"), ("fr", "he", "i"),
    ],
)  # fmt: skip
def test_letters_sound_as_they_do_in_the_language(language: str, text: str, said: str) -> None:
    assert spelled(text, language) == said
