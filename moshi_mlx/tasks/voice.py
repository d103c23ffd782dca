"""How a text-to-speech model is given a voice: vectors that it attends to, or a recording that it goes on from.

Source: moshi/models/tts.py `TTSModel.make_condition_attributes`, `TTSModel.get_prefix`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE, split_frames
from moshi_mlx.models.conditioner_config import Condition, Vectors
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.moshi import Moshi

SPEAKERS, CFG, CONTROL = "speaker_wavs", "cfg", "control"  # conditioners
PLACES = 5  # speakers that a model was trained with
CUT = 2  # frames at the end of a recording that a voice leaves out


def voiced(
    moshi: Moshi, voices: Sequence[np.ndarray], guidance: float
) -> tuple[Mapping[str, Condition], np.ndarray]:
    """Return what gives a model its voices: conditions, and codes that it goes on from, (dep_q, T).

    Raises ConfigError.
    """
    config = moshi.lm.config
    conditions: dict[str, Condition] = {}
    none = np.zeros((config.dep_q, 0), np.int32)
    if CFG in config.conditioners:
        conditions[CFG] = format(guidance, ".1f")
    if CONTROL in config.conditioners:
        conditions[CONTROL] = "ok"
    if SPEAKERS in config.conditioners:
        if not voices:
            raise ConfigError("this model needs a voice: vectors of a speaker, such as those of kyutai/tts-voices")
        conditions[SPEAKERS] = speakers(voices)
        return conditions, none
    if len(voices) > 1:
        raise ConfigError(f"{len(voices)} voices: this model takes one, a recording that it goes on from")
    return conditions, prepared(moshi, voices[0]) if voices else none


def guidance_of_rows(config: LmConfig, guidance: float) -> float:
    """Return the guidance of a batch for one of a text: none where a model has learned it as a condition."""
    return 1.0 if CFG in config.conditioners else guidance


def speakers(voices: Sequence[np.ndarray]) -> Vectors:
    """Put the vectors of speakers, (T, dim) float32 each, where a model expects them. Raises ConfigError."""
    if not 0 < len(voices) <= PLACES or any(voice.shape != voices[0].shape or voice.ndim != 2 for voice in voices):
        shapes = [voice.shape for voice in voices]
        raise ConfigError(f"voices of shapes {shapes}: 1 to {PLACES} of one shape, (vectors, width), expected")
    length, width = voices[0].shape
    values = np.zeros((PLACES * length, width), np.float32)
    values[: len(voices) * length] = np.concatenate(voices)
    return Vectors(values, np.arange(PLACES * length) < len(voices) * length)


def prepared(moshi: Moshi, voice: np.ndarray) -> np.ndarray:
    """Return a voice as it may be given for several texts, so that a recording is encoded once.

    voice: as `say` takes it. Returns vectors as they are, and of a recording the codes that a model goes on from,
    (dep_q, T) int32, which are a voice as well.
    Raises ConfigError for a recording that is too short or longer than the window, and for no voice of this model.
    """
    config = moshi.lm.config
    if SPEAKERS in config.conditioners:
        return voice
    codes = voice if voice.ndim == 2 and voice.dtype == np.int32 else _encoded(moshi, voice)
    if len(codes) != config.dep_q or not 0 < codes.shape[1] < config.transformer.context:
        seconds = len(voice) / SAMPLE_RATE if codes is not voice else codes.shape[1] * FRAME_SECONDS
        longest = config.transformer.context * FRAME_SECONDS
        raise ConfigError(f"a voice of {seconds:.2f} s: more than 0.2 s and less than {longest:g} s expected")
    return codes


def _encoded(moshi: Moshi, pcm: np.ndarray) -> np.ndarray:
    """Return the codes of a recording, (dep_q, T) int32, but for its end."""
    if pcm.ndim != 1:
        raise ConfigError(f"a voice of shape {pcm.shape}: this model takes a recording, (samples,), to go on from")
    codebooks, stream = moshi.lm.config.dep_q, moshi.codec.stream()
    try:
        codes = [stream.encode(frame)[:codebooks] for frame in split_frames(pcm)][:-CUT]
    finally:
        stream.close()
    return np.array(codes, np.int32).reshape(-1, codebooks).T
