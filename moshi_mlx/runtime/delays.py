"""The delays between the streams of one conversation: each lies some positions behind the one without delay."""

from __future__ import annotations

import numpy as np

from moshi_mlx.models.config import LmConfig

NOT_GENERATED = -2  # "no value yet", PyTorch's `ungenerated_token_id`


class DelayLine:
    """Tokens of one conversation on their way between the codec's frames and the model's positions, as plain ints.

    The model reads stream i `delays[i]` positions later than a stream without delay. Position p of a stream
    without delay holds frame p - 1; positions up to a stream's delay hold its initial token. The user's frame t
    is written and read within the same step t. Source: moshi/models/lm.py `LMGen._step`.
    """

    def __init__(self, config: LmConfig) -> None:
        self._speaks = config.dep_q > 0
        self._delays = np.array(config.delays, dtype=np.int32)
        self._initial = np.array([config.text_card] + [config.card] * config.n_q, dtype=np.int32)
        self._longest = max(config.delays)  # frames
        self._slots = self._longest + 2
        self._ring = np.full((1 + config.n_q, self._slots), NOT_GENERATED, dtype=np.int32)
        self._streams = np.arange(1 + config.n_q)
        self._generated = slice(1, 1 + config.dep_q)
        self._user = slice(1 + config.dep_q, None)
        self.step = 0

    def inputs(self, user_codes: np.ndarray) -> np.ndarray:
        """Take the user's codes of this step and give the tokens the model reads at it.

        user_codes: (n_q - dep_q,) int. Returns (1 + n_q,) int32, [text, generated streams, user streams].
        """
        at = (self.step + self._delays[self._user]) % self._slots
        self._ring[self._streams[self._user], at] = user_codes
        return np.where(self.step <= self._delays, self._initial, self._ring[:, self.step % self._slots])

    def accept(self, text: int, codes: np.ndarray) -> np.ndarray | None:
        """Take what the model generated at this step and end the step.

        text: token id. codes: (dep_q,) int. Returns the codes of the newest complete frame, (dep_q,) int32,
        or None while the delay fills and for models that generate no audio.
        """
        self.step += 1
        here = self.step % self._slots
        self._ring[0, here] = text
        self._ring[self._generated, here] = codes
        if self.step <= self._longest or not self._speaks:
            return None
        at = (self.step - self._longest + self._delays[self._generated]) % self._slots
        return self._ring[self._streams[self._generated], at].copy()
