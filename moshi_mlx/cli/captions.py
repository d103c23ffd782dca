"""A speech-to-text model beside the one that talks, on the same machine: `chat --captions`, `serve --captions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import mlx.core as mx

from moshi_mlx.cli.members import SttModelOptions
from moshi_mlx.cli.options import ModelOptions, SamplingOptions
from moshi_mlx.errors import ConfigError
from moshi_mlx.machine import this_machine
from moshi_mlx.planning.planner import MARGIN_BYTES, Budget, frame_ms, held_bytes, size_of
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.captioner import TOGETHER, Captioner
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.screen import Screen

FRAME_MS = 80.0


def captioner_beside(talking: Checkpoint, name: str, model: ModelOptions, screen: Screen) -> Captioner:
    """Load the model that writes down what one person says. Arguments and errors as of `found_beside`."""
    found, options = found_beside(talking, name, model, screen.note)
    screen.say(f"loading {found.name}")
    return Captioner(_loaded(found, options, screen.note))


def captions_beside(
    talking: Checkpoint, name: str, model: ModelOptions, people: int, tell: Callable[[str], None]
) -> Callable[[], CaptionScheduler]:
    """Find the model that writes down what several people say; gives what loads it. As `found_beside`."""
    found, options = found_beside(talking, name, model, tell, people)
    return lambda: CaptionScheduler(_loaded(found, options, tell), people, found.name)


def found_beside(
    talking: Checkpoint, name: str, model: ModelOptions, tell: Callable[[str], None], people: int = 1
) -> tuple[Checkpoint, SttModelOptions]:
    """Find a speech-to-text model that fits beside the one that talks; nothing is loaded.

    model: options of the one that talks. people: how many are heard at once. That time may be short is told.
    Raises ConfigError for a model that speaks, and if both need more memory than the machine can give.
    """
    if not talking.lm_config.depth or talking.lm_config.tts:
        raise ConfigError(f"{talking.name} does not talk: --captions {name} is for models that do; see --stt")
    options = SttModelOptions(model=name, codec=model.codec, kv_bits=model.kv_bits, offline=model.offline)
    found = options.resolve(SamplingOptions(), tell)
    sizes = [(one, size_of(one.lm_config)) for one in (talking, found)]
    windows = [people * size.window_bytes(size.window, model.kv_bits or 16) for _, size in sizes]
    need = MARGIN_BYTES + sum(
        held_bytes(one.weights.nbytes, size, model.kv_bits or 16, people) for one, size in sizes
    )
    budget = machine_budget()
    if not budget.fits(need):
        fewer = ", or let fewer people in" if people > 1 else ""
        raise ConfigError(
            f"{talking.name} and {name} together need {need / 1e9:.1f} GB, more than 70 % of the memory "
            f"({budget.memory / 1e9:.1f} GB); leave out --captions, or talk with a smaller model{fewer}"
        )
    if budget.bandwidth:
        talks, writes = (
            frame_ms(one.weights.nbytes + window, budget.bandwidth)
            for (one, _), window in zip(sizes, windows, strict=True)
        )
        # Each captioner reads the weights by itself, but one that waits reads several frames in a pass.
        if talks + writes * max(1.0, people / TOGETHER) > FRAME_MS:
            tell(f"{name} may have too little time beside {talking.name}: captions may have gaps")
    return found, options


def machine_budget() -> Budget:
    """Return what this machine gives to models."""
    machine = this_machine()
    cuda = machine.gpu is not None and mx.default_device() == mx.gpu
    return Budget(machine.memory_for_models(cuda), machine.bandwidth(cuda))


def _loaded(found: Checkpoint, options: SttModelOptions, tell: Callable[[str], None]) -> Transcriber:
    return Transcriber(options.load(found, tell), SttTiming.from_settings(found.settings))
