"""Whatever a client asks for and sends: it is taken, or refused in one line."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.errors import ProtocolError
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig
from moshi_mlx.web.intake import Intake
from moshi_mlx.wire.query import SETTINGS, read_query
from tests.anything import one_line

odd = st.sampled_from(["1e999", "٣", "1_0", " 5 ", "pcm"])
values = st.one_of(st.text(max_size=8), st.integers().map(str), st.floats().map(str), odd)
names = st.sampled_from([*SETTINGS, "seed", "text_seed", "audio_seed", "max_steps", "audio", "pad_mult"])
sounds = st.lists(st.floats(width=32), max_size=20)


@given(query=st.dictionaries(st.one_of(names, st.text(max_size=6)), values, max_size=6))
def test_any_query_is_within_the_ranges_or_refused(query: dict[str, str]) -> None:
    try:
        asked = read_query(query)
    except ProtocolError as refused:
        one_line(refused)
        return
    sampling = asked.sampling(SamplingConfig())
    for setting in SETTINGS.values():
        assert setting.low <= getattr(sampling, setting.field) <= setting.high
    assert asked.seed is None or 0 <= asked.seed <= MAX_SEED
    assert asked.steps is None or asked.steps >= 1


@given(pieces=st.lists(st.tuples(st.integers(0, 5000), sounds), max_size=6))
def test_any_samples_become_whole_frames_of_sound_in_their_order(pieces: list[tuple[int, list[float]]]) -> None:
    intake = Intake()
    sent = [np.resize(np.array(sound or [0.0], np.float32), count) for count, sound in pieces]
    frames = [frame for second, pcm in enumerate(sent) for frame in intake.add(pcm, float(second))]
    whole = np.concatenate([*sent, np.zeros(0, np.float32)])
    assert len(frames) == len(whole) // 1920
    for index, frame in enumerate(frames):
        assert frame.pcm.shape == (1920,)
        assert np.abs(frame.pcm).max() <= 1
        said = whole[1920 * index : 1920 * (index + 1)]
        fine = np.abs(np.nan_to_num(said, nan=2.0)) <= 1
        np.testing.assert_array_equal(frame.pcm[fine], said[fine])
