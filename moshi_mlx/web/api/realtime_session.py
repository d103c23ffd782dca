"""What a realtime session is set to, what clients may change of it, and what is refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from moshi_mlx.conversation.transcript import PAUSE
from moshi_mlx.errors import some
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.realtime_audio import FORMATS, PCM, AudioFormat

Kind = Literal["realtime", "transcription"]
MAX_INSTRUCTIONS = 20_000  # characters; no model's window holds more
_SILENCE_MS = (80, 10_000)  # that may end a turn
_ALONE = "this model decides by itself when it speaks and when it stops"


@dataclass(frozen=True)
class Abilities:
    """What the model of a session can be asked. voices: to be named. captions: the model of the user's words."""

    model: str
    voices: tuple[str, ...] = ()
    instructions: bool = False
    captions: str | None = None
    vad: bool = False  # it has voice activity heads


@dataclass(frozen=True)
class Detection:
    """How a user's turns are told. type: by sound, or by the model's voice activity heads."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    silence: float = PAUSE  # seconds that end a turn

    def about(self) -> dict[str, Any]:
        """As sessions name it."""
        fields: dict[str, Any] = {"type": self.type, "create_response": True, "interrupt_response": True}
        return fields | ({"silence_duration_ms": round(1000 * self.silence)} if self.type == "server_vad" else {})


@dataclass(frozen=True)
class Settings:
    """What a session is set to. voice, instructions: "" for the model's own. detection: None to tell no turns."""

    kind: Kind
    can: Abilities
    input: AudioFormat = PCM
    output: AudioFormat = PCM
    voice: str = ""
    instructions: str = ""
    detection: Detection | None = field(default_factory=Detection)
    transcribes: bool = False
    text_only: bool = False

    def about(self, id: str) -> dict[str, Any]:
        """The session as events show it."""
        detection = self.detection.about() if self.detection else None
        heard = {
            "format": self.input.about(),
            "transcription": {"model": self.can.captions} if self.transcribes else None,
            "noise_reduction": None,
            "turn_detection": detection,
        }
        if self.kind == "transcription":
            return {
                "type": self.kind,
                "object": "realtime.transcription_session",
                "id": id,
                "audio": {"input": heard},
            }
        return {
            "type": self.kind,
            "object": "realtime.session",
            "id": id,
            "model": self.can.model,
            "instructions": self.instructions,
            "output_modalities": ["text"] if self.text_only else ["audio"],
            "audio": {
                "input": heard,
                "output": {"format": self.output.about(), "voice": self.voice or None, "speed": 1.0},
            },
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
        }

    def updated(self, session: Mapping[str, Any]) -> Settings:
        """Return what a client's `session` makes of it: all or nothing. Raises ApiError, which names a field."""
        known = _REALTIME if self.kind == "realtime" else _TRANSCRIPTION
        found = self
        for path, value in _leaves(session, known):
            found = known[path](found, path, value)
        return found


def _leaves(session: Mapping[str, Any], known: Mapping[str, Any], above: str = "session") -> list[tuple[str, Any]]:
    """Return the fields that are given, by their paths."""
    found: list[tuple[str, Any]] = []
    for key, value in session.items():
        path = f"{above}.{key}"
        if path in known:
            found.append((path, value))
        elif any(one.startswith(f"{path}.") for one in known):
            if value is None:
                continue
            if not isinstance(value, dict):
                raise ApiError(400, f"{path} is an object", path, "invalid_value")
            found += _leaves(value, known, path)
        else:
            raise ApiError(400, f"this session has no field {path[:100]}", path[:100], "unknown_parameter")
    return found


Field = Callable[[Settings, str, Any], Settings]


def _refused(path: str, words: str) -> ApiError:
    return ApiError(400, f"{path}: {words}", path, "unsupported_value")


def _only(words: str, *allowed: Any) -> Field:
    """A field that may only be what it is."""

    def check(settings: Settings, path: str, value: Any) -> Settings:
        if value not in allowed:
            raise _refused(path, words)
        return settings

    return check


def _kind(settings: Settings, path: str, value: Any) -> Settings:
    if value != settings.kind:
        transcribe = "connect with ?intent=transcription, or with a speech-to-text model"
        talk = "connect with a model that talks, and without ?intent=transcription"
        how = transcribe if value == "transcription" else talk
        raise _refused(path, f"a session of the type {settings.kind} stays that; {how}")
    return settings


def _model(settings: Settings, path: str, value: Any) -> Settings:
    if value not in (None, settings.can.model):
        raise _refused(path, f"this session is with {settings.can.model}; connect with ?model= for another one")
    return settings


