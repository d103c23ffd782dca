"""The report of `moshi-mlx bench`: a model, loaded or made, and what its frames took."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moshi_mlx.bench.measure import Workload, measure
from moshi_mlx.bench.report import SCHEMA
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.shapes import random_lm, shape
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.codec.load import load_codec
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.runtime.moshi import Moshi, assemble
from moshi_mlx.runtime.wordless import wordless

DEFAULT_SHAPE = "moshi-7b"
DEFAULT_KIND = "q4"


def times_report(
    *,
    model: str | None = None,
    shape_name: str = DEFAULT_SHAPE,
    kind: str | None = None,
    codec: str | None = None,
    frames: int = 100,
    contexts: Sequence[int] = (0,),
    batch: int = 1,
    kv_bits: int | None = None,
    paced: bool = False,
    sustained: float | None = None,
    keep: bool = False,
    offline: bool = False,
) -> dict[str, Any]:
    """Measure a checkpoint, or random weights of a shape: in a burst, and paced too if asked.

    kind: of random weights, see `shapes.KINDS`; of a checkpoint it is only checked.
    codec: "rust", "mlx", "auto" or "none" (default: none for random weights). kv_bits: as for `Moshi`.
    sustained: seconds of one paced run, in place of all others. keep: report the time of every frame.
    Raises ConfigError for a workload that the model cannot do, and as `Checkpoint.resolve` and `load_codec`.
    """
    where = scene()  # before the load of the measurement itself shows in the load average
    start = time.perf_counter()
    modes = (False, True) if paced else (False,)
    if sustained:
        frames, modes = max(1, round(sustained / FRAME_SECONDS)), (True,)
    workloads = [Workload(frames, context, batch, mode, keep) for context in contexts for mode in modes]
    checkpoint = Checkpoint.resolve(model, quantization=kind, offline=offline) if model else None
    config = checkpoint.lm_config if checkpoint else LmConfig.from_dict(shape(shape_name))
    for workload in workloads:  # before anything large is loaded or made
        workload.check(config)
    if checkpoint:
        name, kind = checkpoint.name, str(checkpoint.scheme or "not quantized")
        moshi = _loaded(checkpoint, codec or "auto", kv_bits)
    else:
        name, kind = shape_name, kind or DEFAULT_KIND
        moshi = _random(config, kind, codec or "none", kv_bits)
    ready = time.perf_counter() - start
    runs = [measure(moshi, workload, where["bandwidth_GB_per_s"]) for workload in workloads]
    return {
        "schema": SCHEMA,
        "scene": where,
        "model": {
            "name": name,
            "kind": kind,
            "random": not model,
            "parameter_bytes": parameter_bytes(moshi.lm),
            "kv_bits": moshi.kv_bits,
            "activations": str(moshi.lm.activation_dtype).removeprefix("mlx.core."),
            "tokens_per_frame": 1 + moshi.lm.config.dep_q,
            "ready_seconds": round(ready, 2),
        },
        "runs": runs,
    }


def _loaded(checkpoint: Checkpoint, codec: str, kv_bits: int | None) -> Moshi:
    if codec != "none":
        return assemble(checkpoint, codec, kv_bits)
    lm = checkpoint.load_lm()
    widen_on_cpu(lm)
    return wordless(lm, kv_bits=kv_bits)


def _random(config: LmConfig, kind: str, codec: str, kv_bits: int | None) -> Moshi:
    if codec == "none":
        return wordless(random_lm(config, kind), kv_bits=kv_bits)
    if config.card != MIMI.bins:
        raise ConfigError(f"this shape has {config.card} codes, the published codec {MIMI.bins}; use --codec none")
    folder = tempfile.TemporaryDirectory(prefix="moshi-mlx-bench-")
    path = write_random_checkpoint(Path(folder.name) / "codec", {**TINY, "card": MIMI.bins}, None)
    loaded = load_codec(path / "mimi.safetensors", MIMI, config.codebooks, codec)
    # A codec is read from a file, and keeps needing it where it starts processes of its own.
    weakref.finalize(loaded, folder.cleanup)
    return wordless(random_lm(config, kind), loaded, kv_bits)
