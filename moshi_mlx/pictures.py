"""Pictures that commands draw with matplotlib: whether one can be drawn, and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plot(path: Path) -> None:
    """Raise ConfigError, before anything is measured, if no picture could be drawn at `path` later."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--plot {path}: a name that ends in .png, .svg or .pdf expected")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.absolute().parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--plot needs matplotlib, which is not installed: pip install 'moshi-mlx[plots]'"
        ) from None


def save_plot(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture. Raises ConfigError where it cannot go."""
    try:
        figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
