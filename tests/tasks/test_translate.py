"""Translation as PyTorch plays Hibiki: its own loop's streams, with conditions and guidance, token for token."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_HIBIKI, write_random_checkpoint
from moshi_mlx.codec.base import StreamsApart
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.config import END_OF_TEXT
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stages import MARK_END
from moshi_mlx.runtime.wordless import NoWords
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.translate import Translation, translate
from tests.golden import Golden, read_golden

FRAMES = 200  # compared token for token


class KnownCodec:
    """A codec, and its stream, that gives known codes in their order for any audio; codes are its audio."""

    name, threaded, codebooks = "known", False, 8

    def __init__(self, codes: np.ndarray) -> None:
        self._codes = iter(codes)

    def stream(self) -> "KnownCodec":
        return self

    def streams(self) -> StreamsApart:
        return StreamsApart(self)

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return next(self._codes).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return codes.astype(np.float32)

    def close(self) -> None: ...

    reset_encoder = reset_decoder = close


class Replies(list[Reply]):
    """A sink."""

    def write(self, reply: Reply) -> None:
        self.append(reply)


@pytest.fixture(scope="module")
def golden() -> Golden:
    golden = read_golden("translate")
    golden.lm.read_text_as(END_OF_TEXT, golden.lm.config.text_padding_id)
    return golden


def played(golden: Golden, name: str) -> tuple[np.ndarray, list[Reply], Translation]:
    """What we make of one of PyTorch's streams: the tokens of every step, the replies, the translation."""
    answers = golden.answers
    condition, guidance, _ = json.loads(str(answers["played"]))[name]
    codec = KnownCodec(answers[f"{name}_codes"])
    moshi = Moshi(golden.lm, codec, NoWords(), GREEDY, conditions={"description": condition}, guidance=guidance)
    session: Any = moshi.session(0)
    replies, sampled, take = Replies(), [], session.take
    session.take = lambda tokens, *rest: (sampled.append(np.array(tokens)), take(tokens, *rest))[1]
    # As many steps as PyTorch took: one more than frames of the source, one for the mark, and those of the tail.
    source = int(answers["source"])
    tail = len(answers[f"{name}_stream"]) - 2 - source
    translation = Translation(np.zeros(source * FRAME_SAMPLES, np.float32), 2, replies, tail * 0.08)
    converse(session, translation, translation)
    return np.array(sampled), replies, translation


@pytest.mark.parametrize("name", ["plain", "neutral", "guided", "ended"])
def test_every_token_is_that_of_pytorch(golden: Golden, name: str) -> None:
    ours, _, _ = played(golden, name)
    theirs = golden.answers[f"{name}_stream"]
    assert len(theirs) > FRAMES
    assert len(set(theirs[:, 0])) >= 10, "a stream that says little shows little"
    wrong = np.flatnonzero((ours[: len(theirs)] != theirs).any(axis=1))
    assert not len(wrong), f"step {wrong[0]} and {len(wrong)} in all"
    assert len(ours) >= len(theirs)


@pytest.mark.parametrize("name", ["plain", "ended"])
def test_a_translation_ends_with_the_frame_with_which_pytorch_ends(golden: Golden, name: str) -> None:
    _, replies, translation = played(golden, name)
    assert translation.ended
    assert sum(reply.audio is not None for reply in replies) == golden.answers[f"{name}_frames"]
    assert translation.early == {"plain": 0, "ended": 1}[name]  # what PyTorch warns of


def test_a_translation_that_does_not_end_is_cut_off(golden: Golden) -> None:
    ours, replies, translation = played(golden, "guided")
    assert not translation.ended
    assert len(replies) == len(ours) == len(golden.answers["guided_stream"])


def test_conditions_and_guidance_change_the_tokens(golden: Golden) -> None:
    plain, neutral, guided = (
        golden.answers[f"{name}_stream"][:FRAMES, 0] for name in ("plain", "neutral", "guided")
    )
    assert (plain != neutral).mean() > 0.5
    assert (plain != guided).mean() > 0.5


def test_nothing_is_said_after_the_end() -> None:
    replies = Replies()
    translation = Translation(np.zeros(3 * FRAME_SAMPLES, np.float32), 2, replies)
    items = list(islice(translation, 6))  # one that is not heard, the source, the mark's name and its frame
    assert [item is MARK_END for item in items] == [False] * 4 + [True, False]
    ids = [3, 3, END_OF_TEXT, 9, END_OF_TEXT, 9, 9]
    for id in ids:
        translation.write(Reply(np.zeros(FRAME_SAMPLES, np.float32), f"<{id}>", 0.0, text_id=id))
    # The frame of the third token is complete with the fifth reply, whose step read the mark.
    assert [reply.text for reply in replies] == ["<3>", "<3>", "<2>", "", ""]
    assert translation.ended
    assert not translation.early
    assert list(translation) == []


def test_an_end_before_that_of_the_source_does_not_count() -> None:
    replies = Replies()
    translation = Translation(np.zeros(3 * FRAME_SAMPLES, np.float32), 2, replies)
    for id in (3, END_OF_TEXT, 9, 9, 9, 9, 9):
        translation.write(Reply(np.zeros(FRAME_SAMPLES, np.float32), "", 0.0, text_id=id))
    assert translation.early == 1
    assert not translation.ended
    assert len(replies) == 7


@pytest.fixture(scope="module")
def hibiki(hibiki_folder: Path) -> Moshi:
    """A small translation model, loaded."""
    return load(hibiki_folder, codec="mlx")


def test_a_recording_becomes_audio_and_words(hibiki: Moshi, noise_frames: np.ndarray) -> None:
    pcm = noise_frames[:20].reshape(-1)
    found = translate(hibiki, pcm, seed=3, tail=1.0)
    again = translate(hibiki, pcm, seed=3, tail=1.0, conditions={"description": "very_good"})
    assert found.seed == 3
    assert found.text == again.text != ""
    assert np.array_equal(found.audio, again.audio)
    if not found.ended:  # cut off: the mark and a second after it, less the two frames that the delay takes
        assert len(found.audio) == (20 + 1 + 13 - 1) * FRAME_SAMPLES
    bad = translate(hibiki, pcm, seed=3, tail=1.0, conditions={"description": "bad"})
    guided = translate(hibiki, pcm, seed=3, tail=1.0, guidance=3.0)
    for changed in (bad, guided):
        assert not np.array_equal(changed.audio, found.audio)


def test_a_model_without_conditions_translates_too(tmp_path: Path, noise_frames: np.ndarray) -> None:
    zero = {key: value for key, value in TINY_HIBIKI.items() if key not in ("conditioners", "fuser")}
    moshi = load(write_random_checkpoint(tmp_path / "zero", zero), codec="mlx")
    found = translate(moshi, noise_frames[:10].reshape(-1), seed=1, tail=0.5)
    assert found.text
    assert len(found.audio) >= 10 * FRAME_SAMPLES
    with pytest.raises(ConfigError, match="guidance of 2 compares two conditions"):
        translate(moshi, noise_frames[0], guidance=2)


def test_only_models_that_translate_do(tiny_moshi: Moshi) -> None:
    with pytest.raises(ConfigError, match="no translation model: translate with one such as hibiki-1b"):
        translate(tiny_moshi, np.zeros(FRAME_SAMPLES, np.float32))


def test_the_tail_is_a_number(hibiki: Moshi) -> None:
    with pytest.raises(ConfigError, match="a tail of nan seconds"):
        translate(hibiki, np.zeros(FRAME_SAMPLES, np.float32), tail=float("nan"))
