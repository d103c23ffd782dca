"""A speaker alone: all that is written is heard, in order, and no faster than it is heard."""

import threading

import numpy as np
import pytest

from moshi_mlx.audio.jitter import JitterBuffer
from moshi_mlx.audio.player import AHEAD, Player
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.runtime.reply import Reply
from tests.audio.talking import SOME, clear_share, voice
from tests.sound_card import SoundCard


def test_all_is_heard_at_the_pace_of_the_speaker(sound_card: SoundCard) -> None:
    pcm, given, ahead = voice(4.0).reshape(-1, FRAME_SAMPLES), [], []
    with sound_card.listen() as heard, Player("virtspk") as player:
        fill = player._speaker.fill
        player._speaker.fill = lambda block: (fill(block), given.append(block[:, 0].copy()))[0]
        for count, frame in enumerate(pcm, 1):
            player.write(Reply(frame, "", 0.0))
            ahead.append(count * FRAME_SAMPLES - sum(map(np.count_nonzero, given)))
        player.finish()
        assert "speaker: virtspk" in player.describe()
    played = np.concatenate(given)
    assert np.array_equal(played[played != 0], pcm.ravel()), "in order, nothing left out"
    assert AHEAD * FRAME_SAMPLES < max(ahead) < (AHEAD + 8) * FRAME_SAMPLES
    assert clear_share(pcm.ravel(), heard[0]) > SOME


def test_closing_ends_it_for_the_writer_and_whoever_waits(sound_card: SoundCard) -> None:
    player = Player("virtspk")
    waiting = threading.Thread(target=player.finish)
    for frame in voice(2.0).reshape(-1, FRAME_SAMPLES):
        player.write(Reply(frame, "", 0.0))
    waiting.start()
    player.close()
    waiting.join(60)
    assert not waiting.is_alive()
    player.write(Reply(voice(0.08), "", 0.0))  # is not heard
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("moshi-")]


@pytest.mark.parametrize("trims", [True, False])
def test_only_an_answer_gives_up_its_pauses(trims: bool) -> None:
    buffer = JitterBuffer(SAMPLE_RATE, trims=trims)
    out = np.zeros(480, np.float32)
    for frame in 1e-3 * voice(8.0).reshape(-1, FRAME_SAMPLES):  # nothing but a pause
        buffer.write(frame)
        for _ in range(4 if buffer.delay > 0.15 else 3):
            buffer.read_into(out)
    assert (buffer.overrun > 0) == trims
