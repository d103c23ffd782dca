"""What the benchmark's scripts cannot judge for us: single rules, and where Silero's file comes from."""

import math
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.errors import AudioFileError, ConfigError, DataError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.quality.behaviour import voice
from moshi_mlx.quality.behaviour.answer import (
    at_16_khz,
    ended_by_voice,
    read_answer,
    read_words,
    transcript,
    write_answer,
)
from moshi_mlx.quality.behaviour.backchannel import backchannels, jensen_shannon
from moshi_mlx.quality.behaviour.scene import Scene
from moshi_mlx.quality.behaviour.takeover import takes_over, words_after, words_per_minute
from moshi_mlx.quality.behaviour.timing import joined, length
from moshi_mlx.quality.behaviour.voice import find_model, speech_segments
from moshi_mlx.tasks.words import Word


def test_the_distance_of_histograms_is_that_of_the_definition() -> None:
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == pytest.approx(math.sqrt(math.log(2)))
    assert jensen_shannon(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == 0


def test_speech_rate_is_of_the_time_from_the_first_word_to_the_last() -> None:
    words = [Word("one", 1.0, 1.5), Word("two", 3.0, 4.0)]
    assert words_per_minute(words) == 40
    assert math.isnan(words_per_minute([]))
    assert words_after(words, 1.0) == words
    assert words_after(words, 1.01) == words[1:]
    assert length([(0.5, 1.0), (2.0, 4.0)]) == 2.5


def test_a_word_ends_where_its_voice_falls_silent() -> None:
    pcm = np.zeros(25 * FRAME_SAMPLES, np.float32)
    pcm[5 * FRAME_SAMPLES : 8 * FRAME_SAMPLES] = 0.1
    words = [Word("heard", 0.4, 1.4), Word("not", 1.6, 2.0)]
    assert [word.end for word in ended_by_voice(words, pcm)] == pytest.approx([0.64, 1.68])
    assert ended_by_voice([Word("heard", 0.4, 0.5)], pcm) == [Word("heard", 0.4, 0.5)]


def test_output_has_of_an_interruption_only_what_follows_it() -> None:
    words = [Word("before", 0.5, 1.0), Word("across", 1.4, 1.8), Word("after", 1.5, 2.0)]
    after = transcript(Scene("user_interruption", "1", interruption=(1.0, 1.5)), words)
    assert after == {"text": "after", "chunks": [{"text": "after", "timestamp": [1.5, 2.0]}]}
    assert len(transcript(Scene("silence", "1"), words)["chunks"]) == 3


def test_an_answer_is_read_as_it_was_written(tmp_path: Path) -> None:
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24_001) / 24_000)).astype(np.float32)
    write_answer(Scene("silence", "1"), tmp_path, tone, [Word("la", 0.25, 0.5)])
    answer = read_answer(tmp_path)
    assert (answer.words, answer.note) == ((Word("la", 0.25, 0.5),), "")
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_001) / 16_000)
    assert len(answer.pcm) == len(at_16_khz(tone)) == 16_001
    np.testing.assert_allclose(answer.pcm[200:-200], expected[200:-200], atol=1e-3)


def test_an_answer_of_another_rate_says_so(tmp_path: Path) -> None:
    from moshi_mlx.audio.writer import AudioWriter

    write_answer(Scene("silence", "1"), tmp_path, np.zeros(24_000, np.float32), [])
    with AudioWriter(tmp_path / "output.wav") as file:
        file.write(np.zeros(24_000, np.float32))
    answer = read_answer(tmp_path)
    assert answer.seconds == 1
    assert "24000 Hz" in answer.note


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": ""}', "chunks is None"),
        ('{"chunks": [{"text": "a", "timestamp": [1]}]}', "text and timestamp"),
        ('{"chunks": [{"text": "a", "timestamp": ["1", 2]}]}', "text and timestamp"),
        ('{"chunks": ["a"]}', "text and timestamp"),
        ("[]", "is not a JSON object"),
    ],
)
def test_words_that_cannot_be_read_are_named(content: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="does not exist"):
        read_answer(tmp_path)
    write_answer(Scene("silence", "1"), tmp_path, np.zeros(24_000, np.float32), [])
    (tmp_path / "output.json").write_text(content)
    with pytest.raises(DataError, match=says):
        read_answer(tmp_path)


def test_speech_of_a_quarter_of_a_second_is_none() -> None:
    def segments(windows: int) -> list[tuple[int, int]]:
        return speech_segments([0.0] * 4 + [0.9] * windows + [0.0] * 10, 512 * (14 + windows))

    assert segments(7) == []
    assert segments(8) == [(4 * 512 - 480, 12 * 512 + 480)]


def test_nothing_said_takes_no_turn() -> None:
    found = backchannels([], [], 10.0)
    assert (found.takeover, found.frequency(10.0), found.divergence([1.0, 1.0], 10.0)) == (False, 0, 1)


def test_another_file_than_silero_s_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "other_vad"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "silero_vad.onnx").write_bytes(b"something")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(voice, "PACKAGES", {"other_vad": "other-vad"})
    with pytest.raises(ConfigError, match="is not Silero's own file"):
        find_model()
    monkeypatch.setattr(voice, "PACKAGES", {"no_vad": "no-vad"})
    with pytest.raises(ConfigError, match=r"pip install 'moshi-mlx\[eval\]'"):
        find_model()


def test_short_silences_do_not_end_what_is_said() -> None:
    assert joined([(3.0, 4.0), (0.0, 1.0), (1.5, 2.0)], 0.5) == [(0.0, 2.0), (3.0, 4.0)]
    assert joined([(0.0, 1.0), (1.501, 2.0)], 0.5) == [(0.0, 1.0), (1.501, 2.0)]


def test_a_word_without_an_end_counts_from_its_start(tmp_path: Path) -> None:
    chunks = '{"chunks": [{"timestamp": [null, 0.5]}, {"timestamp": [1.0, 1.5]}, {"timestamp": [2.0, null]}]}'
    (tmp_path / "output.json").write_text(chunks)
    words = read_words(tmp_path / "output.json")
    assert [word.start for word in words] == [1.0, 2.0]
    assert takes_over(words), "a second passes between the starts"
    assert not takes_over(words[1:])
