"""Conversations for judging, and reading them again, against sessions and single steps."""

from collections.abc import Mapping

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.codec.base import CodecStream, Finish
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality import predictions
from moshi_mlx.quality.conversations import Conversation, hear, hear_together, talk
from moshi_mlx.quality.predictions import predict
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY, SamplingConfig


@pytest.fixture(scope="module")
def lm() -> Lm:
    mx.random.seed(0)
    lm = Lm(LmConfig.from_dict({**TINY, "num_heads": 2, "context": 20}))  # heads wide enough for an int8 window
    mx.eval(lm.parameters())
    return lm


@pytest.fixture(scope="module")
def conversation(lm: Lm) -> Conversation:
    return talk(lm, [np.random.RandomState(0).randint(0, 64, (45, 8)).astype(np.int32)], GREEDY)[0]


def test_it_is_the_conversation_of_a_session(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames, sampling = noise_frames[:20], SamplingConfig()
    with tiny_moshi.session(seed=5, sampling=sampling) as session:
        generated = [session.generate(session.encode(frame)) for frame in frames]
    heard = hear(tiny_moshi.codec, tiny_moshi.lm.config, frames)
    found = talk(tiny_moshi.lm, [heard], sampling, seed=5)[0]
    assert found.said[:, 0].tolist() == [one.text_id for one in generated]
    codes = [one.codes for one in generated if one.codes is not None]
    np.testing.assert_array_equal(found.said[:19, 1], np.stack(codes)[:, 0])  # the semantic one has no delay
    np.testing.assert_array_equal(found.said[1:, 2:], np.stack(codes)[:, 1:])


def test_conversations_of_different_lengths_do_not_disturb_each_other(lm: Lm) -> None:
    heard = [np.random.RandomState(seed).randint(0, 64, (length, 8)) for seed, length in ((1, 9), (2, 14))]
    together, alone = talk(lm, heard, GREEDY), [talk(lm, [one], GREEDY)[0] for one in heard]
    for both, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(both.said, one.said)


def test_recordings_that_are_heard_together_have_the_codes_that_each_has_alone(
    tiny_moshi: Moshi, noise_frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = [noise_frames[:5], noise_frames[5:14], noise_frames[20:21]]
    codec, config, taken = tiny_moshi.codec, tiny_moshi.lm.config, []
    alone = [hear(codec, config, frames) for frames in recordings]

    streams = codec.streams()
    encode = streams.encode

    def counted(frames: Mapping[CodecStream, np.ndarray]) -> Finish:
        taken.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(streams, "encode", counted)
    monkeypatch.setattr(codec, "streams", lambda: streams)
    done: list[int] = []
    together = hear_together(codec, config, recordings, done.append)
    for both, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(both, one)
    assert taken == [2] * 4 + [1] * 4
    assert sum(done) == 15


def test_groups_of_conversations_are_those_of_all_at_once(lm: Lm) -> None:
    heard = [np.random.RandomState(seed).randint(0, 64, (6 + seed, 8)) for seed in range(3)]
    groups = [talk(lm, heard, SamplingConfig(), seed=9, batch=size) for size in (1, 2, 3)]
    for found in zip(*groups, strict=True):
        for one in found[1:]:
            np.testing.assert_array_equal(one.said, found[0].said)


def test_steps_are_counted_as_they_are_done(lm: Lm) -> None:
    done: list[int] = []
    talk(lm, [np.zeros((3, 8), int), np.zeros((5, 8), int)], GREEDY, advance=done.append)
    assert sum(done) == 8


def test_what_is_expected_is_what_was_drawn(lm: Lm, conversation: Conversation) -> None:
    """Greedy draws are the likeliest tokens: so a stream or a step read beside its place would show."""
    found = np.concatenate(
        [np.stack([log.argmax(-1) for log in one.logs], 1) for one in predict(lm, conversation)]
    )
    np.testing.assert_array_equal(found, conversation.said)
    assert len(np.unique(found)) > 10


def test_log_probabilities_are_whole(lm: Lm, conversation: Conversation) -> None:
    for log in next(iter(predict(lm, conversation))).logs:
        np.testing.assert_allclose(np.exp(log.astype(np.float64)).sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("kv_bits", [None, 8])
def test_a_stretch_at_a_time_is_what_single_steps_give(
    lm: Lm, conversation: Conversation, kv_bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window (20) fills and wraps within; in int8 every key must be read back from there."""
    monkeypatch.setattr(predictions, "POSITIONS", 16)
    hidden = np.concatenate([one.hidden for one in predict(lm, conversation, kv_bits)])
    tokens, state = mx.array(conversation.tokens(lm.config)[None]), lm.new_state(1, kv_bits)
    steps = [lm.temporal(tokens[:, :, step : step + 1], state)[0] for step in range(len(conversation))]
    np.testing.assert_allclose(hidden, np.array(mx.concatenate(steps)), atol=2e-5)


def test_an_int8_window_shows(lm: Lm, conversation: Conversation) -> None:
    dense, int8 = (next(iter(predict(lm, conversation, bits))).hidden for bits in (None, 8))
    assert 1e-4 < np.abs(dense - int8).max() < 0.1


def test_known_hidden_states_are_used(lm: Lm, conversation: Conversation) -> None:
    whole = list(predict(lm, conversation))
    again = list(predict(lm, conversation, hidden=[one.hidden for one in whole]))
    for one, other in zip(whole, again, strict=True):
        for ours, theirs in zip(one.logs, other.logs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    nothing = list(predict(lm, conversation, hidden=[0 * one.hidden for one in whole]))
    assert np.ptp(nothing[0].logs[0]) < 1e-6  # all text equally likely: the temporal transformer did not run
