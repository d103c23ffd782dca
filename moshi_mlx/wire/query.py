"""The query of /api/chat: what a client may ask for, by Kyutai's names.

Source of the names: moshi's web client (`useModelParams`), rust/moshi-server and rust/protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moshi_mlx.errors import ProtocolError
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig
from moshi_mlx.wire.audio import AUDIO_WIRES


@dataclass(frozen=True)
class Setting:
    """One sampling setting: its field of `SamplingConfig`, and the range that a client may choose from."""

    field: str
    low: float
    high: float
    whole: bool = False


SETTINGS = {
    "text_temperature": Setting("text_temperature", 0.0, 2.0),
    "text_topk": Setting("text_top_k", 0, 10_000, whole=True),
    "audio_temperature": Setting("audio_temperature", 0.0, 2.0),
    "audio_topk": Setting("audio_top_k", 0, 10_000, whole=True),
    "repetition_penalty": Setting("repetition_penalty", 1.0, 2.0),
    "repetition_penalty_context": Setting("repetition_context", 0, 200, whole=True),
}
CONDITION = "condition"  # ours: name=value, several with commas between them
CAPTIONS = "captions"  # ours: 1 to be told the words of the user, as metadata
PROMPTS = ("voice_prompt", "text_prompt")  # PersonaPlex's: a voice's file name, and a role
MAX_STEPS = 1_000_000  # a conversation of 22 hours
KNOWN = {*SETTINGS, "pad_mult", "max_steps", "seed", "text_seed", "audio_seed", "audio", CONDITION, CAPTIONS}
_MOST = 2**53  # of a seed: beyond it a float no longer holds every integer


@dataclass(frozen=True)
class ChatQuery:
    """What a client asks for.

    settings: the fields of `SamplingConfig` that it sets. seed: None for another one each time. steps: frames
    after which the conversation ends, None for never. audio: a key of `AUDIO_WIRES`. notes: what is not done as
    asked. conditions: conditioner name -> value, for models that have any; the model's own where none is given.
    prompts: those of PROMPTS that it gives. captions: whether it wants to be told what its user says.
    """

    settings: dict[str, Any]
    seed: int | None
    steps: int | None
    audio: str
    notes: tuple[str, ...]
    conditions: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    captions: bool = False

    def sampling(self, default: SamplingConfig) -> SamplingConfig:
        """Return how tokens are sampled, as the model does where the client asks for nothing."""
        return replace(default, **self.settings)


def read_query(query: Mapping[str, str]) -> ChatQuery:
    """Read a query. Unknown names are ignored, values out of range are moved to its end, which is noted.

    Raises ProtocolError for a value that is no number, no condition, or a way to send audio that does not exist.
    """
    notes: list[str] = []

    def number(name: str, low: float, high: float, whole: bool = True) -> float | None:
        text = query.get(name, "").strip()
        if not text:
            return None
        value = _number(name, text, whole)
        kept = min(max(value, low), high)
        if kept != value:
            notes.append(f"{name}={text} is out of range and taken as {kept:g}")
        return int(kept) if whole else kept

    chosen = {one.field: number(name, one.low, one.high, one.whole) for name, one in SETTINGS.items()}
    if number("pad_mult", -math.inf, math.inf, whole=False):
        notes.append("pad_mult is not supported")
    steps = number("max_steps", 1, MAX_STEPS)
    seeds = [number(name, -_MOST, _MOST) for name in ("seed", "text_seed", "audio_seed")]
    audio = query.get("audio", "opus")
    if audio not in AUDIO_WIRES:
        raise ProtocolError(f"audio={audio[:20]!r} is not a way to send audio; use {' or '.join(AUDIO_WIRES)}")
    return ChatQuery(
        settings={field: value for field, value in chosen.items() if value is not None},
        seed=_seed(*(None if seed is None else int(seed) for seed in seeds)),
        steps=None if steps is None else int(steps),
        audio=audio,
        notes=tuple(notes),
        conditions=dict(_condition(one) for one in query.get(CONDITION, "").split(",") if one.strip()),
        prompts={name: value for name in PROMPTS if (value := query.get(name, "").strip())},
        captions=bool(number(CAPTIONS, 0, 1)),
    )


def describe(default: SamplingConfig) -> dict[str, dict[str, float]]:
    """Return the settings with their ranges and defaults, for a page that lets people choose."""
    return {
        name: {"default": getattr(default, setting.field), "min": setting.low, "max": setting.high}
        for name, setting in SETTINGS.items()
    }


def _condition(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    if not (name and value):
        raise ProtocolError(f"condition={text[:40]!r}: name=value expected, such as description=good")
    return name, value


def _number(name: str, text: str, whole: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # "25.0" is how some clients write a whole number.
    if not math.isfinite(value) or (whole and value != int(value)):
        raise ProtocolError(f"{name}={text[:20]!r} is not a {'whole ' if whole else ''}number")
    return value


def _seed(seed: int | None, text: int | None, audio: int | None) -> int | None:
    """Return one seed for text and audio alike: `seed`, or one made of Kyutai's two."""
    seed, text, audio = (None if one == -1 else one for one in (seed, text, audio))  # how some say "any"
    if seed is None and text is None and audio is None:
        return None
    if seed is None:
        seed = (text or 0) * 1_000_003 + (audio or 0)
    return seed % (MAX_SEED + 1)


def shown(query: Mapping[str, str]) -> str:
    """Return a query for a log: what we do not know may be anybody's secret, so of that only the names."""
    parts = [f"{name}={value[:20]}" if name in KNOWN else name for name, value in query.items()]
    return "&".join(parts)
