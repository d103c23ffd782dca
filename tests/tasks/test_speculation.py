"""Reading ahead in known audio: whatever is guessed, the tokens are those of stepping."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.transcribe_passes import BARS, counted, text_stream
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.speculation import (
    AHEAD,
    Drafter,
    PaddingDrafter,
    SpeculativeDecoder,
    TextDrafter,
    accepted,
    count_passes,
)
from tests.golden import lm_golden, stt_golden

PADDING, BOUNDARY = 3, 0


@pytest.fixture(scope="module")
def lm() -> Lm:
    return stt_golden().lm


@pytest.fixture(scope="module")
def codes(lm: Lm) -> np.ndarray:
    """(90, 32): the window of 24 wraps three times."""
    return np.random.RandomState(3).randint(0, lm.config.card, (90, lm.config.n_q)).astype(np.int32)


@pytest.fixture(scope="module")
def stepped(lm: Lm, codes: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Text tokens and voice activity of stepping, from the step that reads initial tokens on."""
    session = Batch(wordless(lm), 1).join(0, GREEDY)
    made = [session.generate(frame) for frame in [codes[0], *codes]]  # what is heard at first is not read
    return [one.text_id for one in made], np.stack([one.vad for one in made if one.vad is not None])


class Scripted:
    """A drafter that knows the text, but for a share of mistakes."""

    def __init__(self, texts: Sequence[int], mistakes: float) -> None:
        self._texts = [*texts, *[PADDING] * 200]
        self._mistakes = mistakes
        self._random = np.random.RandomState(1)
        self._at = 0

    def observe(self, token: int) -> None:
        assert token == self._texts[self._at]
        self._at += 1

    def draft(self, count: int) -> list[int]:
        right = self._texts[self._at : self._at + count]
        return [(token + 1) % 48 if self._random.rand() < self._mistakes else token for token in right]


@pytest.mark.parametrize(
    ("ahead", "kind"),
    [
        *((ahead, "right") for ahead in (1, 3, 16, 91)),
        *((ahead, "often wrong") for ahead in (2, 7, 16, 40, 120)),
        *((7, kind) for kind in ("padding", "text")),
    ],
)
def test_the_tokens_are_those_of_stepping(
    lm: Lm, codes: np.ndarray, stepped: tuple[list[int], np.ndarray], ahead: int, kind: str
) -> None:
    texts, vad = stepped
    drafters: dict[str, Drafter] = {
        "padding": PaddingDrafter(PADDING),
        "text": TextDrafter(PADDING, BOUNDARY),
        "right": Scripted(texts, 0.0),
        "often wrong": Scripted(texts, 0.2),
    }
    decoder = SpeculativeDecoder(lm, ahead, drafters[kind])
    heard = list(decoder.decode(codes))
    assert [one.text_id for one in heard] == texts
    np.testing.assert_allclose(np.stack([one.vad for one in heard if one.vad is not None]), vad, atol=1e-5)
    assert decoder.frames == len(texts)
    if fresh := {"padding": PaddingDrafter(PADDING), "text": TextDrafter(PADDING, BOUNDARY)}.get(kind):
        assert decoder.passes == count_passes(texts, fresh, ahead)
    if kind == "right":
        assert decoder.passes == -(-len(texts) // ahead), "every pass should have been kept whole"
    if ahead == 1:
        assert decoder.passes == len(texts)


@pytest.mark.parametrize("count", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1])
def test_recordings_of_any_length_end_where_they_end(
    lm: Lm, codes: np.ndarray, stepped: tuple[list[int], np.ndarray], count: int
) -> None:
    decoder = SpeculativeDecoder(lm)
    for _ in range(2):  # the second begins as the first did
        assert [one.text_id for one in decoder.decode(codes[:count])] == stepped[0][: count + 1]


def test_an_int8_window_gives_the_tokens_of_stepping(lm: Lm, codes: np.ndarray) -> None:
    config = replace(lm.config, transformer=replace(lm.config.transformer, num_heads=2))  # int8 wants wide heads
    mx.random.seed(0)
    wide = Lm(config)
    session = Batch(wordless(wide, kv_bits=8), 1).join(0, GREEDY)
    texts = [session.generate(frame).text_id for frame in [codes[0], *codes]]
    heard, exact = (list(SpeculativeDecoder(wide, kv_bits=bits).decode(codes)) for bits in (8, None))
    assert [one.text_id for one in heard] == texts
    last, other = heard[-1].vad, exact[-1].vad
    assert last is not None
    assert other is not None
    assert np.abs(last - other).max() > 1e-5, "int8 should be seen"


def test_a_model_that_speaks_cannot_read_ahead() -> None:
    with pytest.raises(ConfigError, match="dep_q 8 and delays up to 1 cannot read ahead"):
        SpeculativeDecoder(lm_golden("moshi").lm)


@pytest.mark.parametrize(
    ("drafts", "texts", "count"),
    [([], [5], 1), ([5], [5, 3], 2), ([3], [5, 3], 1), ([5, 3, 3], [5, 3, 0, 7], 3), ([5, 3, 3], [5, 3], 2)],
)
def test_what_follows_the_first_wrong_guess_is_given_back(drafts: list[int], texts: list[int], count: int) -> None:
    assert accepted(drafts, texts) == count


def test_real_word_times_take_few_passes() -> None:
    rows = [row for row in counted() if row["ahead"] == AHEAD]
    assert {row["speech"].split(",")[0] for row in rows} == BARS.keys()
    for row in rows:
        assert row["text"] >= BARS[row["speech"].split(",")[0]], row
        assert row["text"] > row["padding"] > 1, "what was said before should help"


def test_words_are_placed_as_in_training() -> None:
    said = {"starts": {"1": [0.0, 0.16, 0.3, 0.5]}, "seconds": {"1": 0.8}, "pieces": [[9], [8, 7, 6], [5], [4, 4]]}
    texts, words_per_second = text_stream([said], "1", half=False)
    # After half a second; a boundary stands where there is room; the third word takes the place of a piece.
    words = [BOUNDARY, 9, BOUNDARY, 8, 7, 5, BOUNDARY, 4, 4]
    assert texts == [PADDING] * 5 + words + [PADDING] * 7
    assert words_per_second == pytest.approx(4 / 1.7)


def test_a_text_drafter_guesses_what_followed_before() -> None:
    drafter = TextDrafter(PADDING, BOUNDARY)
    assert drafter.draft(3) == [PADDING] * 3
    said = [BOUNDARY, 10, 11, PADDING, PADDING, BOUNDARY, 20, PADDING]
    for token in said * 3:
        drafter.observe(token)
    assert drafter.draft(8) == said
    assert drafter.draft(2) == said[:2], "drafting changes nothing"
    for token in said[:2]:
        drafter.observe(token)
    assert drafter.draft(2) == [11, PADDING], "the word goes on as it did"
