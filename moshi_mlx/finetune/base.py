"""The model that a training begins from: whether it can be trained so, and all of it in memory."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.frames import FRAME_RATE
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.weights.lm_weights import LmWeights

MLX_VERSION = version("mlx")


def check_model(checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise ConfigError for a model that cannot be trained so; needs its files' headers only."""
    config = checkpoint.lm_config
    if not config.depth:
        raise ConfigError(f"{checkpoint.name} is a speech-to-text model; finetune trains models that speak")
    if config.transformer.cross_attention or config.demux_second_stream or config.n_q == config.dep_q:
        raise ConfigError(f"{checkpoint.name} speaks texts and hears nobody; finetune trains models of two voices")
    frames = settings.seconds * FRAME_RATE
    if frames < max(config.delays) + 2:
        least = (max(config.delays) + 2) / FRAME_RATE
        raise ConfigError(
            f"a window of {settings.seconds:g} s is shorter than the model's delay; give at least {least:g}"
        )
    scheme = checkpoint.scheme
    if not scheme:
        return
    if settings.full:
        raise ConfigError(
            f"{checkpoint.name} is quantized, {scheme}: --full trains dense weights; start from bf16, "
            "or train an adapter (leave --full out)"
        )
    known = tuple(int(part) for part in MLX_VERSION.split(".")[:3] if part.isdigit())
    if known < (0, 32, 1):
        raise ConfigError(
            f"{checkpoint.name} is quantized, and gradients through quantized weights are wrong in MLX "
            f"{MLX_VERSION} where widths are no multiple of 64; install mlx 0.32.1 or later, or start from bf16"
        )


def load_for_training(checkpoint: Checkpoint, advance: Callable[[int], None] = lambda count: None) -> Lm:
    """Load a model with everything its file holds, also depth steps that a conversation never runs."""
    block = checkpoint.settings.get("quantization")
    lm = LmWeights(checkpoint.lm_weights, checkpoint.lm_config.as_stored, block).load(advance=advance)
    widen_on_cpu(lm)
    return lm
