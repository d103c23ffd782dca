"""Near and far end side by side: one constant delay between them, through jitter, stops and drift."""

import numpy as np
import pytest

from moshi_mlx.audio.capture import MARGIN, FrameAligner
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

BLOCK = SAMPLE_RATE // 50
SIGNAL = np.arange(1, 40 * SAMPLE_RATE, dtype=np.float32)  # each sample says when it was


def far_delay(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    """How many samples the far end lies behind the near end in each pair; only pairs without silence."""
    assert all(len(near) == len(far) == FRAME_SAMPLES for near, far in pairs)
    delays = []
    for near, far in pairs:
        if far.all():
            assert (np.diff(far) == 1).all()
            delays.append(int(near[0] - far[0]))
    return delays


def feed(aligner: FrameAligner, order: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Callbacks of 20 ms in the given order, n near end, f far end."""
    at = {"n": 0, "f": 0}
    made = []
    empty = np.zeros(0, dtype=np.float32)
    for end in order:
        block = SIGNAL[at[end] : at[end] + BLOCK]
        at[end] += BLOCK
        made += aligner.add(block, empty) if end == "n" else aligner.add(empty, block)
    near = np.concatenate([near for near, _ in made])
    np.testing.assert_array_equal(near, SIGNAL[: len(near)])  # the microphone loses nothing, whatever happens
    return made


def test_the_delay_is_the_same_for_all_frames_though_callbacks_come_in_bursts() -> None:
    aligner = FrameAligner()
    order = "nf" * 40 + "fnnf" * 20 + "ffnn" * 20 + "nnff" * 20
    delays = far_delay(feed(aligner, order))
    assert len(delays) > 35
    assert len(set(delays)) == 1
    assert MARGIN <= delays[0] <= MARGIN + BLOCK
    assert aligner.realignments == 0


def test_without_a_speaker_the_far_end_is_silence_and_frames_keep_coming() -> None:
    made = feed(FrameAligner(), "n" * 100)
    assert len(made) >= 24
    assert not any(far.any() for _, far in made)


def test_a_speaker_that_stops_is_silence_and_aligned_anew_when_it_is_back() -> None:
    aligner = FrameAligner()
    made = feed(aligner, "nf" * 50 + "n" * 50 + "nf" * 50)
    assert not made[22][1].any()
    assert len(made) >= 36
    later = far_delay(made[28:])
    assert len(set(later)) == 1
    assert 50 * BLOCK < later[0] <= 52 * BLOCK  # the far end has lost 50 blocks of time
    assert aligner.realignments > 0


def test_a_microphone_that_stops_is_aligned_with_what_plays_now() -> None:
    aligner = FrameAligner()
    made = feed(aligner, "nf" * 50 + "f" * 30 + "nf" * 100)
    later = far_delay(made[26:])  # noticed after a second
    assert len(set(later)) == 1
    assert abs(later[0] + 30 * BLOCK - MARGIN - BLOCK / 2) <= BLOCK


def test_clocks_that_drift_are_aligned_anew_from_time_to_time() -> None:
    aligner = FrameAligner()
    made = feed(aligner, ("nf" * 99 + "f") * 8)
    delays = far_delay(made)
    true = [-BLOCK * (index * 4 // 99) for index in range(len(delays))]
    assert aligner.realignments > 0
    assert max(abs(delay - now) for delay, now in zip(delays, true, strict=True)) <= 6 * BLOCK


@pytest.mark.parametrize("blocks", range(4, 12))
def test_a_burst_of_the_microphone_after_an_xrun_does_not_leave_the_far_end_late(blocks: int) -> None:
    """The speaker lost that time; the samples of the microphone were kept somewhere and come all at once."""
    aligner = FrameAligner()
    made = feed(aligner, "nf" * 50 + "n" * blocks + "nf" * 150)
    delays = far_delay(made[40:])
    assert len(set(delays)) == 1
    assert abs(delays[0] - blocks * BLOCK - MARGIN - BLOCK / 2) <= BLOCK
