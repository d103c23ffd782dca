"""The card of `nano-stt`: figures of its evaluation, and first of all what did not reach its bar."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from training.evaluate_stt import KINDS, NEW, Parts, summary
from training.stt_card import card
from training.voices import UNHEARD

VOICES = [str(voice) for voices in UNHEARD.values() for voice in voices]


def figures(right: dict[str, int]) -> dict[str, Any]:
    """Of voices that have so many of 50 words right in each kind; 45 unless said."""
    words = {
        voice: {
            kind: {
                "right": right.get(voice, 45),
                "of": 50,
                "too_many": 1,
                "sentences": [8, 10],
                "wrong": [["a", "b"]],
            }
            for kind in (*KINDS, NEW)
        }
        for voice in VOICES
    }
    ends = [{"of": 20, "at_end": 19, "within": 1}] * len(VOICES)
    late = np.array([-0.02, 0.01, 0.03, 0.5] * 25)
    return summary(words, late, ends, {"of": 30, "silent": 30})


def test_shares_are_of_all_words_of_a_group() -> None:
    found = figures({VOICES[0]: 25})
    assert found["all"]["words"]["of"] == 50 * len(KINDS) * len(VOICES)
    assert found["groups"]["first"]["words"]["right"] == (25 + 3 * 45) * len(KINDS)
    assert found["new"]["words"]["right"] == 25 + 45 * (len(VOICES) - 1)
    assert found["times"]["within"]["right"] == 75
    assert found["times"]["median_error"] == 0.025
    assert found["pauses"]["none_within"]["share"] == 0.95


def test_the_card_says_first_what_missed_its_bar() -> None:
    text = card(figures({VOICES[0]: 25}))
    short = text[text.index("## What did not") : text.index("## Figures")]
    assert "voices held back from the first training of Nano on: 80.0 %" in short
    assert "MBROLA" not in short
    assert "75.0 %" in short
    assert all(voice.replace(":", " ") in text for voice in VOICES)
    good = figures({})
    good["times"]["within"]["share"] = 0.95
    assert "Nothing." in card(good)


def test_an_evaluation_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.parts"
    assert Parts(path).found("one", lambda: [1]) == [1]
    assert Parts(path).found("one", lambda: 1 / 0) == [1]
    assert json.loads(path.read_text()) == {"one": [1]}


def test_what_was_found_is_found_again_only_with_the_same_weights_and_ears(tmp_path: Path) -> None:
    def places(lm: bytes, mimi: bytes) -> str:
        weights, ears = tmp_path / "lm", tmp_path / "mimi"
        weights.write_bytes(lm)
        ears.write_bytes(mimi)
        model = SimpleNamespace(lm_weights=weights, mimi_weights=ears)
        parts = Parts.beside(tmp_path / "stt.json", cast("Any", model))
        parts.found("one", lambda: 1)
        return " ".join(sorted(path.name for path in tmp_path.glob("stt*")))

    first = places(b"a", b"b")
    assert places(b"a", b"b") == first
    second = places(b"a", b"c")
    assert len(second.split()) == 2
    assert len(places(b"d", b"c").split()) == 3
