"""What a client may ask for in the query of /api/chat: Kyutai's names, checked.

Source of the names: moshi's web client (`useModelParams`), rust/moshi-server and rust/protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from moshi_mlx.errors import ProtocolError
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig


@dataclass(frozen=True)
class Setting:
    """One sampling setting: what it is called here, and what a client may choose."""

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
MAX_STEPS = 1_000_000  # a conversation of 22 hours
_NO_LIMIT = 2.0**53  # of seeds: beyond it a float no longer holds every integer


@dataclass(frozen=True)
class Wishes:
    """How one conversation is to be made.

    seed: None for another one each time. steps: frames after which it ends, None for never.
    notes: what was asked for and is not done, for the log.
    """

    sampling: SamplingConfig
    seed: int | None
    steps: int | None
    pcm: bool
    notes: tuple[str, ...]


def read_query(query: Mapping[str, str], default: SamplingConfig) -> Wishes:
    """Read a query; unknown names are ignored, values out of range are moved to its end, which is noted.

    Raises ProtocolError for what is no number, and for a way of sending audio that does not exist.
    """
    notes: list[str] = []

    def number(name: str, low: float, high: float, whole: bool) -> float | None:
        text = query.get(name, "").strip()
        if not text:
            return None
        value = _number(name, text, whole)
        kept = min(max(value, low), high)
        if kept != value:
            notes.append(f"{name}={text} is out of range and taken as {kept:g}")
        return int(kept) if whole else kept

    chosen = {}
    for name, setting in SETTINGS.items():
        value = number(name, setting.low, setting.high, setting.whole)
        if value is not None:
            chosen[setting.field] = value
    if number("pad_mult", -math.inf, math.inf, whole=False):
        notes.append("pad_mult is not supported")
    steps = number("max_steps", 1, MAX_STEPS, whole=True)
    audio = query.get("audio", "opus")
    if audio not in ("pcm", "opus"):
        raise ProtocolError(f"audio={audio[:20]!r}: pcm or opus expected")
    seeds = [number(name, -_NO_LIMIT, _NO_LIMIT, whole=True) for name in ("seed", "text_seed", "audio_seed")]
    return Wishes(
        sampling=replace(default, **chosen),
        seed=_seed([None if seed is None else int(seed) for seed in seeds]),
        steps=None if steps is None else int(steps),
        pcm=audio == "pcm",
        notes=tuple(notes),
    )


def describe(default: SamplingConfig) -> dict[str, dict[str, float]]:
    """The settings, their ranges and defaults, for a page that lets people choose."""
    return {
        name: {"default": getattr(default, setting.field), "min": setting.low, "max": setting.high}
        for name, setting in SETTINGS.items()
    }


def _number(name: str, text: str, whole: bool) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProtocolError(f"{name}={text[:20]!r}: a number expected")
    if whole and value != int(value):  # "25.0" is what some clients write
        raise ProtocolError(f"{name}={text[:20]!r}: a whole number expected")
    return value


def _seed(seeds: list[int | None]) -> int | None:
    """One seed for text and audio alike: `seed`, or made of Kyutai's two."""
    seed, text, audio = seeds
    if seed is None and text is None and audio is None:
        return None
    if seed is None:
        seed = (text or 0) * 1_000_003 + (audio or 0)
    return seed % (MAX_SEED + 1)
