"""Tokens to words with times, words to segments, segments to files."""

import json

import numpy as np
import pytest

from moshi_mlx.tasks.captions import FORMATS
from moshi_mlx.tasks.words import Pause, Transcription, Word, WordStream
from tests.golden import stt_golden

CONFIG = stt_golden().lm.config
PAD, BOUNDARY = CONFIG.text_padding_id, CONFIG.text_end_padding_id
PIECES = {10: " Hel", 11: "lo", 12: " sea", 13: "!", 14: "", 15: " a"}


class Pieces:
    """A tokenizer of six pieces."""

    def stream(self) -> "Pieces":
        return self

    def push(self, id: int, /) -> str:
        return PIECES[id]

    def encode(self, text: str, /) -> list[int]:
        raise NotImplementedError

    def lacks(self, word: str, /) -> bool:
        raise NotImplementedError


def stream(prefix: float = 0.0, delay: float = 0.0, seconds: float = 100.0) -> WordStream:
    return WordStream(Pieces(), CONFIG, prefix, delay, seconds)


def words(tokens: list[int], **how: float) -> list[tuple[str, float, float]]:
    """Text, first and last frame of each word."""
    made = stream(**how)
    found = [one for token in tokens for one in made.push(token)] + made.finish()
    return [(one.text, one.start, one.end) for one in found if isinstance(one, Word)]


def test_a_word_is_what_stands_between_word_starts() -> None:
    # The first token is that of the step before the first frame: the second belongs to time 0.
    tokens = [PAD, PAD, BOUNDARY, 10, 11, PAD, BOUNDARY, 12, PAD, BOUNDARY, PAD]
    assert words(tokens) == [("Hello", 0.16, 0.4), ("sea", 0.48, 0.64)]


def test_words_without_room_for_a_start_between_them_are_told_apart_by_their_spaces() -> None:
    assert words([PAD, 10, 11, 12, 13, BOUNDARY]) == [("Hello", 0.0, 0.16), ("sea!", 0.16, 0.32)]


def test_delay_and_prefix_are_taken_off() -> None:
    tokens = [PAD] * 20 + [BOUNDARY, 10, 11, BOUNDARY, PAD]
    assert words(tokens, delay=0.5) == [("Hello", pytest.approx(1.1), pytest.approx(1.26))]
    assert words(tokens, delay=0.5, prefix=1.0) == [("Hello", pytest.approx(0.1), pytest.approx(0.26))]
    assert words(tokens, delay=5.0) == [("Hello", 0.0, 0.0)], "no word is before the recording"
    assert words(tokens, seconds=1.2) == [("Hello", 1.2, 1.2)], "nor after it"


def test_a_word_before_a_pause_ends_after_a_second() -> None:
    made = stream()
    found = [one for token in [10, 11, *[PAD] * 11] for one in made.push(token)]
    assert not found, "it may still go on"
    assert made.push(PAD) == [Word("Hello", 0.0, 0.96)]
    assert words([PAD, 10, *[PAD] * 30, BOUNDARY, 12]) == [("Hel", 0.0, 1.0), ("sea", 2.56, 2.64)]


def test_pieces_without_text_make_no_word() -> None:
    assert words([PAD, BOUNDARY, 14, PAD, BOUNDARY, 10, 14, 11]) == [("Hello", 0.32, 0.56)]


def heads(probability: float) -> np.ndarray:
    vad = np.zeros((4, 6), np.float32)
    vad[2, 0] = probability
    vad[0, 0] = vad[2, 1] = 0.9  # other heads and classes do not count
    return vad


def test_a_pause_is_told_once_until_a_word_that_was_said_after_it() -> None:
    made = stream(prefix=0.08, delay=0.5)
    told = []
    tokens = (PAD, 10, PAD, PAD, BOUNDARY, 12, PAD, PAD, BOUNDARY, 10, PAD, BOUNDARY, 12)
    silent = (0.5, 0.4, 0.6, 0.9, 0.9, 0.7, 0.8, 0.2, 0.2, 0.9, 0.9, 0.9, 0.7)
    for token, probability in zip(tokens, silent, strict=True):
        told.append([one for one in made.push(token, heads(probability)) if isinstance(one, Pause)])
    assert told[:3] == [[], [], [Pause(0.08, float(np.float32(0.6)))]]
    assert not any(told[3:12]), "the words up to here were said before it: they come later by the delay"
    assert told[12] == [Pause(0.88, float(np.float32(0.7)))]


def test_models_with_fewer_heads_find_no_pauses() -> None:
    assert stream().push(PAD, heads(0.9)[:2]) == []


SAID = Transcription(
    12.0,
    [
        Word("Hello", 0.4, 0.8),
        Word("<sea>", 0.88, 1.2),
        Word("a", 1.28, 1.4),
        Word("boat", 3.0, 3.4),
    ],
    [Pause(1.24, 0.75)],
)


def test_segments_end_at_pauses_and_gaps() -> None:
    assert [segment.text for segment in SAID.segments] == ["Hello <sea>", "a", "boat"]
    assert [segment.text for segment in Transcription(12.0, SAID.words).segments] == ["Hello <sea> a", "boat"]
    assert SAID.text == "Hello <sea> a boat"
    assert Transcription(3.0).segments == []


def test_segments_are_short_enough_to_be_read() -> None:
    long = [Word("w" * 9, 0.3 * index, 0.3 * index + 0.25) for index in range(100)]
    for segment in Transcription(30.0, long).segments:
        assert len(segment.text) <= 84
        assert segment.end - segment.start <= 7.0
    slow = [Word("w", 0.5 * index, 0.5 * index + 0.45) for index in range(100)]
    assert [len(segment.words) for segment in Transcription(50.0, slow).segments][:2] == [14, 14]


def test_srt() -> None:
    assert FORMATS["srt"](SAID) == (
        "1\n00:00:00,400 --> 00:00:01,200\nHello <sea>\n\n"
        "2\n00:00:01,280 --> 00:00:01,400\na\n\n"
        "3\n00:00:03,000 --> 00:00:03,400\nboat\n"
    )
    late = Transcription(4000.0, [Word("end", 3725.9996, 3725.9996)])
    assert FORMATS["srt"](late) == "1\n01:02:06,000 --> 01:02:06,080\nend\n"


def test_vtt() -> None:
    assert FORMATS["vtt"](SAID).startswith("WEBVTT\n\n00:00:00.400 --> 00:00:01.200\nHello &lt;sea&gt;\n\n")


def test_txt_and_json() -> None:
    assert FORMATS["txt"](SAID) == "Hello <sea>\na\nboat\n"
    found = json.loads(FORMATS["json"](SAID))
    assert found["text"] == SAID.text
    assert found["seconds"] == 12.0
    assert found["words"][1] == {"word": "<sea>", "start": 0.88, "end": 1.2}
    assert found["segments"][2] == {"start": 3.0, "end": 3.4, "text": "boat"}
    assert found["pauses"] == [{"pause": 1.24, "p": 0.75}]


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_said_is_a_file_too(kind: str) -> None:
    assert FORMATS[kind](Transcription(1.0)) in ("", "WEBVTT\n") or kind == "json"
