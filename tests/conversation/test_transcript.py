"""What was said: as text, as delays, and as utterances."""

import pytest

from moshi_mlx.conversation.transcript import Transcript, Utterance, utterances
from moshi_mlx.runtime.reply import Reply

REPLIES = [Reply(None, text, 0.08 * step) for step, text in enumerate(["", " Hel", "lo", "", " sea"])]


def test_the_transcript_is_the_pieces_joined() -> None:
    transcript = Transcript()
    for reply in REPLIES:
        transcript.write(reply)
    assert transcript.text == "Hello sea"


def test_the_delay_counts_to_the_next_word() -> None:
    transcript = Transcript()
    for reply in [*REPLIES, Reply(None, " ", 0.4), Reply(None, "!", 0.48)]:
        transcript.write(reply)
    assert transcript.delay_after(0.2) == pytest.approx(0.12)
    assert transcript.delay_after(0.33) == pytest.approx(0.15)  # a space is no word
    assert transcript.delay_after(0.5) is None


def test_a_pause_begins_a_new_utterance() -> None:
    pieces = [(1.0, " Hello,"), (1.3, " you."), (3.0, " Yes.")]
    assert utterances(pieces, "moshi") == [
        Utterance(1.0, 1.3, "moshi", "Hello, you."),
        Utterance(3.0, 3.0, "moshi", "Yes."),
    ]


def test_nothing_said_is_no_word() -> None:
    assert Transcript().words(3.0).words == []
