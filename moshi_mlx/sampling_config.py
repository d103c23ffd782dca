"""The settings of sampling, with their ranges. No MLX.

Defaults are PyTorch's (audio 0.8 / top-k 250, text 0.7 / top-k 25).
Source: moshi/models/lm.py `LMGen.__init__`, moshi/utils/sampling.py.
"""

import random
from dataclasses import dataclass, fields

from moshi_mlx.errors import ConfigError

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are sampled. A temperature of 0 is greedy; 0 turns top_k, top_p and min_p off.

    All filters that are on apply, top_k first; with top_p, PyTorch leaves top_k out. All tokens as likely as the
    last of the top_k are kept; PyTorch keeps exactly k, whichever its sort puts first. bfloat16 logits often tie.
    Raises ConfigError for a value out of range.
    """

    text_temperature: float = 0.7
    text_top_k: int = 25
    audio_temperature: float = 0.8
    audio_top_k: int = 250
    top_p: float = 0.0  # keep the fewest tokens whose probabilities reach this, in (0, 1)
    min_p: float = 0.0  # drop tokens less likely than this share of the likeliest, in (0, 1)
    repetition_penalty: float = 1.0  # divides the odds of recent text tokens; 1 = off; padding is never penalized
    repetition_context: int = 64  # text tokens (padding not counted) that the penalty looks back on

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(f"{name} is {value}; it must be between {low} and {high}")


_RANGES = [
    ("text_temperature", 0.0, 10.0),
    ("audio_temperature", 0.0, 10.0),
    ("text_top_k", 0, 1_000_000),
    ("audio_top_k", 0, 1_000_000),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.1, 10.0),
    ("repetition_context", 0, 10_000),
]
assert {name for name, *_ in _RANGES} == {f.name for f in fields(SamplingConfig)}

GREEDY = SamplingConfig(text_temperature=0.0, audio_temperature=0.0)


def new_seed() -> int:
    """Return a random seed, 0 to MAX_SEED, for who gives none."""
    return random.SystemRandom().randint(0, MAX_SEED)
