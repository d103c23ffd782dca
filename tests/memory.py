"""What MLX holds, once what nobody needs any more is gone."""

import gc

import mlx.core as mx


def active_memory() -> int:
    """Bytes of all arrays that are reachable; what earlier tests left in reference cycles is freed first."""
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()
