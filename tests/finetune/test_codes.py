"""Codes of windows: as the codec gives them, once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import AudioFileError, DataError
from moshi_mlx.finetune.batches import Data, draws, held_out
from moshi_mlx.finetune.codes import Encoder, Window, codes_folder
from moshi_mlx.finetune.data import Recording, find_sources
from moshi_mlx.finetune.streams import text_row
from tests.finetune.dataset import RATE, kept_conversation, stereo_set, voices

SECONDS = 2.0
Encode = Callable[..., Encoder]


@pytest.fixture
def encoder(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encode:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Checkpoint.resolve(tiny_folder)

    def make(seconds: float = SECONDS, **how: Any) -> Encoder:
        codec, encode = found.load_codec("mlx"), found.load_tokenizer().encode
        return Encoder(codec, found.mimi_weights, found.lm_config, seconds, encode, **how)

    return make


def test_windows_hold_words_and_the_codes_of_both_voices(
    encoder: Encode, tiny_folder: Path, tmp_path: Path
) -> None:
    recording = find_sources(str(stereo_set(tmp_path / "set")))[0].recordings[0]
    first, second = encoder().windows(recording)
    assert first.codes.shape == second.codes.shape == (17, 25)
    assert (first.start, second.start) == (0.0, 2.0)
    found = Checkpoint.resolve(tiny_folder)
    for voice, rows in ((0, slice(1, 9)), (1, slice(9, 17))):
        stream = found.load_codec("mlx").stream()
        read, _ = soundfile.read(tmp_path / "set" / "0.wav", dtype="float32")
        pcm = read[: 25 * 1920, voice]
        ours = np.stack([stream.encode(frame) for frame in pcm.reshape(25, 1920)], axis=1)
        assert (first.codes[rows] == ours).all()
    words = text_row(recording.words(), 0.0, SECONDS, found.load_tokenizer().encode)
    assert first.codes[0].tolist() == words.tolist()
    # The second window has one second, 12.5 frames: the rest has no codes, and its text goes on as padding.
    assert (second.codes[1:, :13] >= 0).all()
    assert (second.codes[1:, 13:] == -1).all()
    assert (second.codes[0] == 3).all()


def test_codes_are_computed_once_for_a_sound_a_codec_and_a_window(encoder: Encode, tmp_path: Path) -> None:
    path = stereo_set(tmp_path / "set", (2.0,))
    recording = find_sources(str(path))[0].recordings[0]
    first = encoder()
    made = first.windows(recording)
    assert first.encoded == 1
    again = encoder()
    assert again.encoded == 0
    assert (again.windows(recording)[0].codes == made[0].codes).all()
    assert again.encoded == 0
    (only,) = codes_folder().iterdir()
    only.write_bytes(b"cut")
    damaged = encoder()
    assert (damaged.windows(recording)[0].codes == made[0].codes).all()
    assert damaged.encoded == 1
    shorter = encoder(1.0)
    shorter.windows(recording)
    assert shorter.encoded == 1
    soundfile.write(tmp_path / "set" / "0.wav", voices(2.0, 9), RATE)
    other = encoder()
    assert (other.windows(recording)[0].codes != made[0].codes).any()
    assert other.encoded == 1


def test_words_may_change_without_the_sound_being_encoded_again(encoder: Encode, tmp_path: Path) -> None:
    path = stereo_set(tmp_path / "set", (2.0,))
    recording = find_sources(str(path))[0].recordings[0]
    before = encoder().windows(recording)[0].codes
    (tmp_path / "set" / "0.json").write_text('{"alignments": []}')
    again = encoder()
    after = again.windows(recording)[0].codes
    assert again.encoded == 0
    assert (after[1:] == before[1:]).all()
    assert (after[0] == 3).all()


def test_a_kept_conversation_is_two_files_of_one_channel(encoder: Encode, tmp_path: Path) -> None:
    kept_conversation(tmp_path / "kept")
    (window,) = encoder().windows(find_sources(str(tmp_path / "kept"))[0].recordings[0])
    assert window.codes.shape == (17, 25)
    assert (window.codes[1:9] != window.codes[9:]).any()


def test_conditions_stand_beside_the_words_and_are_those_of_the_model(
    encoder: Encode, hibiki_folder: Path, tmp_path: Path
) -> None:
    recording = find_sources(str(stereo_set(tmp_path / "set", (2.0,))))[0].recordings[0]
    path = tmp_path / "set" / "0.json"
    words = json.loads(path.read_text())

    def condition(value: object) -> None:
        path.write_text(json.dumps({**words, "text_conditions": value}))

    found = Checkpoint.resolve(hibiki_folder)
    codec, encode = found.load_codec("mlx"), found.load_tokenizer().encode
    hibiki = Encoder(codec, found.mimi_weights, found.lm_config, SECONDS, encode)
    assert hibiki.windows(recording)[0].conditions == {}
    condition({"description": "bad"})
    assert hibiki.windows(recording)[0].conditions == {"description": "bad"}
    condition({"description": "awful"})
    with pytest.raises(
        DataError, match=r"0\.wav: conditioner 'description' has no value 'awful'; it must be one of"
    ):
        hibiki.windows(recording)
    condition({"description": "good"})
    with pytest.raises(DataError, match=r"0\.wav: this model has no conditioner 'description' \(it takes no"):
        encoder().windows(recording)
    condition(["good"])
    with pytest.raises(DataError, match=r"0\.json: text_conditions is \['good'\]"):
        encoder().windows(recording)


def test_sound_that_is_not_of_two_people_is_refused(encoder: Encode, tmp_path: Path) -> None:
    path = stereo_set(tmp_path / "set", (2.0,))
    recording = find_sources(str(path))[0].recordings[0]
    sound = tmp_path / "set" / "0.wav"
    soundfile.write(sound, voices(2.0, channels=1), RATE)
    with pytest.raises(DataError, match=r"0\.wav has one channel; stereo expected"):
        encoder().windows(recording)
    soundfile.write(sound, voices(2.0, channels=3), RATE)
    with pytest.raises(DataError, match="3 channels"):
        encoder().windows(recording)
    pcm = voices(2.0)
    pcm[100, 1] = np.nan
    soundfile.write(sound, pcm, RATE, subtype="FLOAT")
    with pytest.raises(AudioFileError, match="no number: nan at sample 100"):
        encoder().windows(recording)
    sound.write_bytes(b"")
    with pytest.raises(AudioFileError, match="is empty"):
        encoder().windows(recording)


def test_words_behind_the_end_are_refused(encoder: Encode, tmp_path: Path) -> None:
    path = stereo_set(tmp_path / "set", (0.4,))
    recording = find_sources(str(path))[0].recordings[0]
    with pytest.raises(
        DataError, match=r"word 3 \('morning'\) begins at 1.00 s, but the recording ends at 0.40 s"
    ):
        encoder().windows(recording)


def test_a_telephones_rate_is_told_of_and_another_one_is_not(encoder: Encode, tmp_path: Path) -> None:
    notes: list[str] = []
    for rate in (8_000, 24_000):
        path = stereo_set(tmp_path / str(rate), (2.0,), rate)
        encoder(tell=notes.append).windows(find_sources(str(path))[0].recordings[0])
    (note,) = notes
    assert "has 8000 samples a second" in note


def test_every_window_is_drawn_once_before_any_comes_again() -> None:
    order = draws([7], [1.0], seed=3)
    epochs = [[next(order)[1] for _ in range(7)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_what_is_drawn_does_not_depend_on_when_one_begins() -> None:
    straight = draws([5, 3], [1.0, 4.0], seed=3)
    drawn = [next(straight) for _ in range(40)]
    later = draws([5, 3], [1.0, 4.0], seed=3, skip=25)
    assert [next(later) for _ in range(15)] == drawn[25:]
    other = draws([5, 3], [1.0, 4.0], seed=4)
    assert [next(other) for _ in range(40)] != drawn
    assert 22 < sum(source for source, _ in drawn) < 40, "the second source has four times the weight"


def named(name: str, count: int) -> list[Window]:
    recording = Recording(Path(name), Path(name), tuple)
    return [Window(np.zeros((17, 1), np.int16), recording, float(index)) for index in range(count)]


def test_every_batch_has_its_share_of_what_is_replayed() -> None:
    data = Data(
        [named("new", 5)], [1.0], replay=Data([named("old", 3), named("older", 4)], [0.2, 0.05]), share=0.25
    )
    order = data.draw(seed=3)
    batches = [[next(order) for _ in range(8)] for _ in range(30)]
    replayed = [[window for window in batch if window.recording.moshi.name != "new"] for batch in batches]
    assert {len(each) for each in replayed} == {2}
    older = [window for each in replayed for window in each if window.recording.moshi.name == "older"]
    assert 4 < len(older) < 24, "a fifth of 60"
    new = [str(window) for batch in batches for window in batch if window.recording.moshi.name == "new"]
    alone = Data([named("new", 5)], [1.0]).draw(3)
    assert new == [str(next(alone)) for _ in new], "what is new comes in the order that it has alone"


def test_what_is_replayed_does_not_depend_on_when_one_begins() -> None:
    data = Data([named("new", 5)], [1.0], replay=Data([named("old", 3)], [0.3]), share=0.3)
    straight = data.draw(seed=3)
    drawn = [str(next(straight)) for _ in range(40)]
    assert sum(each.startswith("old") for each in drawn) == 12
    for skip in (7, 10, 25):
        later = data.draw(seed=3, skip=skip)
        assert [str(next(later)) for _ in range(40 - skip)] == drawn[skip:]


def test_some_of_several_recordings_are_held_out() -> None:
    assert held_out(1, 0.5, 0) == set()
    assert len(held_out(2, 0.05, 0)) == 1
    assert len(held_out(40, 0.1, 0)) == 4
    assert held_out(40, 0.0, 0) == set()
