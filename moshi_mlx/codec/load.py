"""Choosing and loading a codec: Mimi in Rust (rustymimi) or in MLX (our own)."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from moshi_mlx.codec.base import Codec
from moshi_mlx.errors import CheckpointError, CodecError, ConfigError
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, check_published
from moshi_mlx.weights.safetensors import read_header

KINDS = ("auto", "rust", "mlx")


def load_codec(weights: Path, config: MimiConfig, codebooks: int, kind: str = "auto") -> Codec:
    """Load a published Mimi file.

    codebooks: how many codes a frame has, the file may hold more.
    kind: "rust", "mlx", or "auto": rust where it is installed and the config is the published one, else mlx.
    Raises CodecError for a kind that cannot be had, CheckpointError for a file that does not fit its config.
    """
    if kind not in KINDS:
        raise CodecError(f"codec {kind!r}: one of {', '.join(KINDS)} expected")
    if not 1 <= codebooks <= config.n_q:
        raise ConfigError(f"the model needs {codebooks} codebooks, the codec {weights} has {config.n_q}")
    check_file(weights, config)
    obstacle = _obstacle_to_rust(config)
    if kind == "rust" and obstacle:
        raise CodecError(f"{obstacle}; use --codec mlx")
    if kind == "mlx" or obstacle:
        from moshi_mlx.codec.mlx import MlxCodec

        return MlxCodec(weights, config, codebooks)
    from moshi_mlx.codec.rust import RustCodec

    return RustCodec(weights, codebooks)


def check_file(weights: Path, config: MimiConfig) -> None:
    """Raise CheckpointError unless a file holds what its config says; only its header is read."""
    header = read_header(weights)
    try:
        check_published(header, config)
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from error


def _obstacle_to_rust(config: MimiConfig) -> str | None:
    if find_spec("rustymimi") is None:
        return "rustymimi is not installed here (pip install rustymimi; it has no wheel for Python 3.14)"
    if replace(config, n_q=MIMI.n_q) != MIMI:
        return "rustymimi knows only the shape of Kyutai's published Mimi, this one has another"
    return None
