"""The report of `moshi-mlx bench`: a model, loaded or made, and what its frames took."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from moshi_mlx.bench.measure import PARTS_FRAMES, WARM_UP, Watch, Workload, measure
from moshi_mlx.bench.report import SCHEMA
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.shapes import kind_named, random_lm, shape
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.codec.load import load_codec
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models import add_norm
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.runtime.moshi import Moshi, assemble
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.weights.progress import Progress, progress_bar

DEFAULT_SHAPE = "moshi-7b"
DEFAULT_KIND = "q4"


def times_report(
    *,
    model: str | None = None,
    shape_name: str = DEFAULT_SHAPE,
    kind: str | None = None,
    codec: str | None = None,
    frames: int = 100,
    contexts: Sequence[int] | None = (0,),
    batch: int = 1,
    repeat: int = 1,
    kv_bits: int | None = None,
    paced: bool = False,
    sustained: float | None = None,
    keep: bool = False,
    offline: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Measure a checkpoint, or random weights of a shape: in a burst, and paced too if asked.

    kind: of random weights, see `shapes.KINDS`; of a checkpoint it is only checked.
    codec: "rust", "mlx", "auto" or "none" (default: none for random weights). kv_bits: as for `Moshi`.
    contexts: None is an empty and a full window. repeat: measure each run so often, report the one in the middle.
    sustained: seconds of one paced run, in place of all others. keep: report the time of every frame.
    tell: told how long it will take. progress: as for `progress_bar`.
    Raises ConfigError for a workload that the model cannot do, and as `Checkpoint.resolve` and `load_codec`.
    """
    where = scene()  # before the load of the measurement itself shows in the load average
    start = time.perf_counter()
    modes = (False, True) if paced else (False,)
    if sustained:
        frames, modes = max(1, round(sustained / FRAME_SECONDS)), (True,)
    checkpoint = Checkpoint.resolve(model, quantization=kind, offline=offline) if model else None
    config = checkpoint.lm_config if checkpoint else LmConfig.from_dict(shape(shape_name))
    if contexts is None:
        contexts = (0,) if sustained else (0, config.transformer.context)
    workloads = [Workload(frames, context, batch, mode, keep) for context in contexts for mode in modes]
    for workload in workloads:  # before anything large is loaded or made
        workload.check(config)
    if checkpoint:
        name, kind = checkpoint.name, str(checkpoint.scheme or "not quantized")
        moshi = _loaded(checkpoint, codec or "auto", kv_bits)
    else:
        name, kind = shape_name, kind_named(kind or DEFAULT_KIND)
        moshi = _random(config, kind, codec or "none", kv_bits)
    ready = time.perf_counter() - start
    total = repeat * sum(workload.frames for workload in workloads)
    with progress_bar("measuring", total, progress, "frames") as advance:
        watch = Watch(_estimate(workloads, repeat, tell), advance)
        runs = [_repeated(moshi, workload, repeat, where["bandwidth_GB_per_s"], watch) for workload in workloads]
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
            "own_kernels": [str(trial) for trial in add_norm.trials.values()],
            "tokens_per_frame": 1 + moshi.lm.config.dep_q,
            "ready_seconds": round(ready, 2),
        },
        "runs": runs,
        "passed": all(run["passed"] for run in runs),
    }


def _repeated(
    moshi: Moshi, workload: Workload, repeat: int, bandwidth: float | None, watch: Watch
) -> dict[str, Any]:
    """Measure a workload several times: the run in the middle, with what all took. It passes if all of them do."""
    runs = [measure(moshi, workload, bandwidth, watch) for _ in range(repeat)]
    middle = sorted(runs, key=lambda run: run["frame"]["p50_ms"])[(repeat - 1) // 2]
    return {**middle, "repeats": [run["frame"] for run in runs], "passed": all(run["passed"] for run in runs)}


def _estimate(workloads: Sequence[Workload], repeat: int, tell: Callable[[str], None]) -> Callable[[float], None]:
    """Return what tells, once, how long all workloads will take, from what a frame takes about."""
    told = False

    def expect(seconds: float) -> None:
        nonlocal told
        if told:
            return
        told = True
        frames = [workload.frames * max(seconds, FRAME_SECONDS * workload.paced) for workload in workloads]
        around = len(workloads) * seconds * (WARM_UP + PARTS_FRAMES)  # before and after those that count
        count, about = len(workloads) * repeat, repeat * (sum(frames) + around)
        shown = f"{about / 60:.0f} minutes" if about > 90 else f"{max(1, about):.0f} s"
        tell(f"{count} run{'s' * (count > 1)} of {workloads[0].frames} frames, about {shown}")

    return expect


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
