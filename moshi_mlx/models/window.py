"""How much memory the window of past positions takes, and whether this machine has as much. No MLX."""

from moshi_mlx.errors import ConfigError
from moshi_mlx.machine import memory_for
from moshi_mlx.models.config import TransformerConfig


def window_bytes(config: TransformerConfig, slots: int, bits: float, rows: int = 1) -> int:
    """Return the bytes of the keys and values of `slots` positions, all layers. bits: per number, with scales."""
    per_position = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    return int(rows * per_position * slots * bits / 8)


def check_window(config: TransformerConfig, slots: int, bits: float, rows: int = 1, already: int = 0) -> None:
    """Raise ConfigError, with what it needs, for a window that this machine's memory cannot hold.

    already: bytes that are taken, by weights.
    """
    need = window_bytes(config, slots, bits, rows) + already
    if need > (here := memory_for(need)):
        windows = "" if rows == 1 else f", {rows} times"
        raise ConfigError(
            f"config field 'context' is {config.context}{windows}; weights and window would need "
            f"{need / 1e9:.1f} GB, but this machine has {here / 1e9:.1f} GB of memory"
        )
