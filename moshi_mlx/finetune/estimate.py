"""What a training will need, worked out before anything is loaded: bytes of memory, and time.

Bytes are counted from shapes; what a layer holds inside it is an upper estimate. Times follow from how fast this
machine multiplies matrices, tried for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import mlx.core as mx

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.parameters import train_adapter, train_all
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.streams import window_frames
from moshi_mlx.machine import this_machine
from moshi_mlx.models.config import LmConfig, TransformerConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.planning.planner import Budget, size_of

REACHED = 0.4  # share of a bare product's speed that training reaches
_SIZES = {False: 256, True: 2048}  # of the matrices tried, on a CPU and on a GPU
_INSIDE = 14  # times a layer's width: what attention and norms keep for the way back, per position


@dataclass(frozen=True)
class Estimate:
    """What a training needs, in bytes.

    trained: numbers that are trained. weights: of the model. optimizer: values, gradients and both moments.
    activations: of the windows in memory at once. work: multiply-adds of a step.
    """

    trained: int
    weights: int
    optimizer: int
    activations: int
    work: int

    @property
    def memory(self) -> int:
        """All bytes at the peak."""
        return self.weights + self.optimizer + self.activations

    def as_dict(self) -> dict[str, float]:
        """Return everything, ready for JSON."""
        return {**asdict(self), "memory": self.memory}


def estimate(checkpoint: Checkpoint, settings: Settings) -> Estimate:
    """Work out what a training needs."""
    config = checkpoint.lm_config.as_stored
    lm = Lm(config)  # lazy: only shapes are looked at
    trained = train_all(lm) if settings.full else train_adapter(lm, settings.lora_rank, settings.lora_scaling)
    item = 4 if mx.default_device() == mx.cpu else 2
    size = size_of(config)
    # Forward once, backward once for what comes in and once for weights that are trained; forward again.
    passes = 1 + 1 + settings.full + settings.checkpointing
    work = size.per_frame * passes * settings.batch * window_frames(settings.seconds)
    return Estimate(
        trained=trained.count,
        weights=checkpoint.weights.nbytes,
        optimizer=4 * 4 * trained.count,
        activations=activation_bytes(config, settings, item),
        work=work,
    )


def activation_bytes(config: LmConfig, settings: Settings, item: int) -> int:
    """Return the bytes that the windows in memory at once take. item: bytes of an activation."""
    positions = (settings.rows or settings.batch) * window_frames(settings.seconds)
    return round(positions * _per_position(config, settings.checkpointing, item))


def _per_position(config: LmConfig, checkpointing: bool, item: int) -> float:
    """Return the bytes that one position holds for the way back.

    The depth transformer's layers count in full: there MLX's peak is the same with and without checkpoints (0.32.4
    on a CPU, benchmarks/finetune_memory.py).
    """
    depth = config.depth
    assert depth, "a model that speaks"
    stacks = [(config.transformer, 1, checkpointing), (depth.transformer, depth.steps, False)]
    held = 0.0
    for stack, steps, again in stacks:
        inside = _INSIDE * stack.dim + 4 * stack.ffn_hidden
        layers = stack.num_layers * stack.dim + inside if again else stack.num_layers * inside
        held += steps * layers * item
    logits = config.text_card + depth.steps * config.card
    return held + 3 * 4 * logits + item * _scores(config.transformer)


def _scores(transformer: TransformerConfig) -> float:
    return 3 * transformer.num_heads * min(transformer.context, 1250)  # attention weights of one layer


def step_seconds(need: Estimate) -> float:
    """Estimate how long a step takes, from how fast this machine multiplies in the type that it trains in."""
    gpu = mx.default_device() == mx.gpu
    size = _SIZES[gpu]
    one = mx.random.normal((size, size)).astype(mx.bfloat16 if gpu else mx.float32)
    mx.eval(one @ one)
    begin = time.perf_counter()
    mx.eval([(one + count) @ one for count in range(3)])
    speed = 3 * size**3 / (time.perf_counter() - begin)
    return need.work / (speed * REACHED)


def check_fits(checkpoint: Checkpoint, settings: Settings, memory: int | None = None) -> Estimate:
    """Return what a training needs. memory: bytes of this machine, asked unless given.

    Raises ConfigError, with settings that would fit, where it cannot hold it.
    """
    if memory is None:
        memory = this_machine().memory_for_models(cuda=mx.cuda.is_available())
    budget = Budget(memory, None)
    need = estimate(checkpoint, settings)
    if budget.fits(need.memory):
        return need
    problem = (
        f"training needs {need.memory / 1e9:.1f} GB, more than this machine of {memory / 1e9:.0f} GB can give"
    )
    for words, other in _smaller(settings):
        smaller = estimate(checkpoint, other)
        if budget.fits(smaller.memory):
            raise ConfigError(f"{problem}; {words} would need {smaller.memory / 1e9:.1f} GB")
    raise ConfigError(f"{problem}, also with the smallest settings; take a quantized base, or a smaller model")


def _smaller(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Give settings that need less and less, and how they are asked for."""
    words: list[str] = []
    if not settings.checkpointing:
        settings = replace(settings, checkpointing=True)
        words.append("--checkpointing")
        yield " ".join(words), settings
    if (settings.rows or settings.batch) > 1:
        settings = replace(settings, rows=1)
        words.append("--rows 1")
        yield " ".join(words), settings
    if settings.full:
        settings = replace(settings, full=False)
        words.append("an adapter instead of --full")
        yield " ".join(words), settings
    for seconds in (50.0, 20.0, 10.0):
        if seconds < settings.seconds:
            yield " ".join([*words, f"--seconds {seconds:g}"]), replace(settings, seconds=seconds)
    smallest = replace(settings, seconds=min(settings.seconds, 10.0), lora_rank=min(settings.lora_rank, 16))
    yield " ".join([*words, f"--seconds {smallest.seconds:g} --lora-rank {smallest.lora_rank}"]), smallest
