"""How Nano's figures are made: what is heard, what counts, intervals, and the card that they end up in."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE
from training import conditions
from training.bars import bars
from training.card import card
from training.dialogue import FILLERS, KNOWN, UNKNOWN, UNKNOWN_FURTHER, UNKNOWN_HELD_OUT
from training.evaluate import NAMES, Part, measured, parts, together
from training.interruptions import Interruption, delay_of
from training.intervals import Share, share
from training.left_alone import music
from training.questions import Turn, conversations_summed_up, summed_up, wanted
from training.voices import CHOOSING_VOICES, NEURAL_VOICES, TRAINING_VOICES, UNHEARD

BEHAVIOUR = json.loads((Path(__file__).parent.parent / "training/results/behaviour.json").read_text())


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Two seconds that sound like a voice to a band or a level, peak 0.5, between seconds of silence."""
    rng = np.random.default_rng(1)
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 60))
    voice = voice * np.abs(np.sin(2 * np.pi * 2 * time)) + 0.05 * rng.standard_normal(len(time))
    return np.pad(0.5 * voice / np.abs(voice).max(), SAMPLE_RATE).astype(np.float32)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    # Source: Newcombe, 1998, Two-sided confidence intervals for the single proportion, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_wilsons_interval(right: int, of: int, low: float, high: float) -> None:
    assert Share(right, of).interval == pytest.approx((low, high), abs=1e-4)


def test_a_share_counts_what_is_true() -> None:
    assert share([True, False, True, True]) == Share(3, 4)
    assert Share(3, 4).as_dict() == {"right": 3, "of": 4, "share": 0.75, "interval": [0.301, 0.954]}


@pytest.mark.parametrize("decay", [0.2, 0.8])
def test_a_room_dies_away_by_60_db_in_its_time(decay: float) -> None:
    response = conditions.room_response(np.random.default_rng(2), decay, 1.0, 60.0)
    energy = np.cumsum(response[:0:-1].astype(float) ** 2)[::-1]  # Schroeder, 1965: what is still to come
    fall = 10 * np.log10(energy / energy[0])
    first, last = (int(np.argmax(fall < level)) for level in (-5, -35))
    assert 2 * (last - first) / SAMPLE_RATE == pytest.approx(decay, rel=0.06)


def test_at_the_critical_distance_a_room_is_as_loud_as_the_voice() -> None:
    critical = 0.057 * (60.0 / 0.5) ** 0.5
    for factor in (1, 2):
        response = conditions.room_response(np.random.default_rng(3), 0.5, factor * critical, 60.0)
        assert np.sum(response[1:] ** 2) / response[0] ** 2 == pytest.approx(factor**2, rel=1e-3)


@pytest.mark.parametrize("name", conditions.CONDITIONS)
def test_a_condition_keeps_length_and_level_and_is_the_same_again(name: str, speech: np.ndarray) -> None:
    first, again = (conditions.CONDITIONS[name](np.random.default_rng(4), speech) for _ in range(2))
    assert first.shape == speech.shape
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert np.array_equal(first, speech) == (name == "none")
    loudness = 10 * np.log10(np.sum(first**2) / np.sum(speech**2))
    assert -8 < loudness < 12


def test_a_telephone_has_its_band(speech: np.ndarray) -> None:
    heard = conditions.telephone(np.random.default_rng(5), speech)
    power, before = (np.abs(np.fft.rfft(pcm)) ** 2 for pcm in (heard, speech))
    frequencies = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE)
    inside = (frequencies > 320) & (frequencies < 3_300)
    assert power[inside].sum() == pytest.approx(before[inside].sum(), rel=0.05)
    for outside in (frequencies < 280, frequencies > 4_100):
        assert power[outside].sum() < 1e-3 * before[outside].sum()


