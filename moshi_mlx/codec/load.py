"""Choosing and loading a codec: Mimi in Rust (rustymimi) or in MLX (our own). Without MLX until one is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from moshi_mlx.codec.base import Codec
from moshi_mlx.errors import CodecError, ConfigError
from moshi_mlx.models.mimi_config import MimiConfig

KINDS = ("auto", "rust", "mlx")


def load_codec(weights: Path, config: MimiConfig, codebooks: int, kind: str = "auto") -> Codec:
    """Load a published Mimi file.

    codebooks: how many codes a frame has; the file may hold more.
    kind: "rust", "mlx", or "auto", see `auto_kind`.
    Raises CodecError for a kind that cannot be had, ConfigError for too few codebooks, CheckpointError for a file
    that cannot be loaded.
    """
    if kind not in KINDS:
        raise CodecError(f"codec {kind!r}: one of {', '.join(KINDS)} expected")
    if not 1 <= codebooks <= config.n_q:
        raise ConfigError(f"the model needs {codebooks} codebooks, the codec {weights} has {config.n_q}")
    if kind == "auto":
        import mlx.core as mx

        kind = auto_kind(config, gpu=mx.default_device() == mx.gpu)
    if kind == "mlx":
        from moshi_mlx.codec.mlx import MlxCodec

        return MlxCodec(weights, config, codebooks)
    if obstacle := _obstacle_to_rust(config):
        raise CodecError(f"{obstacle}; use --codec mlx")
    from moshi_mlx.codec.rust import RustCodec

    return RustCodec(weights, codebooks)


def auto_kind(config: MimiConfig, gpu: bool) -> str:
    """Return the codec that "auto" means: "rust" beside a GPU if rustymimi can be used, else "mlx".

    gpu: whether MLX runs on one. It then belongs to the language model, and rustymimi works on the CPU meanwhile.
    Where all of it is the CPU's work, ours is the better one: exact, quicker to answer, and without successors.
    Measured by benchmarks/codec_choice.py, see docs/log.md.
    """
    return "rust" if gpu and not _obstacle_to_rust(config) else "mlx"


def _obstacle_to_rust(config: MimiConfig) -> str | None:
    """Return why rustymimi cannot be used, None if it can."""
    if find_spec("rustymimi") is None:
        return "rustymimi is not installed here (pip install rustymimi; it has no wheel for Python 3.14)"
    if not config.published:
        return "rustymimi knows only the shape of Kyutai's published Mimi, this one has another"
    return None
