"""When each word of an utterance begins, for every synthesizer.

espeak-ng tells; flite tells its phones; of others it is found by time warping onto flite saying the same.
"""

from dataclasses import dataclass

import numpy as np

from training.align import aligned
from training.text import word_onsets
from training.voices import LABEL_RATE, SAMPLE_RATE, Utterance, Voice, speak

_TELLS = Voice("flite", "kal16")  # of others, where their words begin


@dataclass(frozen=True)
class Spoken:
    """pcm: float32 at 24 kHz; onsets: the second at which each word of the text begins."""

    pcm: np.ndarray
    onsets: tuple[float, ...]


def timed(voice: Voice, text: str, speed: float = 1.0, pitch: float = 1.0) -> Spoken:
    """As `voices.speak`, with the times of words.

    Raises RuntimeError as `speak`, and KeyError for a sentence in which flite loses a word.
    """
    said = speak(voice, text, speed, pitch)
    if voice.engine == "espeak":
        return Spoken(said.pcm, _told(text, said))
    if voice.engine == "flite":
        return Spoken(said.pcm, tuple(word_onsets(text, voice.name, speed)))
    teller = speak(_TELLS, text, speed)
    labels = np.zeros(len(teller.labels), np.uint8)  # of the words, in place of phones
    for index, onset in enumerate(word_onsets(text, _TELLS.name, speed)):
        labels[round(onset * LABEL_RATE) :] = index + 1
    found = aligned(said.pcm, Utterance(teller.pcm, labels))
    count = len(text.split())
    return Spoken(said.pcm, tuple(float(np.argmax(found > index)) / LABEL_RATE for index in range(count)))


def _told(text: str, said: Utterance) -> tuple[float, ...]:
    """Words that espeak-ng joins to the one before begin evenly between those that it tells."""
    at, places = 0, []
    for word in text.split():
        at = text.index(word, at)
        places.append(at)
        at += len(word)
    told = dict(said.onsets)
    known = [index for index, place in enumerate(places) if place in told]
    seconds = [told[places[index]] for index in known]
    end = len(said.pcm) / SAMPLE_RATE
    return tuple(np.interp(range(len(places)), [*known, len(places)], [*seconds, end]).tolist())