def test_noise_is_20_to_30_db_below_the_speech_also_where_nobody_speaks(speech: np.ndarray) -> None:
    ratios = []
    for seed in range(20):
        noise = conditions.noisy(np.random.default_rng(seed), speech) - speech
        spoken = speech[SAMPLE_RATE:-SAMPLE_RATE]
        ratios.append(10 * np.log10(np.mean(spoken**2) / np.mean(noise**2)))
        assert np.std(noise[: SAMPLE_RATE // 2]) > 0.3 * np.std(noise)
    assert 19.5 < min(ratios) < 23
    assert 27 < max(ratios) < 30.5


def test_what_is_clipped_keeps_its_peak(speech: np.ndarray) -> None:
    heard = conditions.clipped(np.random.default_rng(6), speech)
    assert np.abs(heard).max() == pytest.approx(0.5)
    assert np.mean(np.abs(heard) > 0.499) > 0.02 > np.mean(np.abs(speech) > 0.499)


def test_opus_takes_16_kilobits_a_second(speech: np.ndarray) -> None:
    long = np.tile(speech[SAMPLE_RATE:-SAMPLE_RATE], 5)
    content = conditions.encoded(long, SAMPLE_RATE, **conditions.OPUS)
    assert 8 * len(content) / (len(long) / SAMPLE_RATE) == pytest.approx(16_000, rel=0.3)


def test_chunks_are_lost_whole_two_in_a_hundred_and_one_in_the_speech(speech: np.ndarray) -> None:
    long = np.full(2_000 * FRAME_SAMPLES, 0.1, np.float32)
    heard = conditions.lost(np.random.default_rng(7), long)
    assert set(np.unique(heard)) == {np.float32(0), np.float32(0.1)}
    edges = np.flatnonzero(np.diff(heard)) + 1
    assert len(set(edges % FRAME_SAMPLES)) == 1
    assert np.mean(heard == 0) == pytest.approx(0.02, abs=0.01)
    for seed in range(20):
        assert not np.array_equal(conditions.lost(np.random.default_rng(seed), speech), speech)


def test_music_is_loud_most_of_the_time() -> None:
    tune = music(np.random.default_rng(8), 4 * SAMPLE_RATE)
    frames = np.sqrt(np.mean(tune.reshape(-1, FRAME_SAMPLES) ** 2, axis=1))
    assert np.abs(tune).max() == pytest.approx(1)
    assert np.mean(frames > 0.02) > 0.9


def test_an_interruption_ends_where_it_stays_silent() -> None:
    loud = np.zeros(40, bool)
    loud[5:15] = loud[17:20] = True  # two silent frames in between are no end
    assert delay_of(loud, 10 * FRAME_SECONDS) == pytest.approx(10 * FRAME_SECONDS)
    assert delay_of(loud, 2 * FRAME_SECONDS) is None
    loud[5:] = True
    assert delay_of(loud, 10 * FRAME_SECONDS) == pytest.approx(30 * FRAME_SECONDS)


def test_turns_are_counted_by_voice_and_conversations_whole() -> None:
    right = [Turn("a", "Hello.", "Hello, nice to meet you.", False)] * 10
    wrong = [*right[:9], Turn("a", "Stop.", "I do not know.", True)]
    found = summed_up([*right, *wrong, Turn("b", "Where is Oz?", "I do not know.", False)])
    assert (found["right"], found["of"], found["early"]["right"]) == (20, 21, 1)
    assert {voice: (one["right"], one["of"]) for voice, one in found["by_voice"].items()} == {
        "a": (19, 20),
        "b": (1, 1),
    }
    assert found["wrong"] == [["a", "Stop.", "I do not know."]]
    talks = conversations_summed_up([right, wrong])
    assert (talks["right"], talks["of"], talks["questions"]["right"]) == (1, 2, 19)
    assert [one["right"] for one in talks["by_place"]] == [2] * 9 + [1]


def test_what_is_unheard_is_in_no_training() -> None:
    unheard = [*NEURAL_VOICES, *(voice for voices in UNHEARD.values() for voice in voices)]
    assert len(set(unheard)) == len(unheard)
    assert not set(unheard) & {*TRAINING_VOICES, *CHOOSING_VOICES}
    assert not {"mbrola", "piper"} & {voice.engine for voice in (*TRAINING_VOICES, *CHOOSING_VOICES)}
    unknown = [*UNKNOWN_HELD_OUT, *UNKNOWN_FURTHER]
    assert len(set(unknown)) == 100
    assert not set(unknown) & {*KNOWN, *UNKNOWN, *FILLERS}


def test_what_was_measured_of_the_same_model_is_kept(tmp_path: Path) -> None:
    calls: list[str] = []

    def counted(name: str) -> Part:
        return Part(name, lambda _: calls.append(name) or len(calls))

    both: Any = [counted("turns/a:b"), counted("voice")]
    nobody: Any = None
    assert measured(both, nobody, tmp_path, "one", minutes=0) == ({}, ["turns/a:b", "voice"])
    assert measured(both[:1], nobody, tmp_path, "one") == ({"turns/a:b": 1}, [])
    assert measured(both, nobody, tmp_path, "one") == ({"turns/a:b": 1, "voice": 2}, [])
    assert measured(both, nobody, tmp_path, "other") == ({"turns/a:b": 3, "voice": 4}, [])


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a model that does everything right."""
    neural = [str(voice) for voice in NEURAL_VOICES]
    unheard = sorted([*neural, *(name for names in NAMES.values() for name in names)])
    turns = [asdict(Turn(voice, text, wanted(text), False)) for voice in unheard for text in KNOWN]
    cuts = [asdict(Interruption(voice, "Hello.", "Stop.", "", 0.3)) for voice in unheard]
    cuts += [asdict(Interruption(voice, "Hello.", "Hello.", wanted("Hello."), 0.3)) for voice in unheard]
    sure, all_right = Share(50, 50).as_dict(), {"sentences": 1.0, "words": 0.99, "stoi": 0.95, "worst_stoi": 0.9}
    talks = [turns[at : at + 10] for at in range(0, len(turns), len(KNOWN)) for _ in range(10)]
    given = {
        "interruptions": cuts,
        "conversations": [one for one in talks if one[0]["voice"] not in neural],
        "neural conversations": [one for one in talks if one[0]["voice"] in neural],
        "left_alone": {**sure, "by_kind": {"noise": sure}, "disturbed": []},
        "undisturbed": {"voice": unheard[0], "noise": sure, "echo": sure},
        "voice": {"original": all_right, "nano": all_right, "not_the_right_words": []},
    }
    given |= {f"turns/{voice}": [turn for turn in turns if turn["voice"] == voice] for voice in unheard}
    found = {part.name: given.get(part.name, turns) for part in parts("nano", tmp_path_factory.mktemp("plots"), 1)}
    spent = {"seconds": 20.0, "frames_per_second": 37.5, "scene": {"cores": 2, "chip": "a chip"}}
    return {"every": 1, "speed": spent, **together(found)}


def test_a_card_without_a_bar_missed_says_so(figures: dict[str, Any]) -> None:
    assert all(bar.reached for bar in bars(figures))
    text = card(figures, BEHAVIOUR)
    assert "It reaches all of its" in text.partition("## Figures")[0]
    assert "| mbrola us1 | 100.0 % of 50 [92.9, 100.0] |" in text
    assert "| kokoro bf_lily | 100.0 % of 50 [92.9, 100.0] | 100.0 % of 10 [72.2, 100.0] |" in text
    assert "one in" not in text
    assert "only one in 3 was tried" in card({**figures, "every": 3}, BEHAVIOUR)


def test_a_bar_that_is_missed_is_said_before_any_figure(figures: dict[str, Any]) -> None:
    changed = copy.deepcopy(figures)
    changed["left_alone"] |= Share(97, 100).as_dict()
    changed["turns"]["mbrola"]["by_voice"]["mbrola:us3"] = Share(47, 50).as_dict()
    changed["neural"]["turns"] |= Share(146, 150).as_dict()
    first = card(changed, BEHAVIOUR).partition("## Figures")[0]
    assert "it misses 3:" in first
    assert "| right words | ≥ 98.0 % | neural 97.3 % of 150 [93.3, 99.0] |" in first
    assert "| noise, knocks, music and others' talk left alone | ≥ 98.0 % | 97.0 % of 100 [91.5, 99.0] |" in first
    assert "| right words | ≥ 95.0 % | mbrola us3 94.0 % of 50 [83.8, 97.9] |" in first
    changed["left_alone"] |= Share(98, 100).as_dict()
    assert "left alone" not in card(changed, BEHAVIOUR).partition("## Figures")[0]
