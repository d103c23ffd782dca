"""Delay bookkeeping on plain ints."""

import numpy as np

from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.runtime.delays import DelayLine

CONFIG = LmConfig.from_dict(MOSHI_7B)
FRAMES = 5000  # longer than the peer can talk


def user_codes(step: int) -> np.ndarray:
    return np.arange(8) + 10 * (step % 200)


def made_codes(step: int) -> np.ndarray:
    return np.arange(8) + 10 * (step % 200) + 1


def test_the_users_frame_is_read_at_its_own_step_and_its_delayed_part_one_later() -> None:
    line = DelayLine(CONFIG)
    for step in range(FRAMES):
        tokens = line.inputs(user_codes(step))
        line.accept(step % 32_000, made_codes(step))
        if step == 0:
            assert tokens.tolist() == [32_000] + [2048] * 16
            continue
        assert tokens[0] == (step - 1) % 32_000, "the text sampled at the step before"
        assert tokens[1] == made_codes(step - 1)[0], "the semantic code sampled at the step before"
        assert tokens[9] == user_codes(step)[0], "the user's semantic code of this very step"
        if step == 1:
            assert (tokens[2:9] == 2048).all()
            assert (tokens[10:] == 2048).all(), "what was given at step 0 is never heard"
        else:
            assert (tokens[2:9] == made_codes(step - 1)[1:]).all()
            assert (tokens[10:] == user_codes(step - 1)[1:]).all()


def test_a_frame_is_complete_one_acoustic_delay_after_its_semantic_code() -> None:
    line = DelayLine(CONFIG)
    for step in range(FRAMES):
        line.inputs(user_codes(step))
        codes = line.accept(0, made_codes(step))
        if step < 1:
            assert codes is None
        else:
            assert codes is not None
            assert codes[0] == made_codes(step - 1)[0]
            assert (codes[1:] == made_codes(step)[1:]).all()
