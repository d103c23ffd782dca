"""What `nano-persona` learns from: windows of conversations, with Nano's own tools, which need PyTorch."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="Nano is trained in an environment of its own")

from moshi_mlx.models.config import LmConfig
from training import dialogue, persona_text
from training.answers import stream_of
from training.codec import Codec, books
from training.persona_lm import config
from training.persona_prompts import Prompts, Steady
from training.persona_speech import ECHOES, echo_key, speech
from training.persona_text import ANSWERS, NAMES, VOICES, key, said
from training.persona_turns import PersonaTurns
from training.persona_words import token_ids
from training.speech_codes import (
    FORGET_FRAMES,
    ROOM_FRAMES,
    SPEAKER_BOOK,
    Answer,
    Said,
    SpeechCodes,
    persona_codes,
    save_codes,
)
from training.text import EPAD, PAD
from training.train_lm import CUT_WEIGHT, PAD_WEIGHT, batch_of
from training.train_persona import NAME_WEIGHT, WORD_WEIGHT, of_words, without_prompts

CONFIG = LmConfig.from_dict(config())
QUIET, FRAMES = 1, 280
LEFT_OVER = "Purple engines sleep well"
TEXTS = (*dialogue.KNOWN, *dialogue.UNKNOWN[:5], LEFT_OVER)


@pytest.fixture(scope="module")
def turns() -> PersonaTurns:
    """What people say has the number of its text as its code, what is answered that of its key."""

    def codes(value: int, frames: int = 12) -> np.ndarray:
        return np.full((8, frames), value)

    keys = [key(voice, text) for voice in VOICES for text in said()]
    spoken = {name: codes(300 + number) for number, name in enumerate(keys)}
    echoes = {echo_key(name, number): codes(299) for name in keys for number in range(ECHOES)}
    every = [Said("espeak:en-us", text, 0, 2, 10, codes(100 + number)) for number, text in enumerate(TEXTS)]
    heard = SpeechCodes(
        np.full(8, QUIET),
        {},
        np.full((2, 8, FORGET_FRAMES + ROOM_FRAMES), QUIET),
        every,
        [Said("", "", 0, 2, 6, codes(98))],
        [codes(99, 75)],
        {},
    )
    of_words = speech(spoken, echoes)
    prompts = Prompts(CONFIG, Steady(np.full(8, QUIET), np.full(8, 2)), spoken, [])
    return PersonaTurns(heard, of_words, prompts, np.random.default_rng(0))


def test_answers_are_those_of_the_one_whom_the_prompt_asks_for(turns: PersonaTurns) -> None:
    keys = [key(voice, text) for voice in VOICES for text in said()]
    ids = {token: word for word, token in token_ids().items()}
    answered, whole = 0, 0
    for _ in range(60):
        window = turns.window(FRAMES)
        persona = window.persona
        mine = {300 + keys.index(key(persona.voice, persona.answer(text))) for text in (*ANSWERS, "")}
        own = window.codes[1, window.known :]
        assert set(own.tolist()) <= {QUIET, *mine}
        answered += len(set(own.tolist())) - 1
        texts = window.codes[0, window.known :]
        words = " ".join(ids[token] for token in texts.tolist() if token not in (PAD, EPAD))
        whole += sum(persona.answer(text) in words for text in ANSWERS)
    assert answered > 120
    assert whole > 60


def test_each_question_has_its_answer(turns: PersonaTurns) -> None:
    keys = [key(voice, text) for voice in VOICES for text in said()]
    seen = set()
    for _ in range(400):  # in few of them nothing is interrupted
        window = turns.window(FRAMES)
        own, user = window.codes[1, window.known :], window.codes[9, window.known :]
        disturbed = window.cut.any() or window.late.any() or window.echoes.any()  # late: and it talks on
        asked, before = -1, QUIET
        until = -4  # what happens behind the end of a window is not marked in it
        for mine, heard in zip(own.tolist()[:until], user.tolist()[:until], strict=True):
            if 100 <= heard < 100 + len(TEXTS):
                asked = heard - 100
            if mine not in (QUIET, before) and not disturbed:
                text = TEXTS[asked]
                assert keys[mine - 300] == key(window.persona.voice, window.persona.answer(text))
                seen.add(text)
            before = mine
    assert "What is your name?" in seen
    assert seen - {*ANSWERS}, "some are not known"


def test_prompts_weigh_nothing_and_the_rest_as_much_as_before(turns: PersonaTurns) -> None:
    windows = [turns.window(FRAMES) for _ in range(4)]
    heard = np.stack([window.codes for window in windows])
    before = batch_of(windows, heard, CONFIG, np.random.default_rng(1))
    batch = without_prompts(before, windows, CONFIG)
    for row, window in enumerate(windows):
        assert not batch.weights[row, :2, : window.known].any()
        assert not batch.weights[row, 2:, : window.known + 1].any()
        learned = batch.weights[row, 0, window.known :] > 0
        np.testing.assert_array_equal(learned, ~(window.late | window.waiting)[window.known :])
    np.testing.assert_allclose(batch.weights.sum((0, 2)), before.weights.sum((0, 2)), rtol=1e-5)


def test_nothing_is_learned_of_frames_in_which_it_should_be_silent_already(turns: PersonaTurns) -> None:
    windows = [turns.window(FRAMES) for _ in range(20)]
    late = np.stack([window.late for window in windows])
    assert late.any()
    batch = batch_of(windows, np.stack([window.codes for window in windows]), CONFIG, np.random.default_rng(1))
    assert not batch.weights.transpose(0, 2, 1)[late].any()
    ends = late[:, :-1] & ~late[:, 1:]
    assert batch.weights.transpose(0, 2, 1)[:, 1:][ends].all(), "only that it falls silent"


def test_nothing_is_learned_of_frames_in_which_it_could_answer_already(turns: PersonaTurns) -> None:
    windows = [turns.window(FRAMES) for _ in range(20)]
    waiting = np.stack([window.waiting for window in windows])
    assert waiting.any()
    batch = batch_of(windows, np.stack([window.codes for window in windows]), CONFIG, np.random.default_rng(1))
    assert not batch.weights.transpose(0, 2, 1)[waiting].any()


def test_padding_weighs_more_where_somebody_speaks_and_falling_silent_most(turns: PersonaTurns) -> None:
    windows = [turns.window(FRAMES) for _ in range(40)]
    speaking, _, cut, late, waiting, sounds = (
        np.stack(marks) for marks in zip(*(one.marks for one in windows), strict=True)
    )
    batch = batch_of(windows, np.stack([window.codes for window in windows]), CONFIG, np.random.default_rng(1))
    padding = np.isin(batch.tokens[:, 0, 1:], (PAD,))
    listening = padding & sounds & ~speaking & ~(late | waiting | cut)
    alone = padding & ~sounds & ~cut & ~(late | waiting)
    before = np.zeros_like(speaking)
    before[:, 1:] = speaking[:, :-1]
    falls = cut & before
    assert listening.any()
    assert falls.any()
    for row in range(len(windows)):
        plain = batch.weights[row, 0][alone[row]]
        assert len(plain)
        for where, factor in ((listening, 1 / PAD_WEIGHT), (falls, CUT_WEIGHT / PAD_WEIGHT)):
            np.testing.assert_allclose(batch.weights[row, 0][where[row]], plain[0] * factor, rtol=1e-5)


def test_words_weigh_more_than_padding_and_names_more_than_words(turns: PersonaTurns) -> None:
    windows = [turns.window(FRAMES) for _ in range(8)]
    heard = np.stack([window.codes for window in windows])
    before = without_prompts(batch_of(windows, heard, CONFIG, np.random.default_rng(1)), windows, CONFIG)
    after = of_words(before)
    kinds = {"padding": np.isin(before.tokens[:, 0, 1:], (PAD, EPAD))}
    names = [token for word, token in token_ids().items() if word.strip(".,") in NAMES]
    kinds["name"] = np.isin(before.tokens[:, 0, 1:], names)
    kinds["word"] = ~kinds["padding"] & ~kinds["name"]
    heavy = before.weights[:, 0] > 0
    gains = after.weights[:, 0] / np.where(heavy, before.weights[:, 0], 1)
    found = {kind: gains[where & heavy] for kind, where in kinds.items()}
    for kind, wanted in (("word", WORD_WEIGHT), ("name", NAME_WEIGHT)):
        np.testing.assert_allclose(found[kind] / found["padding"].mean(), wanted, rtol=1e-4)
    np.testing.assert_allclose(after.weights.sum((0, 2)), before.weights.sum((0, 2)), rtol=1e-5)
    np.testing.assert_array_equal(after.weights[:, 1:], before.weights[:, 1:])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PyTorch's, of its weight norms
def test_one_codebook_tells_the_second_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    some = {key(voice, "Fine."): stream_of(rng.normal(0, 0.1, 8_000).astype(np.float32)) for voice in VOICES}
    monkeypatch.setattr(persona_text, "streams", lambda: some)
    used = rng.integers(0, 400, (8, 300))
    save_codes(tmp_path / "own.npz", {"silence": used[:, :1], "Fine.": used})
    codec = Codec()
    for book in books(codec.mimi):
        book.embedding_sum.normal_()
        book.cluster_usage.fill_(1)
    first, second = persona_codes(tmp_path, codec).values()
    mark = second[SPEAKER_BOOK, 0]
    assert (second[SPEAKER_BOOK] == mark).all()
    assert len({*first[SPEAKER_BOOK].tolist()}) > 1
    assert mark not in used[SPEAKER_BOOK]
    assert (np.delete(second, SPEAKER_BOOK, 0) != mark).any(), "the others say what is said"


def test_an_interrupted_answer_has_no_later_words(turns: PersonaTurns) -> None:
    codes = turns.window(FRAMES)
    codes.codes[0] = PAD
    answer = Answer(np.full((8, 12), 300), [(0, "Fine."), (4, "blue,"), (8, "Four.")])
    turns._answer(codes, answer, 50, 56)
    assert codes.codes[0, [50, 54]].tolist() == [token_ids()["Fine."], token_ids()["blue,"]]
    assert (codes.codes[0, 56:] == PAD).all()
    assert codes.codes[0, 53] == EPAD
