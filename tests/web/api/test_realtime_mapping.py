"""What becomes of replies and turns in events, without a server; and audio in events."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.conversation.turns import TurnTracker
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.tasks.words import Word
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.realtime_audio import FORMATS, PCM, AudioReader, AudioWriter
from moshi_mlx.web.api.realtime_events import read_event
from moshi_mlx.web.api.realtime_items import REMEMBERED, History, Item, UserItems
from moshi_mlx.web.api.realtime_responses import Responses
from moshi_mlx.web.api.realtime_session import Abilities, Detection, Settings
from tests.anything import json_values, one_line

QUIET = np.zeros(1920, np.float32)
VOICE = (0.2 * np.sin(np.arange(1920) * 0.05)).astype(np.float32)
PAUSE = "." * 12


class Told:
    """Events, and how they come about from a script: one letter a frame, as in the tests of turns."""

    def __init__(self, room: int = 1000, captioned: float | None = None, **settings: Any) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._room = room
        self.unsent = 0
        self.settings = Settings("realtime", Abilities("tiny"), **settings)
        history = History()
        self.responses = Responses(self.emit, history, lambda: self.settings, "conv", self._count)
        self.items = UserItems(self.emit, history, lambda: self.settings.detection is not None)
        if captioned is not None:
            self.known = captioned
            self.items.captioned = lambda: self.known
        self.tracker = TurnTracker(
            began=lambda who, at: self.items.began(at) if who == "user" else self.responses.began(),
            ended=lambda turn: (
                self.items.ended(turn.end) if turn.speaker == "user" else self.responses.ended(turn)
            ),
        )

    def _count(self) -> None:
        self.unsent += 1

    def emit(self, type: str, /, *, is_audio: bool = False, **fields: Any) -> bool:
        if is_audio and sum(kind == type for kind, _ in self.events) >= self._room:
            return False
        self.events.append((type, fields))
        return True

    def live(self, script: str, words: dict[int, str] | None = None) -> Told:
        for number, letter in enumerate(script):
            audio = VOICE if letter in "mb" else QUIET
            reply = Reply(audio, (words or {}).get(number, ""), 0.0)
            self.tracker.add(VOICE if letter in "ub" else QUIET, reply)
            self.responses.add(reply)
            self.items.advance(self.tracker.seconds)
        return self

    def of(self, type: str) -> list[dict[str, Any]]:
        return [fields for kind, fields in self.events if kind == type]

    @property
    def statuses(self) -> list[tuple[str, str | None]]:
        found = [one["response"] for one in self.of("response.done")]
        return [(one["status"], one["status_details"].get("reason")) for one in found]

    @property
    def transcripts(self) -> list[str]:
        return [one["transcript"] for one in self.of("response.output_audio_transcript.done")]


def test_every_turn_of_the_model_is_a_response_with_all_its_audio_and_words() -> None:
    told = Told().live("..mmmm..mm" + PAUSE + "mmm" + PAUSE, {1: " Hello", 5: " there.", 22: " Yes."})
    assert told.statuses == [("completed", None)] * 2
    assert told.transcripts == ["Hello there.", "Yes."]
    first, second = (one["response"]["id"] for one in told.of("response.created"))
    deltas = [one["response_id"] for one in told.of("response.output_audio.delta")]
    # From the frame before the turn is certain, to the end of the pause.
    assert deltas == [first] * (1 + 8 + 10) + [second] * (3 + 10)


def test_a_click_is_no_response_and_words_without_a_sound_are_one() -> None:
    assert not Told().live("..m" + PAUSE).events
    told = Told().live(".." + PAUSE, {1: " Hm."})
    assert told.transcripts == ["Hm."]
    assert told.statuses == [("completed", None)]


@pytest.mark.parametrize(
    ("last", "expected"), [(" and", ("cancelled", "turn_detected")), (" so.", ("completed", None))]
)
def test_who_speaks_into_an_answer_that_stops_has_interrupted_it(
    last: str, expected: tuple[str, str | None]
) -> None:
    assert Told().live("..mmmmmmmbbbuuuuuuuu" + PAUSE, {3: last}).statuses == [expected]


def test_what_is_cancelled_is_muted_until_its_turn_ends() -> None:
    told = Told().live("..mmmm", {2: " One"})
    told.responses.cancel(None)
    assert told.statuses == [("cancelled", "client_cancelled")]
    deltas = len(told.of("response.output_audio.delta"))
    told.live("mmmm", {0: " two"})
    assert len(told.of("response.output_audio.delta")) == deltas
    with pytest.raises(ApiError, match="no such response"):
        told.responses.cancel(None)
    told.live(PAUSE + "mmm" + PAUSE, {13: " Three."})
    assert told.transcripts == ["One", "Three."]


def test_audio_for_which_there_is_no_room_is_counted() -> None:
    told = Told(room=3).live("mmmmmm")
    assert len(told.of("response.output_audio.delta")) == 3
    assert told.unsent == 3


def test_an_item_that_is_truncated_while_it_is_said_ends_there() -> None:
    told = Told().live("mmmmmm", {1: " Word"})
    (item,) = {one["item_id"] for one in told.of("response.output_audio.delta")}
    with pytest.raises(ApiError, match="480 ms"):
        told.responses.truncate(item, 0, 500)
    told.responses.truncate(item, 0, 300)
    assert told.statuses == [("cancelled", "client_cancelled")]
    assert told.of("conversation.item.truncated") == [{"item_id": item, "content_index": 0, "audio_end_ms": 300}]


def test_a_turn_of_the_user_is_an_item() -> None:
    told = Told().live("...uuuu" + PAUSE)
    assert told.of("input_audio_buffer.speech_started")[0]["audio_start_ms"] == 240
    assert told.of("input_audio_buffer.speech_stopped")[0]["audio_end_ms"] == 560
    (done,) = told.of("conversation.item.done")
    assert (done["item"]["role"], done["item"]["status"]) == ("user", "completed")
    assert not told.of("conversation.item.input_audio_transcription.completed")


def test_a_shorter_pause_can_be_asked_for() -> None:
    told = Told()
    told.tracker.wait("user", 0.24)
    told.live("..uuu...uuu...")
    assert len(told.of("input_audio_buffer.speech_stopped")) == 2


def test_without_detection_only_commits_make_items() -> None:
    told = Told(detection=None).live("...uuuu" + PAUSE)
    assert not told.events
    assert told.items.commit(told.tracker.seconds)
    assert not told.items.commit(told.tracker.seconds)
    assert [type for type, _ in told.events] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]


def test_words_belong_to_the_turn_in_which_they_were_said() -> None:
    told = Told(captioned=0.0)
    told.live("..uuuu" + PAUSE)  # 0.16 to 0.48
    told.items.word(Word("one", 0.2, 0.4))
    told.items.word(Word("two", 0.4, 0.5))
    told.live("uuuu" + PAUSE)  # 1.44 to 1.76
    told.items.word(Word("three", 1.5, 1.7))
    told.known = 2.2
    told.live(".")
    completed = told.of("conversation.item.input_audio_transcription.completed")
    assert [one["transcript"] for one in completed] == ["one two", "three"]
    assert [one["usage"]["seconds"] for one in completed] == [0.32, 0.32]
    deltas = told.of("conversation.item.input_audio_transcription.delta")
    assert [one["delta"] for one in deltas] == ["one", " two", "three"]


def test_no_word_is_lost_where_the_sound_tells_of_no_turn() -> None:
    told = Told(captioned=10.0).live("....")
    told.items.word(Word("quiet", 0.2, 0.4))
    told.live("." * 60)
    assert told.of("input_audio_buffer.speech_stopped")[0]["audio_end_ms"] == 400
    assert told.of("conversation.item.input_audio_transcription.completed")[0]["transcript"] == "quiet"


def test_words_that_never_come_are_not_waited_for_for_ever() -> None:
    told = Told(captioned=0.0).live("..uuuu" + PAUSE)
    assert not told.of("conversation.item.input_audio_transcription.completed")
    told.live("." * 50)
    assert told.of("conversation.item.input_audio_transcription.completed")[0]["transcript"] == ""


def test_only_the_latest_items_are_remembered() -> None:
    history, items = History(), [Item("user", "input_audio") for _ in range(REMEMBERED + 1)]
    for item in items:
        history.add(item)
    assert history.find(items[-1].id).before == items[-2].id
    with pytest.raises(ApiError, match="no item"):
        history.find(items[0].id)


# Audio.


@pytest.mark.parametrize("name", FORMATS)
def test_any_chunks_are_the_same_audio(name: str) -> None:
    data = np.random.default_rng(1).integers(0, 256, 4001, np.uint8).tobytes()
    whole = AudioReader(FORMATS[name]).read(base64.b64encode(data).decode())
    reader, found, at = AudioReader(FORMATS[name]), [], 0
    for size in (1, 0, 2, 3, 997, 1000, 1998):
        found.append(reader.read(base64.b64encode(data[at : at + size]).decode()))
        at += size
    assert at == len(data)
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-6)
    assert len(whole) > 1900


def test_samples_are_those_of_the_standards() -> None:
    pcm = AudioReader(PCM).read(base64.b64encode(np.array([0, -32768, 16384], "<i2").tobytes()).decode())
    np.testing.assert_array_equal(pcm, [0, -1, 0.5])
    # ITU-T G.711: the largest values, the smallest ones, and one between; of 14 bits, scaled to 16.
    known = {"ULAW": {0x80: 32124, 0x00: -32124, 0xFF: 0, 0xF0: 120}, "ALAW": {0xAA: 32256, 0x2A: -32256, 0xD5: 8}}
    for subtype, values in known.items():
        found, _ = soundfile.read(
            io.BytesIO(bytes(values)), format="RAW", subtype=subtype, samplerate=8000, channels=1, dtype="int16"
        )
        assert found.tolist() == list(values.values())


@pytest.mark.parametrize("name", FORMATS)
def test_a_tone_comes_through_both_ways(name: str) -> None:
    format = FORMATS[name]
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)).astype(np.float32)
    writer = AudioWriter(format)
    texts = [writer.write(frame) for frame in tone[:23040].reshape(-1, 1920)] + [writer.end()]
    assert sum(len(base64.b64decode(text)) for text in texts) == 23040 * format.rate * format.width // 24_000
    back = np.concatenate(
        [AudioReader(format).read("".join(base64.b64encode(b"".join(map(base64.b64decode, texts))).decode()))]
    )
    error = np.sqrt(np.mean((back[2400:19200] - tone[2400:19200]) ** 2))
    assert error < 0.5 / np.sqrt(2) / 50  # 34 dB; G.711 has some 37


@pytest.mark.parametrize("text", ["*", "abc", "é", "A" * 300_000])
def test_what_is_no_audio_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        AudioReader(PCM).read(text)
    one_line(refused.value)


# Settings.


PATHS = [
    "audio.input.turn_detection",
    "audio.output.voice",
    "audio.input.transcription",
    "tools",
    "audio",
    "instructions",
]


@given(st.sampled_from(PATHS), json_values)
def test_any_session_is_taken_or_refused_in_one_line(path: str, value: Any) -> None:
    for key in reversed(path.split(".")):
        value = {key: value}
    can = Abilities("tiny", voices=("one",), instructions=True, captions="stt")
    try:
        found = Settings("realtime", can).updated(value)
    except ApiError as refused:
        one_line(refused)
    else:
        assert found.about("sess")["model"] == "tiny"


@given(st.text())
def test_any_text_is_an_event_or_refused_in_one_line(text: str) -> None:
    try:
        event = read_event(text)
    except ApiError as refused:
        one_line(refused)
    else:
        assert isinstance(event["type"], str)


def test_what_a_session_is_set_to_is_what_it_says() -> None:
    can = Abilities("tiny", voices=("one",), instructions=True, captions="stt", vad=True)
    settings = Settings("realtime", can).updated(
        {
            "type": "realtime",
            "model": "tiny",
            "instructions": "Be kind.",
            "tools": [],
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "transcription": {"model": "stt", "language": None},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 400},
                },
                "output": {"voice": {"id": "one"}, "format": {"type": "audio/pcm", "rate": 24000}},
            },
        }
    )
    assert settings.detection == Detection(silence=0.4)
    shown = settings.about("sess")
    assert shown["instructions"] == "Be kind."
    assert shown["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "one",
        "speed": 1.0,
    }
    assert shown["audio"]["input"]["transcription"] == {"model": "stt"}
    semantic = settings.updated({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}})
    assert semantic.detection == Detection("semantic_vad")
