"""Words in time to the row of text tokens that Moshi reads: one token a frame, by the rules of Kyutai's trainer.

Each word is tokenized alone. Its first token stands in the frame in which it begins, the others follow frame by
frame; a next word takes the place of what is still pending. The frame before is marked as the end of padding.
Source: moshi-finetune, finetune/data/interleaver.py `Interleaver`, `InterleavedTokenizer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moshi_mlx.frames import FRAME_RATE

MAIN = "SPEAKER_MAIN"
"""What alignments call the one whose words are trained: Moshi."""
NO_TOKEN = -1  # reads as nothing, and has no loss


@dataclass(frozen=True)
class Word:
    """A word and when it is said. begin, end: seconds from the start of the recording."""

    text: str
    begin: float
    end: float
    speaker: str = MAIN


def window_frames(seconds: float) -> int:
    """Return how many frames a window of so many seconds has."""
    return math.ceil(seconds * FRAME_RATE)


def text_row(
    words: Sequence[Word],
    start: float,
    seconds: float,
    encode: Callable[[str], list[int]],
    recorded: int | None = None,
    padding: int = 3,
    end_padding: int = 0,
) -> np.ndarray:
    """Return the text tokens of a window, (frames,) int32.

    words: of the recording, by their beginnings. start, seconds: of the window. encode: a text to its tokens.
    recorded: frames of the window before the recording ends; all unless given.
    padding, end_padding: the tokens for "no word" and "a word begins in the next frame".
    """
    inside = [word for word in words if start <= word.begin < start + seconds]
    # Ends are shifted like beginnings before they are compared: rounding decides for words of no length.
    heard = [
        (begin, word)
        for word in inside
        if word.speaker == MAIN and (begin := word.begin - start) < word.end - start
    ]
    # One frame more than is wanted: where rounding puts a word behind the last frame, that one still ends padding.
    frames = window_frames(seconds)
    row = np.full(frames + 1, padding, np.int32)
    pending: list[int] = []
    coming = iter([*heard, (math.inf, None)])
    begin, word = next(coming)
    for frame in range(frames + 1):
        while word and begin * FRAME_RATE < frame + 1:
            pending = word_tokens(word.text, encode)
            begin, word = next(coming)
        if pending:
            if frame and row[frame - 1] == padding:
                row[frame - 1] = end_padding
            row[frame] = pending.pop(0)
    # Where the recording has ended text goes on as padding. Kyutai's trainer takes its frames for seconds there:
    # of n frames it lays out 12.5 n, and only what lies behind those is left out of the loss.
    laid_out = frames if recorded is None else window_frames(recorded)
    row[laid_out:] = NO_TOKEN
    return row[:frames]


def word_tokens(text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """Return the tokens of a word; lines within it are joined by the token of a line's end."""
    first, *others = text.strip().split("\n")
    tokens = list(encode(first))
    for line in others:
        tokens += [encode("\n")[-1], *encode(line)]
    return tokens
