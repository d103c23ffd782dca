"""Windows of talks: what `nano-stt` hears, and what it is to write and to expect at every position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.stt_codes import Talk
from training.stt_text import NUMBERS, spelled, token_ids
from training.text import EPAD, PAD
from training.voices import is_human

FRAME = 0.08  # seconds
DELAY = 8  # frames between the beginning of a word and its token
HORIZONS = (0.5, 1.0, 2.0, 3.0)  # seconds that the extra heads look ahead
CLASSES = 6  # of each: nobody speaks, or up to so many fifths of the time
COUNTING = 0.3  # of what is drawn are numbers alone: in those nothing but the sound tells which word it is
PAUSES = 0.5  # of the utterances are followed by a longer silence
_BEFORE = 2  # frames of the silence before an utterance that go with it


@dataclass(frozen=True)
class Window:
    """codes: [CODEBOOKS, frames]; text: [frames], the token of each position; activity: [heads, frames], classes.

    Position p has heard the frames before p.
    """

    codes: np.ndarray
    text: np.ndarray
    activity: np.ndarray


@dataclass(frozen=True)
class _Piece:
    """Some frames of a talk. words: (token, frame at which it begins); begin, end: of the sound, in frames."""

    codes: np.ndarray
    words: tuple[tuple[int, float], ...] = ()
    begin: float = 0.0
    end: float = 0.0


class Windows:
    """Endless windows: utterances of several talks after each other, each at its own uneven pace."""

    def __init__(self, talks: Sequence[Talk]) -> None:
        kinds: list[list[list[_Piece]]] = [[], []]
        self._tails = [talk.codes[:, _frame(talk.said[-1].end) + 8 :] for talk in talks]
        for talk in talks:
            kinds[is_human(talk.voice)].append(_pieces(talk))
        self._kinds = [kind for kind in kinds if kind]  # half of the time by the more human voices
        numbers = {token_ids()[word] for word in NUMBERS}
        self._numbers = [
            [
                piece
                for talk in kind
                for piece in talk
                if piece.words and {token for token, _ in piece.words} <= numbers
            ]
            for kind in self._kinds
        ]

    def window(self, rng: np.random.Generator, frames: int) -> Window:
        """A window of so many frames, half of them from the very start of a stream."""
        pieces, length = [], 0
        while length < frames:
            kind = int(rng.integers(len(self._kinds)))
            talk, numbers = self._kinds[kind][rng.integers(len(self._kinds[kind]))], self._numbers[kind]
            first = int(rng.integers(len(talk))) if length or rng.random() < 0.5 else 0
            chosen = talk[first : first + int(rng.integers(1, 5))]
            if numbers and length and rng.random() < COUNTING:
                chosen = [numbers[rng.integers(len(numbers))]]
            for piece in chosen:
                pieces.append(paced(rng, piece))
                if rng.random() < PAUSES:
                    tail = self._tails[rng.integers(len(self._tails))]
                    begin = int(rng.integers(max(1, tail.shape[1] - 8)))
                    pieces.append(_Piece(tail[:, begin : begin + int(rng.integers(4, 30))]))
                length = sum(one.codes.shape[1] for one in pieces)
        return _joined(pieces, frames)


def _frame(seconds: float) -> int:
    return int(seconds / FRAME)


def _pieces(talk: Talk) -> list[_Piece]:
    """Cut a talk in the silences between utterances."""
    ids = token_ids()
    cuts = [0, *(max(0, _frame(said.begin) - _BEFORE) for said in talk.said[1:])]
    ends = [*cuts[1:], _frame(talk.said[-1].end) + 8]
    pieces = []
    for said, start, end in zip(talk.said, cuts, ends, strict=True):
        words = tuple((ids[spelled(word)[0]], at / FRAME - start) for word, at in said.words)
        edges = (said.begin / FRAME - start, said.end / FRAME - start) if words else (0.0, 0.0)
        pieces.append(_Piece(talk.codes[:, start:end], words, *edges))
    return pieces


def paced(rng: np.random.Generator, piece: _Piece) -> _Piece:
    """Half of the time at an uneven pace: a frame is left out here and there, another one comes twice."""
    if rng.random() < 0.5 or not piece.words:
        return piece
    out, twice = rng.uniform(0, 0.1, 2)
    times = rng.choice(3, piece.codes.shape[1], p=[out, 1 - out - twice, twice])
    starts = np.concatenate([[0], np.cumsum(times)])

    def moved(at: float) -> float:
        return float(np.interp(at, np.arange(len(starts)), starts))

    words = tuple((token, moved(at)) for token, at in piece.words)
    return _Piece(np.repeat(piece.codes, times, axis=1), words, moved(piece.begin), moved(piece.end))


def _joined(pieces: Sequence[_Piece], frames: int) -> Window:
    codes = np.concatenate([piece.codes for piece in pieces], axis=1)[:, :frames].astype(np.int64)
    text = np.full(frames, PAD, np.int64)
    left = np.zeros(frames)  # seconds for which whoever speaks at a position goes on
    start, free = 0, 0
    for piece in pieces:
        begin, end = max(0, round(start + piece.begin)), start + piece.end
        at = np.arange(begin, min(frames, max(begin, int(end))))
        left[at] = (end - at) * FRAME
        for token, onset in piece.words:
            place = max(free, 1 + DELAY + round(start + onset))  # as `WordStream` reads it; never two in one
            if place < frames:
                text[place] = token
                if text[place - 1] == PAD:
                    text[place - 1] = EPAD
            free = place + 1
        start += piece.codes.shape[1]
    horizons = np.array(HORIZONS)[:, None]
    shares = np.minimum(left, horizons) / horizons
    return Window(codes, text, np.ceil(shares * (CLASSES - 1)).astype(np.int64))
