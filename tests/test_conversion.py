"""Speakers and sentences made for training: of another size, of two voices, of words in another order."""

import numpy as np
import pytest

from training.conversion import converted
from training.dialogue import ANSWERS, KNOWN, UNKNOWN_FURTHER, UNKNOWN_HELD_OUT
from training.sentences import SMALL, bare, others, strange, words
from training.voices import MIXED, SAMPLE_RATE, kind_of


def vowel(pitch: float, resonances: tuple[float, ...], seconds: float = 0.6) -> np.ndarray:
    """Harmonics of `pitch` Hz under peaks at `resonances` Hz, peak 0.5."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    out = np.zeros(len(time))
    for number in range(1, int(8_000 / pitch)):
        frequency = number * pitch
        loudness = sum(1 / (1 + ((frequency - peak) / 120) ** 2) for peak in resonances) + 0.01
        out += loudness * np.sin(2 * np.pi * frequency * time + number)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def loudest(pcm: np.ndarray, low: float, high: float) -> float:
    """The centre of the energy between two frequencies, Hz."""
    spectrum = np.abs(np.fft.rfft(pcm)) ** 2
    frequencies = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE)
    band = (frequencies > low) & (frequencies < high)
    return float((spectrum * frequencies)[band].sum() / spectrum[band].sum())


def pitch_of(pcm: np.ndarray) -> float:
    """The strongest period between 60 and 300 Hz, as a frequency."""
    shapes = np.fft.irfft(np.abs(np.fft.rfft(pcm, 2 * len(pcm))) ** 2)
    periods = np.arange(SAMPLE_RATE // 300, SAMPLE_RATE // 60)
    return SAMPLE_RATE / periods[np.argmax(shapes[periods])]


@pytest.mark.parametrize("factor", [0.85, 1.18])
def test_resonances_move_and_the_pitch_stays(factor: float) -> None:
    said = vowel(100, (1_000, 3_000))
    made = converted(said, said, factor)
    assert made.shape == said.shape
    assert np.abs(made).max() == pytest.approx(0.5, abs=1e-6)
    assert pitch_of(made) == pytest.approx(100, rel=0.02)
    assert loudest(made, 500, 1_700) == pytest.approx(1_000 * factor, rel=0.05)


def test_nothing_moves_by_a_factor_of_one() -> None:
    said = vowel(120, (700, 2_000))
    same = converted(said, said)
    middle = slice(2_000, -2_000)
    assert np.corrcoef(same[middle], said[middle])[0, 1] > 0.99


def test_one_speaks_with_the_vocal_tract_of_another() -> None:
    low, high = vowel(110, (600, 1_800)), vowel(170, (1_100, 2_800))
    made = converted(low, high)
    assert pitch_of(made) == pytest.approx(110, rel=0.02)
    assert loudest(low, 300, 1_500) == pytest.approx(600, rel=0.1)
    assert loudest(made, 300, 1_500) == pytest.approx(1_100, rel=0.1)
    half = converted(low, high, share=0.5)
    assert loudest(low, 300, 1_500) + 50 < loudest(half, 300, 1_500) < loudest(made, 300, 1_500) - 50


def test_a_strange_sentence_is_none_that_nano_knows() -> None:
    known = {bare(text) for text in KNOWN}
    rng = np.random.default_rng(1)
    made = [bare(strange(rng)) for _ in range(500)]
    assert not known & set(made)
    assert len(set(made)) > 480
    assert {word for text in made for word in text.split()} <= {*words(), *others()}
    nearly = [text for text in made if any(len(set(text.split()) ^ set(other.split())) <= 2 for other in known)]
    assert 0.3 < len(nearly) / len(made) < 0.8, "many are one word away from what it knows"


def test_a_question_with_other_small_words_is_not_strange() -> None:
    """Nor is one with a word that sounds nearly like its own: those are to be answered."""
    meaning = {" ".join(word for word in bare(text).split() if word not in SMALL) for text in ANSWERS}
    rng = np.random.default_rng(2)
    made = [bare(strange(rng)) for _ in range(500)]
    assert not meaning & {" ".join(word for word in text.split() if word not in SMALL) for text in made}
    assert not [text for text in made if text.startswith("what color is glass")]


def test_strange_sentences_do_not_tell_what_is_kept_for_the_evaluation() -> None:
    kept = {word for text in (*UNKNOWN_HELD_OUT, *UNKNOWN_FURTHER) for word in bare(text).split()}
    assert not kept & {*others()} - {*words()}
    assert len(others()) > 300


def test_voices_are_of_three_kinds() -> None:
    assert [kind_of(name) for name in ("flite:rms", "rhvoice:clb", "espeak:en-us", MIXED)] == [0, 0, 1, 2]
