"""How far two models are apart, step by step, and how sure that is. Only numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np

from moshi_mlx.quality.predictions import Prediction

BLOCK = 25  # steps, 2 s: neighbours belong to the same words
ROUNDS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Differences:
    """A candidate against the reference, step by step, (T, streams) each, text first.

    kl: divergence of the candidate's distribution from the reference's, nats. same: 1 where both have the same
    likeliest token. reference_loss, loss: nats for the token that was drawn. changed: the share of draws that
    must come out different (total variation of what the samplers draw from). hidden: (T,), length of the
    difference of the hidden states relative to the reference's.
    """

    kl: np.ndarray
    same: np.ndarray
    reference_loss: np.ndarray
    loss: np.ndarray
    changed: np.ndarray
    hidden: np.ndarray

    @classmethod
    def joined(cls, parts: Iterable[Differences]) -> Differences:
        """Join the differences of successive segments."""
        parts = list(parts)
        names = [one.name for one in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


Sampler = Callable[[np.ndarray, int], np.ndarray]
"""(log-probabilities (T, vocabulary), stream) -> the probabilities that are drawn from."""


def compare(
    reference: Prediction,
    candidate: Prediction,
    said: np.ndarray,
    samplers: tuple[Sampler, Sampler] | None = None,
) -> Differences:
    """Compare two predictions of the same steps. said: (T, streams), the tokens drawn there.

    samplers: the reference's and the candidate's; without, `changed` is 0.
    """
    kl, same, reference_loss, loss, changed = ([] for _ in range(5))
    for stream, (ours, theirs) in enumerate(zip(reference.logs, candidate.logs, strict=True)):
        # sum p (q/p - 1 - log(q/p)) is the same for distributions, and no term of it is negative: what models
        # that are nearly alike differ by would drown in the rounding of sum p log(p/q).
        ratio = theirs.astype(np.float64) - ours
        kl.append(np.sum(np.exp(ours) * (np.expm1(ratio) - ratio), axis=-1))
        same.append(ours.argmax(axis=-1) == theirs.argmax(axis=-1))
        drawn = said[:, stream, None]
        reference_loss.append(-np.take_along_axis(ours, drawn, axis=-1)[:, 0])
        loss.append(-np.take_along_axis(theirs, drawn, axis=-1)[:, 0])
        if samplers:
            apart = np.abs(samplers[0](ours, stream) - samplers[1](theirs, stream))
            changed.append(apart.sum(axis=-1, dtype=np.float64) / 2)
        else:
            changed.append(np.zeros(len(said)))
    length = np.linalg.norm(reference.hidden, axis=-1)
    hidden = np.linalg.norm(candidate.hidden - reference.hidden, axis=-1) / np.maximum(length, 1e-9)

    def column(streams: list[np.ndarray]) -> np.ndarray:
        return np.stack(streams, axis=1).astype(np.float64)

    return Differences(
        kl=column(kl),
        same=column(same),
        reference_loss=column(reference_loss),
        loss=column(loss),
        changed=column(changed),
        hidden=hidden.astype(np.float64),
    )


class Bootstrap:
    """Confidence intervals of what is computed from means over steps.

    Whole blocks of neighbouring steps are drawn again, around the end: steps are not independent.
    Source: Politis and Romano, 1992, the circular block bootstrap.
    """

    def __init__(self, steps: int, block: int = BLOCK, rounds: int = ROUNDS, seed: int = 0) -> None:
        block = min(block, steps)
        starts = np.random.default_rng(seed).integers(0, steps, (rounds, -(-steps // block)))
        drawn = ((starts[..., None] + np.arange(block)) % steps).reshape(rounds, -1)[:, :steps]
        counts = np.zeros((rounds, steps))
        np.add.at(counts, (np.arange(rounds)[:, None], drawn), 1)
        self._weights = counts / steps

    def estimate(self, *columns: np.ndarray, of: Callable[..., np.ndarray] = lambda mean: mean) -> Estimate:
        """Estimate a function of the means of some (T,) columns; `of` is the mean itself unless given."""
        value = of(*(column.mean() for column in columns))
        drawn = of(*(self._weights @ column for column in columns))
        edge = (1 - CONFIDENCE) / 2
        low, high = np.quantile(drawn, [edge, 1 - edge])
        return Estimate(float(value), float(low), float(high))
