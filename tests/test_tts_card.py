"""The card of `nano-tts`: figures of its evaluation, and first of all what did not reach its bar."""

from typing import Any

from training.answers import TEXTS
from training.dialogue import KNOWN, UNKNOWN
from training.evaluate_tts import KNOWN_KIND, NEW_KIND, new_sentences, summary
from training.stt_text import vocabulary
from training.text import plain
from training.tts_card import card


def figures(right: int) -> dict[str, Any]:
    """Of 100 sentences of four words, so many of which are understood; the others lack one word."""
    texts = [f"sentence {number}" for number in range(100)]
    said = [(number < right, int(number >= right), 4) for number in range(100)]
    one = {"sentences": said, "written": {"right": 300, "of": 400}, "seconds": 100.0}
    found = {"model": one, "original": one, "late": [-0.02, 0.02, 0.04, 0.5]}
    return summary({NEW_KIND: (texts, found), KNOWN_KIND: (texts, found)})


def test_shares_are_of_sentences_and_of_words() -> None:
    found = figures(90)["kinds"][NEW_KIND]
    assert found["model"]["sentences"]["right"] == 90
    assert found["model"]["words"]["right"] == 390
    assert found["model"]["written"]["share"] == 0.75
    assert found["misunderstood"] == [f"sentence {number}" for number in range(90, 100)]
    assert figures(90)["times"]["median_error"] == 0.03


def test_the_card_says_first_what_missed_its_bar() -> None:
    text = card(figures(90))
    short = text[text.index("## What did not") : text.index("## Figures")]
    assert "90.0 % of 100" in short
    assert "*sentence 95*" in text
    assert "Nothing." in card(figures(96))


def test_new_sentences_are_none_that_is_said_anyway() -> None:
    found = [tuple(plain(text)) for text in new_sentences(30)]
    assert len(set(found)) == 30
    assert not set(found) & {tuple(plain(text)) for text in (*KNOWN, *UNKNOWN, *TEXTS)}
    assert {word for words in found for word in words} <= {word.lower() for word in vocabulary()}
