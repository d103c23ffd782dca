"""What a model lives through before a conversation: known frames, as a voice and a role are for PersonaPlex.

Not here: what stands in them (see `tasks.persona`), and how they are run (see `batch.Batch.prefill`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig

SAMPLED = -2  # a token that the model is to generate
PREFILL_POSITIONS = 128  # at once: enough to be bound by arithmetic and not by reading the weights
NO_PROMPT = "this model takes no prompt; PersonaPlex does (--model personaplex)"


@dataclass(frozen=True, eq=False)
class Prompt:
    """The tokens of T frames, none of them delayed: frame t of a stream stands at position t + its delay.

    texts: (T,) int32. codes: (T, dep_q) int32, what the model says. user_codes: (T, n_q - dep_q) int32, what it
    hears. embeddings: (E, dim) float32, what the first E positions read in place of tokens, or None.
    The first frame is nothing to the model: as in any conversation, it reads initial tokens instead.
    """

    texts: np.ndarray
    codes: np.ndarray
    user_codes: np.ndarray
    embeddings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def check(self, config: LmConfig) -> None:
        """Raise ConfigError for a model that takes no prompt, or not this one."""
        if not config.takes_prompt:
            raise ConfigError(NO_PROMPT)
        frames = len(self)
        shapes = (self.texts.shape, self.codes.shape, self.user_codes.shape)
        if shapes != ((frames,), (frames, config.dep_q), (frames, config.input_codebooks)) or frames < 2:
            raise ConfigError(f"the arrays of a prompt have shapes {shapes}, which do not fit this model")
        if frames > config.transformer.context:
            window = config.transformer.context
            raise ConfigError(f"a prompt of {frames} frames is longer than the model's window of {window}")
        if self.embeddings is not None and (
            self.embeddings.ndim != 2
            or self.embeddings.shape[1] != config.transformer.dim
            or not 0 < len(self.embeddings) < frames
        ):
            raise ConfigError(
                f"the embeddings of a prompt have shape {self.embeddings.shape}, "
                f"(frames, {config.transformer.dim}) expected"
            )

    def steps(self, config: LmConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield what every step hears, (n_q - dep_q,), and what it makes, (1 + dep_q,) int32: T - 1 of them.

        The last frame is that of the conversation's first step, which would hear nothing otherwise.
        """
        for step in range(len(self) - 1):
            yield self.user_codes[step], self._made(step, config)

    def ahead(self, config: LmConfig) -> Iterator[np.ndarray]:
        """Yield what the steps after these make as far as it is known, (1 + dep_q,) int32, else SAMPLED.

        Streams with a delay are still busy with the prompt then.
        """
        for step in range(len(self) - 1, len(self) - 1 + max(config.delays)):
            yield self._made(step, config)

    def _made(self, step: int, config: LmConfig) -> np.ndarray:
        """Return the tokens at position step + 1, of text and of the model's own codebooks."""
        frames = step + 1 - np.array(config.delays[: 1 + config.dep_q])
        streams = np.concatenate([self.texts[:, None], self.codes], axis=1)
        known = np.minimum(np.maximum(frames, 0), len(self) - 1)  # before frame 0 nothing reads it
        made = streams[known, np.arange(1 + config.dep_q)]
        return np.where(frames < len(self), made, SAMPLED).astype(np.int32)
