"""Does a change leave what a model says as it was? A candidate against a reference, on the same tokens.

The reference has conversations with recordings. Both models then read the streams of these conversations, and
their distributions of every token are compared (see `metrics`). Recipes, checkpoints, an int8 window, codecs and
samplers are evaluated alike; `candidates` says how they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.machine import APPLE_BANDWIDTH
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes, weight_bytes
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.planning.planner import frame_ms, size_of
from moshi_mlx.quality.candidates import Candidate, dense_twin, load_candidate
from moshi_mlx.quality.conversations import TOGETHER, Conversation, hear_recordings, steps_to_hear, talk
from moshi_mlx.quality.metrics import Bootstrap, Differences, Estimate, Sampler, compare
from moshi_mlx.quality.predictions import Prediction, predict
from moshi_mlx.runtime.sampling import RowSettings, filtered_logits
from moshi_mlx.sampling_config import SamplingConfig


@dataclass(frozen=True)
class StreamQuality:
    """One stream. top1: share of steps with the same likeliest token. Perplexities are of the tokens drawn."""

    stream: str  # "text", "code 0", ...
    kl: Estimate
    top1: Estimate
    reference_perplexity: float
    perplexity_delta: Estimate
    changed: Estimate


@dataclass(frozen=True)
class Quality:
    """A candidate's figures. KL: nats a step; `kl` is the sum over streams, the divergence of whole steps.

    hidden_error: of the temporal transformer's output, relative. bytes: of all weights. bytes_per_frame: read each
    frame, a full window included, which bounds the predicted frame times (ms, by chip).
    same_codes: share of the user's codes that another codec gives alike.
    """

    candidate: str
    steps: int
    bytes: int
    bytes_per_frame: int
    frame_ms: dict[str, float]
    kl: Estimate
    kl_text: Estimate
    kl_audio: Estimate
    top1_text: Estimate
    top1_audio: Estimate
    changed: Estimate
    hidden_error: Estimate
    same_codes: float | None
    streams: tuple[StreamQuality, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)


class Evaluator:
    """A reference, its conversations, and what it expects at each of their steps.

    recordings: (samples,) float32 at 24 kHz each. seed: of the draws. sampling: the checkpoint's own unless given.
    codec: "rust", "mlx" or "auto". advance: told of every step heard, said or read, see `steps_to_evaluate`.
    batch: recordings that are heard and answered at a time.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        recordings: Sequence[np.ndarray],
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        codec: str = "auto",
        advance: Callable[[int], None] = lambda steps: None,
        batch: int = TOGETHER,
    ) -> None:
        self.checkpoint = checkpoint
        self.sampling = sampling or checkpoint.sampling
        self._recordings, self._advance, self._batch = recordings, advance, batch
        heard = hear_recordings(checkpoint, recordings, codec, advance, batch)
        lm = checkpoint.load_lm(mx.float32)
        widen_on_cpu(lm)
        self.conversations = talk(lm, heard, self.sampling, seed, advance, batch)
        if mx.default_device() == mx.cpu:
            dense_twin(lm)
        self.measured = Measured(lm, self.conversations, advance)

    def evaluate(self, candidate: Candidate, offline: bool = False) -> Quality:
        """Compare a candidate with the reference. Raises what `load_candidate` and the codec raise."""
        conversations, same_codes = self.conversations, None
        if candidate.codec:
            heard = hear_recordings(self.checkpoint, self._recordings, candidate.codec, self._advance, self._batch)
            pairs = list(zip(conversations, heard, strict=True))
            same_codes = float(np.concatenate([(a.heard == b)[1:] for a, b in pairs]).mean())
            conversations = [Conversation(codes, one.said) for one, codes in pairs]
        lm = load_candidate(candidate, self.checkpoint, offline)
        sizes = parameter_bytes(lm), weight_bytes(lm)
        if mx.default_device() == mx.cpu and candidate.activations == "f32":
            dense_twin(lm)
        config = lm.config
        samplers = (
            sampler(self.sampling, config),
            sampler(SamplingConfig(**{**asdict(self.sampling), **candidate.sampling}), config),
        )
        differences = self.measured.differences(lm, conversations, candidate.kv_bits, samplers)
        window = size_of(config).window_bytes(config.transformer.context, candidate.kv_bits or 16)
        return figures(candidate.name, differences, sizes[0], round(sizes[1] + window), same_codes)


