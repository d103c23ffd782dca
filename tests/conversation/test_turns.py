"""Turns: who speaks when, as sound and words show it."""

import numpy as np
import pytest

from moshi_mlx.conversation.turns import SpeechDetector, Turn, TurnTracker
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.tasks.words import Word

QUIET = np.zeros(FRAME_SAMPLES, np.float32)
VOICE = np.sin(np.arange(FRAME_SAMPLES) * 0.05).astype(np.float32) * 0.2


def turns(script: str, words: dict[int, str] | None = None) -> list[Turn]:
    """One letter a frame: u the user speaks, m Moshi, b both, . nobody. words: frame -> what Moshi says there."""
    found: list[Turn] = []
    tracker = TurnTracker(found.append)
    for number, letter in enumerate(script):
        said, frame = (words or {}).get(number, ""), VOICE if letter in "ub" else QUIET
        tracker.add(frame, Reply(VOICE if letter in "mb" else QUIET, said, number * 0.08))
    tracker.close()
    return found


def spans(found: list[Turn]) -> list[tuple[str, int, int]]:
    return [(turn.speaker, round(turn.begin / 0.08), round(turn.end / 0.08)) for turn in found]


def test_a_question_and_its_answer_are_two_turns() -> None:
    found = turns("....uuuuuuu......mmmmmmmm..............", {17: " Hello", 19: " there."})
    assert spans(found) == [("user", 4, 11), ("moshi", 17, 25)]
    assert [turn.text for turn in found] == ["", "Hello there."]
    assert not any(turn.interrupted for turn in found)


def test_short_pauses_belong_to_the_turn_and_long_ones_end_it() -> None:
    assert spans(turns("..uuuu.....uuu" + "." * 12 + "uuu")) == [("user", 2, 14), ("user", 26, 29)]


def test_turns_are_told_in_the_order_in_which_they_began() -> None:
    assert spans(turns("..uuuuu.mmm" + "." * 30)) == [("user", 2, 7), ("moshi", 8, 11)]
    assert spans(turns("..uubbbbbbuuuuuuuuuuuuuuuuuuuuuuuu" + "." * 30)) == [("user", 2, 34), ("moshi", 4, 10)]


def test_a_click_is_no_turn() -> None:
    assert turns("....u...................") == []


@pytest.mark.parametrize(
    ("script", "last", "interrupted"),
    [
        ("..mmmmmmmbbbuuuuuuuu............", " and", True),
        ("..mmmmmmmbbbuuuuuuuu............", " and so on.", False),  # it had said what it wanted
        ("..mmmmmbbbbbbbbbbbbbbbbbbbbbbbbb............", " and", False),  # it talked on
        ("..mmmmmmm......uuuuuuuuu............", " and", False),  # it had stopped by itself
    ],
    ids=["stops in the sentence", "ends its sentence", "talks on", "was over"],
)
def test_an_interrupted_answer_is_marked(script: str, last: str, interrupted: bool) -> None:
    found = turns(script, {3: " It", 5: last})
    assert [turn.interrupted for turn in found if turn.speaker == "moshi"] == [interrupted]


def test_who_speaks_is_known_while_they_speak() -> None:
    tracker = TurnTracker()
    seen = []
    for frame, voice in (
        [(QUIET, QUIET)]
        + [(VOICE, QUIET)] * 2
        + [(VOICE, VOICE)] * 3
        + [(QUIET, VOICE)] * 6
        + [(QUIET, QUIET)] * 6
    ):
        tracker.add(frame, Reply(voice, "", 0.0))
        seen.append(tracker.speaking)
    assert seen[2] == ("user",)
    assert seen[5] == ("user", "moshi")
    assert seen[11] == ("moshi",)
    assert seen[-1] == ()


def test_a_noisy_room_is_no_speech_and_speech_in_it_is() -> None:
    random = np.random.RandomState(1)
    detector = SpeechDetector()
    noise = [random.randn(FRAME_SAMPLES).astype(np.float32) * 0.02 for _ in range(60)]  # -34 dBFS
    assert not any(detector.hears(frame) for frame in noise[:50])
    assert all(detector.hears(frame + VOICE) for frame in noise[50:])


def captioned(script: str, complete: dict[int, float], words: list[Word]) -> list[tuple[int, Turn]]:
    """Turns, each with the frame at which it was told. complete: frame -> seconds whose words are known then."""
    known, now = [0.0], [0]
    found: list[tuple[int, Turn]] = []
    tracker = TurnTracker(lambda turn: found.append((now[0], turn)), lambda: known[0])
    coming = list(words)
    for number, letter in enumerate(script):
        now[0] = number
        known[0] = complete.get(number, known[0])
        while coming and coming[0].start < known[0]:
            tracker.hear(coming.pop(0))
        tracker.add(VOICE if letter in "ub" else QUIET, Reply(VOICE if letter in "mb" else QUIET, "", 0.0))
    tracker.close()
    return found


WORDS = [Word("A", 0.0, 0.1), Word("Hello", 2.0, 2.4), Word("sea", 2.5, 2.9), Word("later", 8.0, 8.3)]


def test_a_users_turn_waits_for_its_words() -> None:
    script = "." * 25 + "u" * 12 + "." * 15 + "m" * 10 + "." * 40  # the user: 2.0 to 2.96 s
    found = captioned(script, {70: 2.6, 80: 3.4}, WORDS)
    assert [turn.text for _, turn in found] == ["Hello sea", ""], "not what was said long before, or after"
    assert [frame for frame, _ in found] == [80, 80], "and the answer waits behind it"
    assert [turn.speaker for _, turn in found] == ["user", "moshi"]


def test_a_turn_does_not_wait_for_ever() -> None:
    script = "." * 25 + "u" * 12 + "." * 80
    found = captioned(script, {}, WORDS)
    assert [turn.text for _, turn in found] == [""]
    assert found[0][0] == 37 + 51, "more than four seconds after its end"
    assert captioned(script[:60], {50: 2.6}, WORDS)[0][1].text == "Hello sea", "the end of all waits for nothing"
