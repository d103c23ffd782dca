"""Users made of software: texts spoken by flite and espeak-ng, which are programs of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.errors import DataError

FLITE, ESPEAK = "flite", "espeak-ng"
PEAK = 0.5


@dataclass(frozen=True)
class Voice:
    """A speaker: a program, and what that program calls the voice."""

    program: Literal["flite", "espeak-ng"]
    name: str


def check_synthesizers() -> None:
    """Raise DataError, with the remedy, where one of the programs is not installed."""
    if missing := [name for name in (FLITE, ESPEAK) if shutil.which(name) is None]:
        raise DataError(
            f"the builtin scenes are spoken by {FLITE} and {ESPEAK}; not installed: {', '.join(missing)} "
            f"(brew install {' '.join(missing)}, or apt-get install {' '.join(missing)})"
        )


@cache
def synthesizer_versions() -> tuple[str, ...]:
    """Return what the programs say of themselves: another version may speak otherwise."""
    found = []
    for program in (FLITE, ESPEAK):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        numbers = re.findall(r"\d+\.\d+\S*", done.stdout + done.stderr)
        found.append(f"{program} {numbers[0] if numbers else '?'}")
    return tuple(found)


def speak(voice: Voice, text: str) -> np.ndarray:
    """Say a text. Returns (samples,) float32 at 24 kHz with a peak of .5, without silence around it.

    Raises DataError where the program is missing, fails or says nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        commands = {
            FLITE: [FLITE, "-voice", voice.name, "-t", text, "-o", str(path)],
            ESPEAK: [ESPEAK, "-v", voice.name, "-w", str(path), text],
        }
        try:
            subprocess.run(commands[voice.program], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            raise DataError(f"{voice.program} cannot say {text!r} as {voice.name}: {' '.join(last)}") from error
        pcm = read_audio(path).pcm
    loud = np.flatnonzero(np.abs(pcm) > 0.01 * np.abs(pcm).max(initial=1e-9))
    if not len(loud):
        raise DataError(f"{voice.program} says nothing as {voice.name} for {text!r}")
    pcm = pcm[loud[0] : loud[-1] + 1]
    return PEAK * pcm / np.abs(pcm).max()
