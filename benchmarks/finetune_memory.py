"""What memory an adapter's training takes for each layer: MLX's peak at several depths, and the line through them.

    scripts/with_blas.sh python benchmarks/finetune_memory.py [--widths 128 256] [--layers 2 4 8] [--seconds 20]
        [--rank 64] [--kind float32|bfloat16|q4] [--json]

Everything but widths and layers is Moshi 7B's: heads, vocabularies, depth steps and layers; the depth transformer
is narrower by as much. Weights, values and both moments are counted; of what else there is at the peak, a
line through the depths gives bytes a layer and bytes besides, and one through the widths gives both at 7B's, 4096.
`finetune/estimate.py` says the same from shapes. On a CPU, 7B's own width or bfloat16 takes too long.
"""

import argparse
import gc
import json
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.bench.scene import scene
from moshi_mlx.finetune.estimate import activation_bytes
from moshi_mlx.finetune.loss import make_batch
from moshi_mlx.finetune.parameters import train_adapter
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.streams import window_frames
from moshi_mlx.finetune.trainer import Trainer
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import Lm

FULL = LmConfig.from_dict(MOSHI_7B)
KINDS = {"bfloat16": mx.bfloat16, "float32": mx.float32, "q4": mx.bfloat16}


def narrow(width: int, layers: int) -> LmConfig:
    """Moshi 7B's config at another width and depth."""
    share = width / FULL.transformer.dim
    sizes = {name: round(MOSHI_7B[name] * share) for name in ("depformer_dim", "depformer_dim_feedforward")}
    return LmConfig.from_dict({**MOSHI_7B, **sizes, "dim": width, "num_layers": layers})


def left_at_peak(config: LmConfig, settings: Settings, kind: str) -> int:
    """MLX's peak in a step, in bytes, without weights, values and moments."""
    lm = Lm(config, KINDS[kind])
    lm.set_dtype(KINDS[kind])
    if kind == "q4":
        nn.quantize(lm, 32, 4)
    mx.eval(lm.parameters())
    weights = parameter_bytes(lm)
    trained = train_adapter(lm, settings.lora_rank, settings.lora_scaling)
    lm.activation_dtype = KINDS[kind]
    trainer = Trainer(lm, trained, settings)
    frames = window_frames(settings.seconds)
    codes = np.random.RandomState(0).randint(0, config.card, (1, 1 + config.n_q, frames))
    batch = make_batch(codes, config)
    mx.reset_peak_memory()
    trainer.learn(batch)
    peak = mx.get_peak_memory()
    left = peak - weights - 3 * 4 * trainer.count
    del trainer, trained, lm
    gc.collect()
    mx.clear_cache()
    return left


def line(x: list[float], y: list[float]) -> tuple[float, float]:
    """The straight line nearest to points: its slope, and its height at 0."""
    slope, height = np.polyfit(x, y, 1)
    return float(slope), float(height)


def measure(widths: list[int], layers: list[int], settings: Settings, kind: str) -> dict[str, Any]:
    """Peaks, the lines through them, and 7B's."""
    item = 4 if kind == "float32" else 2
    rows, slopes, heights = [], [], []
    for width in widths:
        found = [left_at_peak(narrow(width, count), settings, kind) for count in layers]
        slope, height = line(list(map(float, layers)), list(map(float, found)))
        slopes.append(slope)
        heights.append(height)
        said = [activation_bytes(narrow(width, count), settings, item) for count in layers]
        rows.append({"width": width, "layers": layers, "left": found, "estimate": said})
    each, above = line(list(map(float, widths)), slopes)
    rest, under = line(list(map(float, widths)), heights)
    a_layer, besides = each * FULL.transformer.dim + above, rest * FULL.transformer.dim + under
    return {
        "what": f"adapter of rank {settings.lora_rank}, window of {settings.seconds:g} s, {kind}",
        "rows": rows,
        "bytes_a_layer_at_4096": round(a_layer),
        "bytes_besides_at_4096": round(besides),
        "7b_left_gb": round((a_layer * FULL.transformer.num_layers + besides) / 1e9, 2),
        "7b_estimate_gb": round(activation_bytes(FULL, settings, item) / 1e9, 2),
        "7b_adapter_gb": round(4 * 4 * train_adapter(Lm(FULL), settings.lora_rank, 2.0).count / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--kind", choices=list(KINDS), default="float32")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settings = Settings(seconds=given.seconds, lora_rank=given.rank)
    result = measure(given.widths, given.layers, settings, given.kind) | {"scene": scene()}
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