def _format(where: str) -> Field:
    def read(settings: Settings, path: str, value: Any) -> Settings:
        if value is None:
            return settings
        name = value.get("type") if isinstance(value, dict) else value
        rate = value.get("rate") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in FORMATS:
            raise _refused(path, f"{{type: {'}, {type: '.join(FORMATS)}}} are the formats there are")
        if rate not in (None, FORMATS[name].rate):
            raise _refused(path, f"{name} has {FORMATS[name].rate} samples a second")
        return replace(settings, **{where: FORMATS[name]})

    return read


def _voice(settings: Settings, path: str, value: Any) -> Settings:
    name = value.get("id") if isinstance(value, dict) else value
    if name is None:
        return settings
    if not settings.can.voices:
        raise _refused(path, "this model has one voice, its own; only a model with voices takes one (personaplex)")
    if not isinstance(name, str) or name not in settings.can.voices:
        raise _refused(path, f"the voices there are: {some(settings.can.voices, 30)}")
    return replace(settings, voice=name)


def _instructions(settings: Settings, path: str, value: Any) -> Settings:
    if value in (None, ""):
        return replace(settings, instructions="")
    if not settings.can.instructions:
        raise _refused(path, "this model takes no instructions; only one that plays a role does (personaplex)")
    if not isinstance(value, str) or len(value) > MAX_INSTRUCTIONS:
        raise _refused(path, f"a text of at most {MAX_INSTRUCTIONS} characters expected")
    return replace(settings, instructions=value)


def _modalities(settings: Settings, path: str, value: Any) -> Settings:
    if value not in (["audio"], ["text"], None):
        raise _refused(path, '["audio"], with its transcript, or ["text"]')
    return replace(settings, text_only=value == ["text"])


def _transcription(settings: Settings, path: str, value: Any) -> Settings:
    if value is None:
        return replace(settings, transcribes=settings.kind == "transcription")
    if settings.can.captions is None:
        raise _refused(path, "this server writes down only what its model says; start it with --captions MODEL")
    if not isinstance(value, dict):
        raise _refused(path, "an object expected")
    named = value.get("model")
    if named not in (None, settings.can.captions):
        raise _refused(f"{path}.model", f"this session transcribes with {settings.can.captions}")
    asked = [name for name, given in value.items() if name != "model" and given not in (None, [], "")]
    if asked:
        raise _refused(f"{path}.{asked[0][:100]}", f"{settings.can.captions} cannot be told that")
    return replace(settings, transcribes=True)


def _detection(settings: Settings, path: str, value: Any) -> Settings:
    if value is None:
        return replace(settings, detection=None)
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("server_vad", "semantic_vad"):
        raise _refused(path, "{type: server_vad}, {type: semantic_vad} or null expected")
    for name in ("create_response", "interrupt_response"):
        if value.get(name) is False and settings.kind == "realtime":
            raise _refused(f"{path}.{name}", f"{_ALONE}; null tells of no turns")
    if value.get("idle_timeout_ms") is not None:
        raise _refused(f"{path}.idle_timeout_ms", _ALONE)
    if kind == "semantic_vad":
        if not settings.can.vad:
            raise _refused(path, "this model has no voice activity heads; use server_vad, which goes by the sound")
        return replace(settings, detection=Detection("semantic_vad"))
    silence = value.get("silence_duration_ms")
    if silence is None:
        return replace(settings, detection=Detection())
    number = isinstance(silence, int | float) and not isinstance(silence, bool) and math.isfinite(silence)
    if not (number and _SILENCE_MS[0] <= silence <= _SILENCE_MS[1]):
        raise _refused(f"{path}.silence_duration_ms", f"{_SILENCE_MS[0]} to {_SILENCE_MS[1]} expected")
    return replace(settings, detection=Detection(silence=silence / 1000))


_HEARD: dict[str, Field] = {
    "session.type": _kind,
    "session.include": _only("this server gives no log probabilities", None, []),
    "session.audio.input.format": _format("input"),
    "session.audio.input.transcription": _transcription,
    "session.audio.input.noise_reduction": _only("this server reduces no noise: let the microphone do it", None),
    "session.audio.input.turn_detection": _detection,
}
_TRANSCRIPTION = _HEARD
_REALTIME: dict[str, Field] = _HEARD | {
    "session.model": _model,
    "session.instructions": _instructions,
    "session.output_modalities": _modalities,
    "session.audio.output.format": _format("output"),
    "session.audio.output.voice": _voice,
    "session.audio.output.speed": _only("this model speaks as fast as it speaks", None, 1, 1.0),
    "session.tools": _only("this model calls no tools", None, []),
    "session.tool_choice": _only("this model calls no tools", None, "auto", "none"),
    "session.parallel_tool_calls": _only("this model calls no tools", None, True, False),
    "session.max_output_tokens": _only(_ALONE, None, "inf"),
    "session.truncation": _only("what the model remembers is set with --trim", None, "auto"),
    "session.tracing": _only("this server keeps no traces", None),
    "session.prompt": _only("this server keeps no prompts", None),
    "session.reasoning": _only("this model does not reason", None),
}
