"""The cushion before the speaker: grows when replies are late, shrinks when they are not, within its bounds."""

import numpy as np
import pytest

from moshi_mlx.audio.jitter import JitterBuffer
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

BLOCK = SAMPLE_RATE // 50  # 20 ms
TONE = 0.5 + 0.25 * np.sin(np.arange(FRAME_SAMPLES) / 9).astype(np.float32)  # never zero, so gaps can be seen
PAUSE = np.full(FRAME_SAMPLES, 1e-4, dtype=np.float32)  # a pause of the voice, still no zeros


def play(buffer: JitterBuffer, late: list[float], frame: np.ndarray = TONE, block: int = BLOCK) -> np.ndarray:
    """Write one frame every 80 ms, the n-th `late[n]` seconds after its time; returns all that was played."""
    times = [round((0.08 * n + seconds) * SAMPLE_RATE) for n, seconds in enumerate(late)]
    played = []
    clock = 0
    while clock < 0.08 * len(late) * SAMPLE_RATE:
        while times and times[0] <= clock:
            buffer.write(frame)
            times.pop(0)
        played.append(np.empty(block, dtype=np.float32))
        buffer.read_into(played[-1])
        clock += block
    return np.concatenate(played)


def test_replies_in_time_play_without_a_gap_after_the_first_cushion() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    played = play(buffer, [0.0] * 100)
    assert not played[: 2 * BLOCK].any()  # 40 ms
    np.testing.assert_array_equal(played[2 * BLOCK :], np.tile(TONE, 100)[: len(played) - 2 * BLOCK])
    assert buffer.underruns == 0
    assert buffer.overrun == 0


def test_a_late_reply_is_an_underrun_and_shifts_what_follows() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    played = play(buffer, [0.0, 0.0, 0.11] * 60)  # every third 110 ms late
    assert buffer.underruns == 1
    assert buffer.cushion == 3 * BLOCK
    assert played[len(played) // 8 :].all()


def test_the_cushion_grows_until_it_suffices_and_what_is_beyond_goes_in_pauses() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    late = [0.0, 0.0, 0.11]
    play(buffer, late * 200, PAUSE)
    assert buffer.underruns >= 4  # from 40 ms up
    assert 6 * BLOCK <= buffer.cushion <= 7 * BLOCK
    underruns = buffer.underruns
    play(buffer, late * 100, PAUSE)
    assert buffer.underruns <= underruns + 1  # it may have tried one step less


def test_the_cushion_has_bounds() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    play(buffer, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6] * 60)
    assert buffer.cushion == 16 * BLOCK
    buffer.limit(0.06)
    play(buffer, [0.0, 0.3, 0.0] * 20)
    assert buffer.cushion == 3 * BLOCK
    buffer.limit(-1)
    play(buffer, [0.0, 0.3, 0.0] * 20)
    assert buffer.cushion == BLOCK


def test_a_calm_while_makes_the_cushion_shrink_but_not_below_20_ms() -> None:
    buffer = JitterBuffer(SAMPLE_RATE, cushion=0.2)
    played = play(buffer, [0.0] * 400, PAUSE)  # 32 s
    assert buffer.cushion == 7 * BLOCK  # 200 ms, less 20 every ten seconds
    play(buffer, [0.0] * 1500, PAUSE)
    assert buffer.cushion == BLOCK
    assert played[10 * BLOCK :].all()
    assert buffer.underruns == 0
    assert buffer.delay < 0.12


def test_speech_is_not_cut_to_make_the_cushion_shrink() -> None:
    buffer = JitterBuffer(SAMPLE_RATE, cushion=0.2)
    played = play(buffer, [0.0] * 400)
    np.testing.assert_array_equal(played[10 * BLOCK :], np.tile(TONE, 400)[: len(played) - 10 * BLOCK])


def test_too_much_audio_loses_its_oldest_and_is_counted() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    for number in range(12):  # 960 ms at once
        buffer.write(np.full(FRAME_SAMPLES, 1 + number, dtype=np.float32))
    out = np.empty(40 * BLOCK, dtype=np.float32)
    buffer.read_into(out)
    assert not out[: 2 * BLOCK].any()
    heard = out[2 * BLOCK :]
    assert buffer.overrun == 12 * FRAME_SAMPLES - (FRAME_SAMPLES + 2 * BLOCK)
    assert heard[0] == 11  # 40 ms of the last but one, then the last
    assert (heard == 12).sum() == FRAME_SAMPLES


def test_silence_of_half_a_second_is_an_interruption_and_no_underrun() -> None:
    buffer = JitterBuffer(SAMPLE_RATE)
    play(buffer, [0.0] * 5)
    play(buffer, [0.7])  # nothing within these 80 ms, nor the next 600
    buffer.read_into(np.empty(SAMPLE_RATE, dtype=np.float32))
    play(buffer, [0.0] * 5)
    assert buffer.underruns == 0


@pytest.mark.parametrize("block", [1, 333, 480, 1111, 4096])
def test_any_block_size_plays_the_same_audio(block: int) -> None:
    buffer = JitterBuffer(SAMPLE_RATE, cushion=0.3)
    played = play(buffer, [0.0] * 20, block=block)
    played = np.trim_zeros(played, "f")
    np.testing.assert_array_equal(played, np.tile(TONE, 20)[: len(played)])
    assert len(played) > 15 * FRAME_SAMPLES


def test_a_surplus_is_left_out_once() -> None:
    """Three frames too many, heard of while the voice spoke and left out when it paused."""
    buffer = JitterBuffer(SAMPLE_RATE)
    buffer.write(TONE)
    for _ in range(3):
        buffer.write(TONE)
    play(buffer, [0.0] * 45)
    play(buffer, [0.0] * 100, PAUSE)
    assert buffer.overrun == pytest.approx(4 * FRAME_SAMPLES, abs=BLOCK)
    assert buffer.underruns == 0
