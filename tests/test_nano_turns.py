"""Conversations that Nano learns from: what it is to answer, what it is to leave alone, when it is to stop."""

from dataclasses import replace

import numpy as np
import pytest

from training.dialogue import ANSWERS, STOPS, UNKNOWN, UNKNOWN_ANSWER
from training.text import EPAD, PAD, token_ids
from training.turns import GAP, OWN, REACTION, TEXT, USER, Turns, Window
from training.utterances import FORGET_FRAMES, Answer, Said, SpeechCodes
from training.voices import MIXED

SILENCE, ROOM, QUESTION, STOP, STRANGE, ASIDE, BUMP, ANSWER, ECHO = range(9)
"""The code that stands for each, in all codebooks."""
FRAMES = 200


def codes_of(code: int, frames: int) -> np.ndarray:
    return np.full((8, frames), code, np.int16)


def said(voice: str, text: str, code: int) -> Said:
    codes = codes_of(ROOM, 20)
    codes[:, 4:14] = code
    return Said(voice, text, 0, 4, 14, codes)


@pytest.fixture(scope="module")
def codes() -> SpeechCodes:
    question = next(iter(ANSWERS))
    spoken = [said(voice, question, QUESTION) for voice in ("flite:rms", "espeak:en-us", MIXED)]
    return SpeechCodes(
        silence=np.full(8, SILENCE),
        answers={text: Answer(codes_of(ANSWER, 12), [(0, "I")]) for text in (*ANSWERS.values(), UNKNOWN_ANSWER)},
        rooms=codes_of(ROOM, FORGET_FRAMES + 50)[None],
        said=[
            *spoken,
            said("flite:rms", STOPS[0], STOP),
            said("espeak:en-us", UNKNOWN[0], STRANGE),
            said("flite:rms", "what is the banana of yesterday", STRANGE),
        ],
        bumps=[said("", "", BUMP)],
        asides=[codes_of(ASIDE, 75)],
        echoes={text: [codes_of(ECHO, 12)] for text in ANSWERS.values()} | {UNKNOWN_ANSWER: [codes_of(ECHO, 12)]},
    )


@pytest.fixture(scope="module")
def windows(codes: SpeechCodes) -> list[Window]:
    turns = Turns(codes, np.random.default_rng(1))
    return [turns.window(FRAMES) for _ in range(300)]


def begins(row: np.ndarray) -> np.ndarray:
    """The frames at which something begins."""
    return np.flatnonzero(np.diff(np.concatenate([[False], row]).astype(int)) == 1)


def test_every_answer_comes_after_what_asks_for_it(windows: list[Window]) -> None:
    answers = 0
    for window in windows:
        heard = window.codes[USER][0]
        for begin in begins(window.speaking):
            at = begin - int(np.argmin(window.waiting[: begin - 1][::-1]))  # when it could have begun
            recent = heard[max(0, at - GAP - 2) : at - GAP + 1]
            assert np.isin([QUESTION, STRANGE], recent).any(), (begin, recent)
            answers += 1
    assert answers > 500


def test_it_may_answer_later_than_it_could_and_is_silent_until_then(windows: list[Window]) -> None:
    waits = [begin for window in windows for begin in begins(window.waiting)]
    answers = sum(len(begins(window.speaking)) for window in windows)
    assert 0.2 < len(waits) / answers < 0.4
    for window in windows:
        assert not (window.waiting & window.speaking).any()
        assert (window.codes[TEXT][window.waiting] == PAD).all()
        for begin in begins(window.waiting):
            end = begin + int(np.argmin(np.append(window.waiting[begin:], False)))
            assert end >= FRAMES - 1 or window.speaking[end + 1], "the frame between tells that a word comes"


def test_mostly_the_room_does_not_tell_that_somebody_begins_to_speak(codes: SpeechCodes) -> None:
    rooms = codes_of(ROOM + 100, FORGET_FRAMES + 50)[None]
    turns = Turns(replace(codes, rooms=rooms), np.random.default_rng(2))
    told = []
    for _ in range(100):
        window = turns.window(FRAMES)
        heard = window.codes[USER][0]
        told += [
            bool((heard[begin - 4 : begin] == ROOM).all()) for begin in begins(heard == QUESTION) if begin > 4
        ]
    assert 0.15 < np.mean(told) < 0.45


def test_sounds_are_where_somebody_is_heard(windows: list[Window]) -> None:
    for window in windows:
        assert window.sounds[window.codes[USER][0] != ROOM].all()
        assert not window.sounds.all()


def test_others_who_talk_and_noises_are_left_alone(windows: list[Window]) -> None:
    alone = 0
    for window in windows:
        heard = window.codes[USER][0]
        for begin in np.flatnonzero(np.diff(heard.astype(int), prepend=ROOM) != 0):
            if heard[begin] not in (ASIDE, BUMP) or window.speaking[max(0, begin - 1)]:
                continue
            after = window.speaking[begin : begin + 6]
            alone += 1
            assert not begins(after).size or np.isin([QUESTION, STRANGE], heard[begin - 12 : begin + 6]).any()
        assert (window.echoes | (heard != ASIDE)).all(), "only how loud it is tells it from speech to Nano"
    assert alone > 100


def test_music_does_not_end_an_answer_and_words_do(windows: list[Window]) -> None:
    through, stopped = 0, 0
    for window in windows:
        heard = window.codes[USER][0]
        through += int((window.speaking & (heard == ASIDE)).sum())
        stopped += int(window.cut.any())
        assert not (window.speaking & window.cut).any()
        assert (window.codes[OWN][0][~window.speaking] == SILENCE).all()
    assert through > 50
    assert stopped > 100


def test_however_late_it_falls_silent_for_who_interrupts_and_then_answers(windows: list[Window]) -> None:
    longest, answered = 0, 0
    for window in windows:
        assert window.speaking[window.late].all()
        assert not (window.late & window.cut).any()
        for begin in begins(window.late):
            heard = window.codes[USER][0]
            assert np.isin([QUESTION, STOP, STRANGE], heard[begin - REACTION : begin]).any()
            end = begin + int(np.argmin(np.append(window.late[begin:], False)))
            assert end == FRAMES or not window.speaking[end]
            longest = max(longest, end - begin)
            answered += int(window.speaking[end + 1 : end + 14].any())
    assert longest > 6
    assert answered > 20


def test_words_stand_where_they_are_said(windows: list[Window]) -> None:
    ids = set(token_ids().values())
    for window in windows:
        text = window.codes[TEXT]
        assert set(text.tolist()) <= {PAD, EPAD, *ids}
        for frame in np.flatnonzero(text > PAD):
            assert window.speaking[frame]
            assert text[frame - 1] == EPAD or not frame
