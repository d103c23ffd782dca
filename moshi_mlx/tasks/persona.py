"""PersonaPlex: a voice and a role, lived through before the conversation begins.

Order: the voice, half a second of silence, `<system> TEXT <system>` one token a frame, half a second of silence.
Meanwhile the model is silent but for the voice, writes padding but for the text, and hears a tone.
Source: NVIDIA's fork of moshi, models/lm.py `LMGen.step_system_prompts`; offline.py `wrap_with_system_tags`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moshi_mlx.checkpoint.voices import Voice
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.frames import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE, silence, split_frames
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt

SILENCE_FRAMES = int(0.5 * FRAME_RATE)
SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)  # codes of Kyutai's Mimi
TONE = (430, 1268, 381, 1611, 1095, 1495, 56, 472)  # 440 Hz at half of full scale
TAG = "<system>"
VOICE_LUFS = -24.0  # of recordings that voices are taken from
UNKNOWN = -1  # a token that embeds to zero, where embeddings stand in its place


@dataclass(frozen=True, eq=False)
class Role:
    """Who the model is to be: text, "" for nothing; voice: one that was read, or a recording as for `persona`."""

    text: str = ""
    voice: Voice | np.ndarray | None = None

    def __bool__(self) -> bool:
        return bool(self.text.strip()) or self.voice is not None

    def prompt(self, moshi: Moshi) -> Prompt | None:
        """Return the prompt for it, None for nobody in particular."""
        return persona(moshi, self.text, self.voice) if self else None


def persona(moshi: Moshi, text: str = "", voice: Voice | np.ndarray | None = None) -> Prompt:
    """Return the prompt for a role and a voice, to be given to `Moshi.session`.

    text: what the model is to be, such as "You are a wise and friendly teacher."; "" for nothing.
    voice: one that was read, or a recording of somebody speaking: (samples,) float32 at 24 kHz, at -24 LUFS.
    Raises ConfigError for a model that takes no prompt and for a prompt longer than its window, CheckpointError
    for a voice of another model.
    """
    config = moshi.lm.config
    tokens = moshi.tokenizer.encode(tagged(text)) if text.strip() else []
    quiet, tone = steady_codes(moshi)
    codes = voice_codes(moshi, voice) if isinstance(voice, np.ndarray) else voice
    prompt = build(config, tokens, codes, quiet, tone)
    prompt.check(config)
    return prompt


def build(
    config: LmConfig, tokens: list[int], voice: Voice | np.ndarray | None, quiet: np.ndarray, tone: np.ndarray
) -> Prompt:
    """Put the frames of a prompt together.

    tokens: of the text. voice: one that was read, or its codes, (T, dep_q) int32. quiet: (dep_q,), what a silent
    model says. tone: (n_q - dep_q,), what it hears.
    """
    pad = config.text_padding_id
    spoken = voice if isinstance(voice, np.ndarray) else np.zeros((0, config.dep_q), np.int32)
    after = SILENCE_FRAMES + (len(tokens) + SILENCE_FRAMES if tokens else 0)
    texts = [*[pad] * (len(spoken) + SILENCE_FRAMES), *tokens, *([pad] * SILENCE_FRAMES if tokens else [])]
    codes = np.concatenate([spoken, np.tile(quiet, (after, 1))])
    heard = np.tile(tone, (len(texts), 1))
    streams = np.concatenate([np.array(texts)[:, None], codes, heard], axis=1)
    embeddings = None
    if isinstance(voice, Voice):
        embeddings = voice.embeddings
        streams = np.concatenate([_kept(config, voice), streams])
    streams = streams.astype(np.int32)
    return Prompt(streams[:, 0], streams[:, 1 : 1 + config.dep_q], streams[:, 1 + config.dep_q :], embeddings)


def tagged(text: str) -> str:
    """Return a role as the model knows it; tags that are there already are kept."""
    text = text.strip()
    whole = len(text) > 2 * len(TAG) and text.startswith(TAG) and text.endswith(TAG)
    return text if whole else f"{TAG} {text} {TAG}"


def voice_codes(moshi: Moshi, pcm: np.ndarray) -> np.ndarray:
    """Return the codes of somebody's speech, (T, dep_q) int32. pcm: (samples,) float32 at 24 kHz."""
    if not len(pcm):
        raise ConfigError("the recording of a voice is empty")
    stream = moshi.codec.stream()
    try:
        codes = [stream.encode(frame)[: moshi.lm.config.dep_q] for frame in split_frames(pcm)]
    finally:
        stream.close()
    return np.array(codes, np.int32)


def steady_codes(moshi: Moshi) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of silence, (dep_q,), and of the tone, (n_q - dep_q,), that PersonaPlex was trained with.

    A model with another codec, such as a tiny one, gets what that codec makes of them.
    """
    config = moshi.lm.config
    if config.card == 2048 and config.dep_q == config.input_codebooks == len(SILENCE):
        return np.array(SILENCE), np.array(TONE)
    time = np.arange(10 * FRAME_SAMPLES) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    return voice_codes(moshi, silence(10))[-1], voice_codes(moshi, tone)[-1]


def _kept(config: LmConfig, voice: Voice) -> np.ndarray:
    """Return the frames of a voice that was read, (E + 1, 1 + n_q): only the tokens of the last ones are known.

    After E positions the tokens of position E are in its cache, and those of the frame there that come later.
    """
    longest, count = max(config.delays), len(voice.embeddings)
    slots = longest + 3
    width, shape, dim = voice.embeddings.shape[1], voice.cache.shape, config.transformer.dim
    if shape != (1 + config.n_q, slots) or width != dim:
        raise CheckpointError(
            f"this voice is of another model: its embeddings are {width} wide and its cache is {shape}, "
            f"but {dim} and {(1 + config.n_q, slots)} expected"
        )
    cards = np.array([config.text_card] + [config.card] * config.n_q)
    streams = np.full((count + 1, 1 + config.n_q), UNKNOWN)
    for frame in range(max(0, count - longest), count + 1):
        places = (frame + np.array(config.delays)) % slots
        streams[frame] = voice.cache[np.arange(1 + config.n_q), places]
        if (streams[frame] < 0).any() or (streams[frame] > cards).any():
            raise CheckpointError("this voice is damaged: its cache holds tokens that the model does not have")
    return streams
