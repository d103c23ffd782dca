"""Counts of what one frame costs, the same on every machine and in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.graph import Seen, as_on_a_gpu, counting_traces, watching
from moshi_mlx.bench.report import SCHEMA
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.shapes import kind_named, narrowed, random_lm, shape, skeleton
from moshi_mlx.codec.base import CodecStream
from moshi_mlx.codec.mlx import MlxStreams
from moshi_mlx.frames import FRAME_RATE, silence
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import keep_transposes, weight_bytes
from moshi_mlx.models.lm import Lm
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MimiConfig
from moshi_mlx.planning.planner import size_of
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.tasks.script import Word
from moshi_mlx.tasks.utterance import TextScript, new_feeder
from moshi_mlx.tasks.voice import PLACES

STEADY = 10  # the frame that is looked at: all delays are filled, all code is traced
VOICE_VECTORS = 125  # of a speaker, as published
WIDTH = 128  # what widths are cut to: graphs depend on layers and streams, not on width

PEER = {
    "primitives": 3261,
    "kernels": 1442,
    "plain_primitives": 3261,
    "plain_kernels": 1442,
    "syncs": 21,
    "traces": 0,
    "growth": None,
}
"""moshi_mlx 0.3.0 at Moshi 7B's shape, q4, counted in the same way (its default sampling, MLX 0.32.4)."""


@dataclass(frozen=True)
class Traffic:
    """Bytes read per frame: of weights, and of keys and values of past positions."""

    weights: int
    keys_values: int

    @property
    def total(self) -> int:
        return self.weights + self.keys_values


@dataclass(frozen=True)
class Counts:
    """Counts of one steady frame of one conversation, as a Mac takes it where our own kernels passed their trial.

    primitives: of all that is evaluated. kernels: those that are not views; our own are one each, see
    `models.add_norm`. plain_primitives, plain_kernels: without our own, as any GPU takes it.
    syncs: waits of the host.
    warm_traces: compilations up to the steady frame; traces: in all frames after it.
    growth: bytes that MLX holds more at the last frame than halfway, when the window had long been full.
    kinds: primitive -> how many, most frequent first. traffic: bytes per frame at full width, context -> bytes.
    """

    shape: str
    kind: str
    primitives: int
    kernels: int
    plain_primitives: int
    plain_kernels: int
    syncs: int
    warm_traces: int
    traces: int
    growth: int
    frames: int
    kinds: dict[str, int]
    traffic: dict[int, Traffic]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "peer": PEER if (self.shape, self.kind) == ("moshi-7b", "q4") else None}


def counts_report(name: str, kind: str, frames: int, contexts: Sequence[int] = (0, 3000)) -> dict[str, Any]:
    """Make the report of `bench --counts`. contexts: past positions to tell the bytes for."""
    counted = count(name, shape(name), kind_named(kind), frames, contexts)
    return {"schema": SCHEMA, "scene": scene(), "counts": counted.as_dict()}


