"""What `nano-stt` learns from: words where `WordStream` will read them, and when they begin."""

from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.models.config import LmConfig
from moshi_mlx.tasks.words import Word, WordStream
from training import augment, stt_text, word_times
from training.stt_codes import CODEBOOKS, Said, Talk
from training.stt_windows import CLASSES, DELAY, HORIZONS, Windows
from training.train_stt import PHONETIC, batch_of, config, neighbours
from training.voices import SAMPLE_RATE, Utterance, Voice

FRAMES = 400


@pytest.fixture(scope="module")
def talk() -> Talk:
    """The first codebook tells which frame of the talk it is."""
    said = [
        Said([("What", 1.0), ("is", 1.21), ("two", 1.33), ("plus", 1.62), ("two?", 1.93)], 0.98, 2.3),
        Said([("Stop.", 3.5)], 3.48, 3.9),
    ]
    codes = np.tile(np.arange(100), (CODEBOOKS, 1)).astype(np.int16)
    return Talk("espeak:en-us", said, codes)


def test_words_are_read_at_the_times_at_which_they_are_said(talk: Talk, tmp_path: Path) -> None:
    window = Windows([talk]).window(np.random.default_rng(3), FRAMES)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(stt_text.tokenizer_model())
    found = LmConfig.from_dict(config())
    tokenizer = TextTokenizer(path, silent=(found.text_padding_id, found.text_end_padding_id))
    words = WordStream(tokenizer, found, 0.0, DELAY * 0.08)
    events = [event for token in window.text.tolist() for event in words.push(token) if isinstance(event, Word)]
    assert len(events) > 12
    onsets: dict[str, list[float]] = {}
    for word, onset in (pair for said in talk.said for pair in said.words):
        onsets.setdefault(stt_text.spelled(word)[0], []).append(onset)
    for event in events:
        frame = window.codes[0, min(FRAMES - 1, round(event.start / 0.08))]
        assert min(abs(onset - 0.08 * frame) for onset in onsets[event.text]) <= 0.13, event


def test_heads_expect_silence_once_somebody_has_ended(talk: Talk) -> None:
    window = Windows([talk]).window(np.random.default_rng(0), FRAMES)
    assert window.activity.shape == (len(HORIZONS), FRAMES)
    assert window.activity.max() == CLASSES - 1
    frames = window.codes[0]
    spoken = ((frames >= 13) & (frames < 27)) | ((frames >= 44) & (frames < 48))
    assert (window.activity[:, (frames >= 31) & (frames < 42)] == 0).all()
    assert (window.activity[:, spoken] > 0).mean() > 0.9
    assert (np.diff(window.activity, axis=0) <= 0).all(), "the further, the smaller the share"


def test_a_batch_reads_less_than_it_is_to_write(talk: Talk) -> None:
    windows = [Windows([talk]).window(np.random.default_rng(seed), 100) for seed in range(8)]
    found = LmConfig.from_dict(config())
    batch = batch_of(windows, neighbours(), found, np.random.default_rng(1))
    assert batch.targets is not None
    read = batch.tokens[:, 0, 1:]
    assert (batch.targets[:, 0] == np.stack([window.text for window in windows])).all()
    assert 0 < (read != batch.targets[:, 0]).mean() < 0.1
    assert batch.tokens[:, 1:].min() == -1
    assert batch.tokens[:, 1:].max() <= found.card
    np.testing.assert_allclose([batch.weights[:, :1].sum(), batch.weights[:, 1:].sum()], 1, rtol=1e-5)


def test_a_code_is_no_neighbour_of_itself() -> None:
    near = neighbours()
    assert near.shape == (PHONETIC, 512, 8)
    assert not (near == np.arange(512)[:, None]).any()


def test_every_word_is_one_piece_and_names_keep_their_capital() -> None:
    assert stt_text.spelled("Yes, I like Paris.") == ["yes", "I", "like", "Paris"]
    assert len(stt_text.token_ids()) == len(stt_text.vocabulary())
    rng = np.random.default_rng(0)
    said = [stt_text.spelled(stt_text.sentence(rng)) for _ in range(300)]
    assert {word for words in said for word in words} <= set(stt_text.vocabulary())


def test_words_that_espeak_joins_begin_between_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ((0, 0.1), (2, 0.3), (11, 0.9))
    utterance = Utterance(np.zeros(SAMPLE_RATE, np.float32), np.zeros(100, np.uint8), told)
    monkeypatch.setattr(word_times, "speak", lambda *arguments: utterance)
    spoken = word_times.timed(Voice("espeak", "en-us"), "I am fine, thank you")
    np.testing.assert_allclose(spoken.onsets, [0.1, 0.3, 0.6, 0.9, 0.95])


def test_an_impulse_response_is_convolved_whatever_the_lengths() -> None:
    rng = np.random.default_rng(3)
    for length, response in ((4_799, 2), (4_801, 997), (9_000, 5_000)):
        pcm, answer = rng.standard_normal(length), rng.standard_normal(response)
        heard = augment.through(pcm, answer)
        np.testing.assert_allclose(heard, np.convolve(pcm, answer)[:length], atol=1e-9)


def test_a_room_answers_after_the_sound() -> None:
    pcm = np.zeros(SAMPLE_RATE, np.float32)
    pcm[1000] = 1
    near, far = (augment.in_room(np.random.default_rng(0), pcm, (level, level)) for level in (-10, 10))
    for heard, level in ((near, -10), (far, 10)):
        assert np.abs(heard[:1000]).max() < 1e-5
        assert float((heard**2).sum()) == pytest.approx(1, rel=1e-3), "as loud as the sound"
        assert 10 * np.log10((heard[1001:] ** 2).sum() / heard[1000] ** 2) == pytest.approx(level, abs=1.5)
    heard = near
    energy = [float((heard[start : start + 1200] ** 2).sum()) for start in (1080, 3000, 10_000)]
    assert energy[0] > energy[1] > energy[2]
