"""Whether Nano answers rightly: single turns, conversations of ten questions, and turns under bad conditions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moshi_mlx.runtime.moshi import Moshi
from training.conditions import Condition
from training.dialogue import ANSWERS, STOPS, UNKNOWN_ANSWER
from training.heard import Heard, read_along
from training.intervals import share
from training.recordings import Said, all_of, recorded, seed_of, spoken
from training.voices import SAMPLE_RATE, Voice

LEAD, TAIL = 1.0, 3.2  # seconds of silence before anybody speaks and after
PAUSE = 4.0  # seconds to answer in, between the questions of a conversation
QUESTIONS = 10  # of a conversation
EARLY = 0.1  # seconds before the end of a question: whoever speaks sooner than that is early
SHOWN = 60  # wrong answers that are kept of each measurement


@dataclass(frozen=True)
class Turn:
    """What was asked, and what Nano said."""

    voice: str
    text: str
    said: str
    early: bool

    @property
    def right(self) -> bool:
        return self.said == wanted(self.text)


def wanted(text: str) -> str:
    """The right answer."""
    return "" if text in STOPS else ANSWERS.get(text, UNKNOWN_ANSWER)


def ask(moshi: Moshi, several: Sequence[Said], name: str) -> list[Turn]:
    """One turn each; `name` chooses how they are said."""
    recordings = all_of(recorded, [seed_of(name)], several)
    heard = read_along(moshi, recordings, LEAD, TAIL)
    return [
        Turn(str(said.voice), said.text, one.text, _early(one, LEAD + len(pcm) / SAMPLE_RATE))
        for said, pcm, one in zip(several, recordings, heard, strict=True)
    ]


def _early(heard: Heard, end: float) -> bool:
    return any(seconds < end - EARLY for seconds, _ in heard.pieces)


def ask_under(moshi: Moshi, condition: Condition, several: Sequence[Said], name: str) -> list[Turn]:
    """One turn each under a condition, all else being clean; the same sentences whichever condition it is."""
    sentences = all_of(spoken, [seed_of("conditions")], several)
    recordings = []
    for number, pcm in enumerate(sentences):
        silences = ((round(LEAD * SAMPLE_RATE), round(TAIL * SAMPLE_RATE)),)
        spoiled = condition(np.random.default_rng([seed_of(name), number]), np.pad(pcm, silences))
        recordings.append(np.clip(spoiled, -1, 1).astype(np.float32))
    return [
        Turn(str(said.voice), said.text, one.text, _early(one, LEAD + len(pcm) / SAMPLE_RATE))
        for said, pcm, one in zip(several, sentences, read_along(moshi, recordings, 0, 0), strict=True)
    ]


def converse_about(moshi: Moshi, voices: Sequence[Voice], each: int, name: str) -> list[list[Turn]]:
    """`each` conversations of QUESTIONS questions with every voice."""
    rng = np.random.default_rng(seed_of(name))
    known = list(ANSWERS)
    asked = [
        [Said(voice, known[index]) for index in rng.choice(len(known), QUESTIONS, replace=False)]
        for voice in voices
        for _ in range(each)
    ]
    parts = [all_of(recorded, [seed_of(name), number], one) for number, one in enumerate(asked)]
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    heard = read_along(
        moshi, [np.concatenate([p for part in one for p in (part, pause)]) for one in parts], LEAD, 0
    )
    return [
        [
            Turn(str(said.voice), said.text, *_between(one, begin, begin + len(part) / SAMPLE_RATE, end))
            for said, part, (begin, end) in zip(several, each, _spans(each), strict=True)
        ]
        for several, each, one in zip(asked, parts, heard, strict=True)
    ]


def _spans(parts: Iterable[np.ndarray]) -> list[tuple[float, float]]:
    """From when to when each question and its answer may last."""
    spans, begin = [], LEAD
    for part in parts:
        end = begin + len(part) / SAMPLE_RATE + PAUSE
        spans.append((begin, end))
        begin = end
    spans[0] = (0.0, spans[0][1])
    return spans


def _between(heard: Heard, begin: float, spoken_until: float, end: float) -> tuple[str, bool]:
    """What was said from `begin` to `end`, and whether it began before `spoken_until`."""
    pieces = [(seconds, text) for seconds, text in heard.pieces if begin <= seconds < end]
    early = any(seconds < spoken_until - EARLY for seconds, _ in pieces)
    return "".join(text for _, text in pieces).strip(), early


def summed_up(turns: Sequence[Turn]) -> dict[str, Any]:
    """Shares of turns, all together and by voice, and what was wrong."""
    return {
        **share([turn.right for turn in turns]).as_dict(),
        "early": share([turn.early for turn in turns]).as_dict(),
        "by_voice": {voice: share([turn.right for turn in some]).as_dict() for voice, some in _by_voice(turns)},
        "wrong": [[turn.voice, turn.text, turn.said] for turn in turns if not turn.right][:SHOWN],
    }


def conversations_summed_up(conversations: Sequence[Sequence[Turn]]) -> dict[str, Any]:
    """Conversations without a mistake, by voice; questions right by their place in the conversation."""
    turns = [turn for one in conversations for turn in one]
    voices: dict[str, list[bool]] = {}
    for one in conversations:
        voices.setdefault(one[0].voice, []).append(all(turn.right for turn in one))
    return {
        **share([right for some in voices.values() for right in some]).as_dict(),
        "by_voice": {voice: share(some).as_dict() for voice, some in voices.items()},
        "questions": summed_up(turns),
        "by_place": [share([one[place].right for one in conversations]).as_dict() for place in range(QUESTIONS)],
    }


def _by_voice(turns: Sequence[Turn]) -> Iterable[tuple[str, list[Turn]]]:
    voices: dict[str, list[Turn]] = {}
    for turn in turns:
        voices.setdefault(turn.voice, []).append(turn)
    return voices.items()
