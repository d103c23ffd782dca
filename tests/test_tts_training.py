"""What `nano-tts` learns from: a text as `Feeder` will feed it, ahead of its sound."""

from itertools import pairwise

import numpy as np
import pytest

from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.config import LmConfig
from moshi_mlx.tasks.script import Feeder, Word
from training import stt_text, tts_speech, tts_text
from training.text import EPAD, PAD
from training.train_tts import HIDDEN_SHARE, SETTINGS, batch_of, config
from training.tts_windows import DELAY, MOST, Window, Windows
from training.voices import Utterance

FRAMES = 300


def words(silence: int, code: int | None = None) -> tts_speech.Words:
    """A word sounds as many frames as it has letters, and each mark two; its codes count these, or are `code`."""
    lengths = {name: len(name) + sum(not letter.isalnum() for letter in name) for name in tts_speech.names()}
    return tts_speech.Words(
        {
            name: np.full((8, length), code) if code is not None else np.tile(np.arange(length), (8, 1))
            for name, length in lengths.items()
        },
        {name: np.zeros(length * FRAME_SAMPLES, np.float32) for name, length in lengths.items()},
        np.full(8, silence),
    )


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    made = Windows(words(silence=100))
    return [made.window(np.random.default_rng(seed), FRAMES) for seed in range(20)]


def asks(window: Window) -> np.ndarray:
    return np.flatnonzero((window.codes[0] == EPAD) & window.asked)


def test_every_word_is_one_token_whatever_its_case_and_marks_are_their_own() -> None:
    ids = tts_text.token_ids()
    assert len(set(ids.values())) == len(tts_text.vocabulary()) == len(stt_text.vocabulary()) + 3
    paris, full_stop = ids["paris"], ids["."]
    assert tts_text.tokens_of("Paris PARIS. paris! Paris?") == [
        [paris], [paris, full_stop], [paris, full_stop], [paris, ids["?"]],
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    said = [token for _ in range(300) for word in tts_text.tokens_of(tts_text.sentence(rng)) for token in word]
    assert set(said) <= set(ids.values())


def test_a_sentence_is_put_together_word_by_word() -> None:
    found = words(silence=100).sentence("Yes, I like Paris!")
    assert [part.shape[1] for part in found.parts] == [5, 1, 4, 7]
    assert found.codes[0].tolist() == [*range(5), *range(1), *range(4), *range(7)]
    assert len(found.pcm) == 17 * FRAME_SAMPLES


def test_a_word_that_goes_on_is_cut_where_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def speak(voice: object, text: str) -> Utterance:
        said.append(text)
        return Utterance(np.full(24_000, 0.5, np.float32), np.zeros(100, np.uint8))

    monkeypatch.setattr(tts_speech, "speak", speak)
    monkeypatch.setattr(tts_speech, "word_onsets", lambda text, name: [0.0, 0.4])
    lengths = [len(tts_speech.spoken(name)) / FRAME_SAMPLES for name in ("milk", "milk,", "milk.", "milk?")]
    assert said == ["milk and", "milk, and", "milk.", "milk?"]
    assert lengths == [5, 5, 13, 13]


def test_a_text_is_read_as_it_will_be_fed(windows: list[Window]) -> None:
    """A model that asks for words where these windows do reads what they hold, token for token."""
    for window in windows:
        text, asked = window.codes[0].tolist(), asks(window).tolist()
        feeder = Feeder(config()["text_card"] + 1, most=MOST, first=asked[0], word=EPAD, pad=PAD)
        for one, other in pairwise([*asked, FRAMES]):
            tokens = [token for token in text[one + 1 : other] if token != PAD]
            feeder.words.append(Word("word", tuple(tokens), len(tokens)))
        feeder.complete = True
        fed = [feeder.step(step, token if window.asked[step] else PAD) for step, token in enumerate(text)]
        assert fed[: asked[-1]] == text[: asked[-1]]


def test_a_sound_comes_after_its_words(windows: list[Window]) -> None:
    waits = []
    for window in windows:
        assert (window.codes[1:, :DELAY] == -1).all()
        begins, asked = np.flatnonzero(window.codes[1] == 0), asks(window)
        assert len(begins) > 20
        waits += (begins - asked[: len(begins)]).tolist()
        assert (np.diff(asked) <= 1 + MOST).all(), "as long as a model may wait"
    assert min(waits) == 1 + DELAY, "no word sounds before it is read"
    assert np.mean(np.array(waits) == 1 + DELAY) > 0.9, "nor, but for long ones, later"


def test_nothing_is_learned_of_words_that_are_fed_of_hidden_texts_and_of_wrong_codes() -> None:
    found = LmConfig.from_dict(config())
    made = Windows(words(silence=500, code=500))
    hidden = 0
    for seed in range(10):
        batch = batch_of(made, SETTINGS, found, np.random.default_rng(seed))
        assert batch.frames is not None
        np.testing.assert_allclose(batch.weights[:, 0].sum(), 1, rtol=1e-5)
        np.testing.assert_allclose(batch.weights[:, 2:].sum(), 1, rtol=1e-5)
        text, codes = batch.tokens[:, 0, 1:], batch.tokens[:, 1:, 1:]
        without = (text == -1).all(1)
        hidden += int(without.sum())
        assert (batch.weights[without, 0] == 0).all()
        assert not batch.weights[:, 0][~np.isin(text, (EPAD, PAD))].any()
        learned = batch.weights[:, 1:] > 0
        assert (codes[learned] == 500).all()
        assert 0.005 < np.isin(codes, (-1, 500, 512), invert=True).mean() < 0.06, "wrong ones"
        frames = np.zeros(text.shape, bool)
        np.put_along_axis(frames, batch.frames, True, 1)
        assert not (learned & ~frames[:, None]).any()
    assert 0.3 * HIDDEN_SHARE < hidden / (10 * SETTINGS.batch) < 3 * HIDDEN_SHARE