def steps_to_evaluate(recordings: Sequence[np.ndarray], candidates: Sequence[Candidate]) -> int:
    """Return how many steps an `Evaluator` of all candidates will count."""
    return steps_to_hear(recordings) * (
        2 + len(candidates) + sum(candidate.codec is not None for candidate in candidates)
    )


class Measured:
    """What a model expects at every step of some conversations; others are measured against it."""

    def __init__(
        self, lm: Lm, conversations: Sequence[Conversation], advance: Callable[[int], None] = lambda steps: None
    ) -> None:
        self.conversations = conversations
        self._advance = advance
        self._expected: list[list[Prediction]] = [list(predict(lm, one)) for one in conversations]

    def differences(
        self,
        lm: Lm,
        conversations: Sequence[Conversation] | None = None,
        kv_bits: int | None = None,
        samplers: tuple[Sampler, Sampler] | None = None,
        same_temporal: bool = False,
    ) -> Differences:
        """Return how far `lm` is from the model measured, step by step.

        conversations: what it reads instead, of the same lengths. same_temporal: it has the same hidden states.
        """
        parts = []
        for expected, one in zip(self._expected, conversations or self.conversations, strict=True):
            start, hidden = 0, [each.hidden for each in expected] if same_temporal else None
            for ours, theirs in zip(expected, predict(lm, one, kv_bits, hidden), strict=True):
                steps = len(ours.hidden)
                parts.append(compare(ours, theirs, one.said[start : start + steps], samplers))
                start += steps
                self._advance(steps)
        return Differences.joined(parts)

    def kl(self, lm: Lm, same_temporal: bool = False) -> float:
        """Return the divergence of `lm` in nats a step, all streams together."""
        return float(self.differences(lm, same_temporal=same_temporal).kl.sum(axis=1).mean())


def sampler(config: SamplingConfig, lm: LmConfig) -> Sampler:
    """Return the probabilities that a sampler draws from, but for the repetition penalty, which needs the past."""

    def probabilities(logs: np.ndarray, stream: int) -> np.ndarray:
        kind, vocabulary = ("audio", lm.card) if stream else ("text", lm.text_classes)
        settings = RowSettings([config] * len(logs), kind, vocabulary)
        if not settings.features.sampled:
            return (np.arange(vocabulary) == logs.argmax(axis=-1)[:, None]).astype(np.float32)
        return np.array(
            mx.softmax(filtered_logits(mx.array(logs), settings.features, mx.array(settings.values)), axis=-1)
        )

    return probabilities


def figures(name: str, differences: Differences, size: int, read: int, same_codes: float | None = None) -> Quality:
    """Sum up a candidate's differences over all steps. size, read: bytes of its weights, bytes read per frame."""
    sure = Bootstrap(len(differences.hidden))
    kl, same = differences.kl, differences.same
    streams = []
    for index in range(kl.shape[1]):
        reference = differences.reference_loss[:, index]
        streams.append(
            StreamQuality(
                stream=f"code {index - 1}" if index else "text",
                kl=sure.estimate(kl[:, index]),
                top1=sure.estimate(same[:, index]),
                reference_perplexity=float(np.exp(reference.mean())),
                perplexity_delta=sure.estimate(
                    reference, differences.loss[:, index], of=lambda ours, theirs: np.exp(theirs) - np.exp(ours)
                ),
                changed=sure.estimate(differences.changed[:, index]),
            )
        )
    audio = same[:, 1:].mean(axis=1) if same.shape[1] > 1 else np.ones(len(same))
    return Quality(
        candidate=name,
        steps=len(kl),
        bytes=size,
        bytes_per_frame=read,
        frame_ms={chip: frame_ms(read, speed) for chip, speed in bandwidths().items()},
        kl=sure.estimate(kl.sum(axis=1)),
        kl_text=sure.estimate(kl[:, 0]),
        kl_audio=sure.estimate(kl[:, 1:].sum(axis=1)),
        top1_text=sure.estimate(same[:, 0]),
        top1_audio=sure.estimate(audio),
        changed=sure.estimate(differences.changed.mean(axis=1)),
        hidden_error=sure.estimate(differences.hidden),
        same_codes=same_codes,
        streams=tuple(streams),
    )


def bandwidths() -> dict[str, float]:
    """Return the memory bandwidth of Apple's chips in GB/s, of chips sold in several widths by their GPU cores."""
    return {
        f"{chip} {cores} cores" if cores else chip: speed
        for chip, widths in APPLE_BANDWIDTH.items()
        for cores, speed in (widths if isinstance(widths, dict) else {0: widths}).items()
    }
