"""The prompts that clients may ask for, where the server's model takes one."""

from __future__ import annotations

from typing import Any

import numpy as np

from moshi_mlx.checkpoint.voices import Voices
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.tasks.persona import Role, build, steady_codes, tagged, voice_codes


class Prompts:
    """Made on the model's thread, for the codec may be in MLX; after that, all may be called from any thread.

    voices: those that clients may name; files they may not. role: for clients that ask for nothing.
    """

    def __init__(self, moshi: Moshi, voices: Voices, role: Role) -> None:
        self._config, self._tokenizer = moshi.lm.config, moshi.tokenizer
        self._quiet, self._tone = steady_codes(moshi)
        own = role.voice
        self._voice = voice_codes(moshi, own) if isinstance(own, np.ndarray) else own
        self._text, self._voices = role.text, voices
        self.about: dict[str, Any] = {"voices": voices.names, "persona": role.text}

    def prompt(self, voice: str = "", text: str = "") -> Prompt:
        """Return the prompt for a voice by name and a role, the server's own where they are empty.

        Raises CheckpointError for a voice that is not there, ConfigError for a role that is too long.
        """
        chosen = self._voices.read(voice) if voice else self._voice
        text = (text or self._text).strip()
        tokens = self._tokenizer.encode(tagged(text)) if text else []
        prompt = build(self._config, tokens, chosen, self._quiet, self._tone)
        prompt.check(self._config)
        return prompt
