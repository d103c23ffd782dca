"""The peer's environment: moshi_mlx 0.3.0 as published, beside the MLX that we run on."""

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

PEER = "moshi-mlx==0.3.0"
FOLDER = Path(__file__).parents[1] / ".bench" / "peer"
# Without --no-deps pip would take the MLX of its time; these are what it imports.
REQUIREMENTS = (
    *("numpy", "safetensors", "sentencepiece", "huggingface_hub", "rustymimi", "sounddevice", "sphn", "aiohttp"),
)


def peer_python() -> str:
    """The environment's Python; the environment is built where it is missing or has another MLX."""
    if given := os.environ.get("PEER_PYTHON"):
        return given
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / f".mlx-{version('mlx')}"
    if not stamp.exists():
        print(f"building {FOLDER} (once)", file=sys.stderr)
        venv.create(FOLDER, with_pip=True, clear=True)
        mlx = f"mlx{'[cpu]' if sys.platform == 'linux' else ''}=={version('mlx')}"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, mlx, *REQUIREMENTS], check=True)
        subprocess.run([*install, "--no-deps", PEER], check=True)
        stamp.touch()
    return str(python)


if __name__ == "__main__":
    print(peer_python())