def count(
    name: str,
    config: Mapping[str, Any],
    kind: str = "q4",
    frames: int = 200,
    contexts: Sequence[int] = (0, 3000),
) -> Counts:
    """Count a frame of a shape at its full depth and vocabularies but a small width.

    frames: how many are run to look for traces, at least 4; the window is a quarter of them, or a dozen, so that
    it fills and wraps.
    """
    narrow = LmConfig.from_dict(narrowed(config, WIDTH, context=max(STEADY + 2, frames // 4)))
    full = LmConfig.from_dict(config)
    # What is compiled is kept per thread: on a fresh one, everything is compiled where it can be counted.
    with ThreadPoolExecutor(1) as thread:
        seen = thread.submit(_graph, narrow, kind, True).result()
    with ThreadPoolExecutor(1) as thread:
        plain = thread.submit(_graph, narrow, kind, False).result()
    with ThreadPoolExecutor(1) as thread:
        warm, later, growth = thread.submit(_traces, narrow, kind, frames).result()
    return Counts(
        shape=name,
        kind=kind,
        primitives=sum(seen.primitives.values()),
        kernels=seen.kernels,
        plain_primitives=sum(plain.primitives.values()),
        plain_kernels=plain.kernels,
        syncs=seen.syncs,
        warm_traces=warm,
        traces=later,
        growth=growth,
        frames=frames,
        kinds=dict(seen.primitives.most_common()),
        traffic={
            context: traffic(full, kind, context)
            for context in sorted({min(context, full.transformer.context) for context in contexts})
        },
    )


def codec_kernels(config: MimiConfig, rows: int) -> dict[str, int]:
    """Count the kernels of one steady frame of Mimi with so many rows, by direction, as a GPU would run it."""
    with as_on_a_gpu():
        codebooks = min(config.n_q, 8)
        mimi = Mimi(config, codebooks)
        mx.eval(mimi.parameters())
        keep_transposes(mimi)
        streams = MlxStreams(mimi, config.bins)
        people: list[CodecStream] = [streams.stream() for _ in range(rows)]
        frames = {stream: silence() for stream in people}
        codes = {stream: np.zeros(codebooks, np.int32) for stream in people}
        for _ in range(2):
            streams.encode(frames)()
            streams.decode(codes)()
        with watching() as encoded:
            streams.encode(frames)()
        with watching() as decoded:
            streams.decode(codes)()
    return {"encode": encoded.kernels, "decode": decoded.kernels}


def traffic(config: LmConfig, kind: str, context: int, batch: int = 1) -> Traffic:
    """Work out the bytes per frame of a shape from the shapes of its arrays; nothing is allocated.

    kind: of the weights, see `shapes.KINDS`. context: past positions in the window.
    Weights are counted as stored on a GPU; keys and values are bfloat16 unless the weights are float32.
    """
    width = 4 if kind == "f32" else 2  # bytes
    positions = context + (PLACES * VOICE_VECTORS if config.transformer.cross_attention else 0)
    keys_values = batch * positions * size_of(config).per_position * width
    return Traffic(weight_bytes(skeleton(config, kind), batch), keys_values)


def steady_frame(config: LmConfig) -> int:
    """Return which frame is looked at: a text's audio begins only after its delay."""
    return STEADY + (round(config.tts.delay * FRAME_RATE) if config.tts else 0)


def _session(lm: Lm) -> Session:
    """Begin a conversation; with a model that says texts, one of many words."""
    session = wordless(lm).session(seed=1)
    if lm.config.tts:
        feeder = new_feeder(lm.config)
        feeder.words, feeder.complete = [Word("", (5, 6), 2)] * 1000, True
        session.script = TextScript(lm.config, feeder, np.zeros((lm.config.dep_q, 0), np.int32))
    return session


def _graph(config: LmConfig, kind: str, own_kernels: bool) -> Seen:
    with as_on_a_gpu(own_kernels):
        lm = random_lm(config, kind)
        lm.activation_dtype = mx.float32 if kind == "f32" else mx.bfloat16  # as on a GPU: no casts around matmuls
        session = _session(lm)
        *before, steady = _codes(config, steady_frame(config))
        for codes in before:
            session.generate(codes)
        with watching() as seen:
            session.generate(steady)
    assert seen.primitives, "a frame that evaluates nothing"
    return seen


def _traces(config: LmConfig, kind: str, frames: int) -> tuple[int, int, int]:
    """Count traces up to the steady frame, traces after it, and bytes held more at the end than halfway."""
    warm = held = 0
    with counting_traces() as traces:
        session, steady = _session(random_lm(config, kind)), steady_frame(config)
        for index, codes in enumerate(_codes(config, steady + frames)):
            if index == steady:
                warm = traces.total()
            if index == steady + frames // 2:
                held = mx.get_active_memory()
            session.generate(codes)
        growth = mx.get_active_memory() - held
    return warm, traces.total() - warm, growth


def _codes(config: LmConfig, frames: int) -> np.ndarray:
    """Draw random codes of a user, (frames, n_q - dep_q) int."""
    return np.random.RandomState(0).randint(0, config.card, (frames, config.input_codebooks))
