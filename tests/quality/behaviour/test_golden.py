"""Every metric of Full-Duplex-Bench, against its own scripts on the same files."""

from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.quality.behaviour.answer import read_answer, voice_at_16_khz
from moshi_mlx.quality.behaviour.backchannel import backchannels
from moshi_mlx.quality.behaviour.scene import INTERRUPTION, read_scenes
from moshi_mlx.quality.behaviour.takeover import KYUTAI, response_latency, takes_over
from moshi_mlx.quality.behaviour.timing import MODEL_GAP, USER_GAP, joined, overlaps, response_gaps
from moshi_mlx.quality.behaviour.voice import VoiceDetector

Golden = dict[str, Any]


@pytest.mark.parametrize("task", ["pause_handling", "smooth_turn_taking", "user_interruption"])
def test_takeovers_and_latencies_are_those_of_the_benchmark(task: str, samples: Path, golden: Golden) -> None:
    took, latencies = {}, {}
    for scene in read_scenes(samples / task):
        assert scene.folder is not None
        words = read_answer(scene.folder).words
        took[scene.id] = int(takes_over(words))
        end = scene.interruption[1] if scene.task == INTERRUPTION and scene.interruption else scene.turn_end
        if end is not None and took[scene.id]:
            latencies[scene.id] = response_latency(words, end)
    assert took == golden[task]["takeover"]
    assert latencies == golden[task].get("latency", {})
    assert sum(took.values()) / len(took) == golden[task]["mean"]


def test_the_published_rules_differ_in_three_short_words_alone(samples: Path) -> None:
    scenes = read_scenes(samples / "pause_handling")
    answers = {scene.id: read_answer(scene.folder).words for scene in scenes if scene.folder}
    differ = [one for one, words in answers.items() if takes_over(words) != takes_over(words, KYUTAI)]
    assert differ == ["4"]
    assert takes_over(answers["4"], KYUTAI)


def test_backchannels_are_those_of_the_benchmark(samples: Path, golden: Golden, detector: VoiceDetector) -> None:
    took, frequencies, divergences = {}, {}, {}
    for scene in read_scenes(samples / "backchannel"):
        assert scene.folder is not None
        assert scene.human is not None
        answer = read_answer(scene.folder)
        found = backchannels(detector.segments(answer.pcm), answer.words, answer.seconds)
        took[scene.id] = float(found.takeover)
        frequencies[scene.id] = found.frequency(answer.seconds)
        divergences[scene.id] = found.divergence(scene.human, answer.seconds)
    assert took == golden["backchannel"]["takeover"]
    assert frequencies == golden["backchannel"]["frequency"]
    assert divergences == pytest.approx(golden["backchannel"]["divergence"], abs=1e-6)


def test_stops_and_responses_are_those_of_the_benchmark(
    samples: Path, golden: Golden, detector: VoiceDetector
) -> None:
    for number, expected in golden["timing"].items():
        folder = samples / "timing" / number
        user = joined(detector.segments(voice_at_16_khz(folder / "input.wav")), USER_GAP)
        model = joined(detector.segments(voice_at_16_khz(folder / "output.wav")), MODEL_GAP)
        assert [list(one) for one in overlaps(user, model)] == expected["latency_stop_list"]
        assert [list(one) for one in response_gaps(user, model)] == expected["latency_resp_list"]
