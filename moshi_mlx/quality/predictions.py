"""What a model expects at every step of a given conversation: teacher-forced, many positions at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.models.lm import Lm, LmState
from moshi_mlx.quality.conversations import Conversation

POSITIONS = 256  # read at once: enough that arithmetic is the limit, not reading the weights


@dataclass(frozen=True)
class Prediction:
    """Some steps in a row.

    hidden: (T, dim) float32, the temporal transformer's normed output. logs: log-probabilities of each stream,
    text first, (T, vocabulary) float32.
    """

    hidden: np.ndarray
    logs: tuple[np.ndarray, ...]


def predict(
    lm: Lm,
    conversation: Conversation,
    kv_bits: int | None = None,
    hidden: Sequence[np.ndarray] | None = None,
) -> Iterator[Prediction]:
    """Read a conversation, one segment of POSITIONS steps at a time.

    Each stream is predicted from all tokens before it: of earlier steps, and of the same step's earlier streams.
    kv_bits: 8 keeps the window in int8 and reads all keys and values from there, as single steps do.
    hidden: of every segment, if it is known already; then the temporal transformer does not run.
    """
    config = lm.config
    tokens, said = conversation.tokens(config), conversation.said.T[None]  # (1 + n_q, T), (1, 1 + dep_q, T)
    # In a chunk shorter than the usual one, positions would be attended to as they are, not in int8.
    usual = POSITIONS if kv_bits else 1
    state = LmState(lm.transformer.new_state(1, usual, lm.activation_dtype, kv_bits), [])
    condition = lm.condition()
    for index, start in enumerate(range(0, len(conversation), POSITIONS)):
        part = slice(start, start + POSITIONS)
        if hidden:
            made = mx.array(hidden[index])[None].astype(lm.activation_dtype)
        else:
            made = lm.temporal(mx.array(tokens[None, :, part]), state, condition)
        logits = [lm.text_linear(made)[0]]
        if config.depth:
            audio = lm.depformer.logits(made, mx.array(said[:, :, part]))[0]  # (steps, T, card)
            logits += list(audio)
        logs = [each - mx.logsumexp(each, axis=-1, keepdims=True) for each in _wide(*logits)]
        (wide,) = _wide(made[0])
        mx.eval(wide, logs, state.arrays())
        yield Prediction(np.array(wide), tuple(np.array(each) for each in logs))


def _wide(*arrays: mx.array) -> list[mx.array]:
    return [array.astype(mx.float32) for array in arrays]
