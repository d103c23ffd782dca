"""Ask the package index whether every supported Python installs on Apple Silicon, and on Linux, from wheels alone.

A dry run of the resolver, nothing is installed. Needs uv on the PATH, or installs it beside itself with pip.
Checks also that the Rust Mimi comes where it has a wheel and stays away where it has none.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
RUST_MIMI = ("3.10", "3.11", "3.12", "3.13")  # no wheel for 3.14: the MLX Mimi takes over
PLATFORMS = {"aarch64-apple-darwin": (), "x86_64-manylinux_2_35": ("--extra", "cpu")}
OLDEST_MACOS = "14.0"  # the oldest that MLX has wheels for


def main() -> None:
    uv = _uv()
    failures = 0
    for platform, extras in PLATFORMS.items():
        for python in PYTHONS:
            problem = check(uv, platform, python, extras)
            failures += bool(problem)
            print(f"{platform} Python {python}: {problem or 'wheels for everything'}", flush=True)
    sys.exit(failures > 0)


def check(uv: str, platform: str, python: str, extras: tuple[str, ...]) -> str:
    """What is wrong, or ""."""
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--python-platform", platform, "--python-version", python, *extras, "pyproject.toml"]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    rust = bool(re.search(r"^rustymimi==", done.stdout, re.MULTILINE))
    if rust != (python in RUST_MIMI):
        return f"rustymimi is {'there' if rust else 'missing'}"
    return ""


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    if not (found := shutil.which("uv")) and not beside.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    return found or str(beside)


if __name__ == "__main__":
    main()
