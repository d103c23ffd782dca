"""Repetition is noticed when words come the third time, and nothing else is."""

from moshi_mlx.conversation.repetition import RECENT, RepetitionDetector

SENTENCE = " so I said to him that"


def first_alarm(pieces: list[str]) -> int | None:
    detector = RepetitionDetector()
    return next((index for index, piece in enumerate(pieces) if detector.add(piece)), None)


def test_the_third_time_is_repetition() -> None:
    assert first_alarm([SENTENCE] * 4) == 2


def test_pieces_of_words_are_put_together() -> None:
    pieces = [" so", " I", " sa", "id", " to", " h", "im", " that"]
    assert first_alarm(pieces * 4) in (2 * len(pieces) + 7, 3 * len(pieces))  # with its last word, or just after


def test_twice_is_none_and_neither_is_a_short_phrase() -> None:
    assert first_alarm([SENTENCE] * 2 + [" and then we went home again", " it was late and dark there"]) is None
    assert (
        first_alarm([" you know what", " one thing", " you know what", " two", " you know what", " three"] * 2)
        is None
    )


def test_one_word_again_and_again_is_repetition() -> None:
    assert first_alarm([" yes"] * 20) in (7, 8)


def test_what_was_said_long_ago_is_forgotten() -> None:
    between = [f" word{index}" for index in range(RECENT + 10)]
    assert first_alarm([SENTENCE, *between, SENTENCE, *between, SENTENCE]) is None


def test_it_begins_anew_after_an_alarm() -> None:
    detector = RepetitionDetector()
    alarms = [detector.add(SENTENCE) for _ in range(6)]
    assert alarms == [False, False, True, False, False, True]
    assert not any(detector.add(SENTENCE) for _ in range(2))
    detector.forget()
    assert not any(detector.add(SENTENCE) for _ in range(2))


def test_case_does_not_matter() -> None:
    assert first_alarm([SENTENCE, SENTENCE.upper(), SENTENCE.title()]) == 2
