"""A speech-to-text model beside the one that talks, on the same machine: `chat --captions`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from moshi_mlx.cli.members import SttModelOptions
from moshi_mlx.cli.options import ModelOptions, SamplingOptions
from moshi_mlx.errors import ConfigError
from moshi_mlx.machine import this_machine
from moshi_mlx.planning.planner import CODEC_BYTES, MARGIN_BYTES, Budget, frame_ms, size_of
from moshi_mlx.tasks.captioner import Captioner
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.screen import Screen
    from moshi_mlx.runtime.moshi import Moshi

FRAME_MS = 80.0


def captioner_beside(
    talking: Checkpoint, moshi: Moshi, name: str, model: ModelOptions, screen: Screen
) -> Captioner:
    """Load the model that writes captions, if it fits beside the one that talks.

    Raises ConfigError if both need more than the machine can give. That they may be too slow is said.
    """
    options = SttModelOptions(model=name, codec=model.codec, offline=model.offline)
    found = options.resolve(SamplingOptions(), screen.note)
    kv_bits = moshi.kv_bits or 16
    sizes = [(one, size_of(one.lm_config)) for one in (talking, found)]
    windows = [size.window_bytes(size.window, kv_bits) for _, size in sizes]
    need = MARGIN_BYTES + sum(one.weights.nbytes + CODEC_BYTES for one, _ in sizes) + sum(windows)
    machine = this_machine()
    cuda = machine.gpu is not None and mx.default_device() == mx.gpu
    budget = Budget(machine.memory_for_models(cuda), machine.bandwidth(cuda))
    if not budget.fits(need):
        raise ConfigError(
            f"{talking.name} and {name} together need {need / 1e9:.1f} GB, more than 70 % of the memory "
            f"({budget.memory / 1e9:.1f} GB); leave out --captions, or talk with a smaller model"
        )
    if budget.bandwidth:
        read = [one.weights.nbytes + window for (one, _), window in zip(sizes, windows, strict=True)]
        both = sum(frame_ms(each, budget.bandwidth) for each in read)
        if both > FRAME_MS:
            screen.note(f"{name} may have too little time beside {talking.name}: captions may have gaps")
    screen.say(f"loading {found.name}")
    stt = replace(options, kv_bits=model.kv_bits).load(found, screen.note)
    return Captioner(Transcriber(stt, SttTiming.from_settings(found.settings)))
