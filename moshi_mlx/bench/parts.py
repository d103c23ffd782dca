"""Times of the parts of `generate`, each waited for; the frames of a measurement itself wait only once."""

from __future__ import annotations

import time
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from moshi_mlx.models.layers import compiled
from moshi_mlx.runtime.sampling import RowSettings, frame_keys, gumbel, sample
from moshi_mlx.runtime.session import Model, Session
from moshi_mlx.runtime.stats import StageTimes


def measure_parts(sessions: list[Session], frames: int) -> dict[str, StageTimes]:
    """Run `frames` more frames of all sessions of a batch, and wait after each part.

    Returns the times of "temporal": embedding and temporal transformer; "depth": heads, depth transformer and all
    draws, after it; "sampling": the draws alone, from logits that are there.
    """
    batch = sessions[0].batch
    moshi, config = batch.moshi, batch.moshi.lm.config
    temporal, depth, sampling = StageTimes(), StageTimes(), StageTimes()
    random = np.random.RandomState(0)
    draw = _draws(moshi, len(sessions))
    draw()  # compiles
    done = 0.0

    def wait(hidden: mx.array) -> None:
        nonlocal done
        mx.eval(hidden)
        done = time.perf_counter()

    moshi.step.watch = wait
    try:
        for _ in range(frames):
            codes = {session: random.randint(0, config.card, config.input_codebooks) for session in sessions}
            start = time.perf_counter()
            batch.generate(codes)
            end = time.perf_counter()
            temporal.add(done - start)
            depth.add(end - done)
            with sampling.measure():
                draw()
    finally:
        moshi.step.watch = None
    return {"temporal": temporal, "depth": depth, "sampling": sampling}


def _draws(moshi: Model, rows: int) -> Callable[[], None]:
    """Return a function that makes all draws of one frame, from random logits, and waits for them."""
    config = moshi.lm.config
    text = RowSettings([moshi.sampling] * rows, "text", config.text_classes)
    audio = RowSettings([moshi.sampling] * rows, "audio", config.card)
    text_logits = mx.random.normal((rows, config.text_classes))
    audio_logits = mx.random.normal((rows, config.card))
    keys = mx.array(frame_keys([(row, 0) for row in range(rows)]))

    def draw(
        text_logits: mx.array,
        audio_logits: mx.array,
        keys: mx.array,
        text_values: mx.array,
        audio_values: mx.array,
    ) -> mx.array:
        noise = gumbel(keys, config.text_classes + config.dep_q * config.card)
        tokens = [sample(text_logits, noise[:, : config.text_classes], text.features, text_values)]
        for start in range(config.text_classes, noise.shape[1], config.card):
            tokens.append(
                sample(audio_logits, noise[:, start : start + config.card], audio.features, audio_values)
            )
        return mx.stack(tokens)

    run = compiled(draw)
    arguments = text_logits, audio_logits, keys, mx.array(text.values), mx.array(audio.values)
    mx.eval(arguments)
    return lambda: mx.eval(run(*arguments))
