"""What the echo cancellers make of the scenes of tests/audio/echo_scene.py, as a table.

    python benchmarks/echo.py [--seeds 3] [--only linear|webrtc]

Voices made of numbers, one pair for each seed, and espeak-ng as the model with flite as the user where both are
installed. Each line is the median over the pairs, with the lowest and the highest. Times are CPU times of one
thread and need a machine that does nothing else; everything else is the same everywhere.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from moshi_mlx.audio.echo.control import EchoControl
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from tests.audio.echo_scene import PEAK, Scene, decibels, erle, estoi, fit, make_scene, run, seconds, talker

LENGTH = 24  # seconds
MODEL_TEXT = """The old harbour was quiet in the morning, and only a few boats were moving slowly out to sea. I
asked the captain where he was going, and he told me that nobody knew. We waited for the wind, and then we talked
about music, bread, the weather, and the long road home. Perhaps we shall see the lighthouse again tomorrow."""
USER_TEXT = """Could you tell me how the machine works? I have been thinking about it for a long time. My sister
bought one last year and she never regretted it. Please speak a little slower, because I want to write everything
down. Yes, that is right, the second one on the left side of the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["linear", "webrtc"])
    options = parser.parse_args()
    pairs = [(talker(LENGTH, 2 * seed + 1), talker(LENGTH, 2 * seed + 2)) for seed in range(options.seeds)]
    pairs += spoken()
    modes = [options.only] if options.only else ["linear", "webrtc"]
    print(f"{len(pairs)} pairs of voices, {LENGTH} s each; median (lowest – highest)\n")
    print("| | " + " | ".join(modes) + " |\n|" + "---|" * (len(modes) + 1))
    for name, measure in MEASURES.items():
        cells = []
        for mode in modes:
            values = [measure(mode, model, user) for model, user in pairs]
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def spoken() -> list[tuple[np.ndarray, np.ndarray]]:
    """espeak-ng and flite, or nothing."""
    if not (shutil.which("espeak-ng") and shutil.which("flite")):
        print("no espeak-ng or no flite here: only voices made of numbers\n")
        return []
    with tempfile.TemporaryDirectory() as folder:
        model, user = Path(folder, "model.wav"), Path(folder, "user.wav")
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "165", "-w", model, MODEL_TEXT], check=True)
        subprocess.run(["flite", "-voice", "slt", "-t", USER_TEXT, "-o", user], check=True)
        return [(read(model), read(user))]


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    samples = np.tile(soxr.resample(samples, rate, SAMPLE_RATE), 3)
    return fit(samples * (PEAK / np.abs(samples).max()), LENGTH * SAMPLE_RATE)


def echo_only(start: float, stop: float, **room) -> Callable[[str, np.ndarray, np.ndarray], float]:
    """ERLE between two times, dB."""

    def measure(mode: str, model: np.ndarray, user: np.ndarray) -> float:
        scene = make_scene(model, **room)
        return erle(scene, run(EchoControl(mode), scene), start, stop)

    return measure


def both_talk(near_to_echo: float, mode: str | None = None) -> Callable[[str, np.ndarray, np.ndarray], float]:
    """ESTOI of the user from second 5 on; mode "off": of the microphone."""

    def measure(chosen: str, model: np.ndarray, user: np.ndarray) -> float:
        scene = make_scene(model, user, near_to_echo=near_to_echo)
        part = seconds(5, LENGTH)
        return estoi(scene.voice[part], run(EchoControl(mode or chosen), scene)[part])

    return measure


def gain_alone(mode: str, model: np.ndarray, user: np.ndarray) -> float:
    """Gain of a user who talks alone, dB."""
    scene = make_scene(np.zeros_like(model), user)
    return decibels(run(EchoControl(mode), scene)) - decibels(scene.near)


def volume_up(mode: str, model: np.ndarray, user: np.ndarray) -> float:
    """ERLE 2 to 4 s after the volume goes up by 14 dB, at 10 s."""
    low, high = make_scene(model, coupling=0.3), make_scene(model, coupling=1.5)
    near = np.concatenate([low.near[seconds(0, 10)], high.near[seconds(10, LENGTH)]])
    scene = Scene(high.far, near, high.voice, high.echo)
    return erle(scene, run(EchoControl(mode), scene), 12, 14)


def cpu_time(mode: str, model: np.ndarray, user: np.ndarray) -> float:
    """CPU ms for a frame of 80 ms in which both talk."""
    scene = make_scene(model, user)
    control = EchoControl(mode)
    run(control, scene)
    start = time.process_time()
    run(control, scene)
    return (time.process_time() - start) * 1000 / (len(scene.near) // FRAME_SAMPLES)


MEASURES = {
    "ERLE 0.5 – 2 s, dB": echo_only(0.5, 2),
    "ERLE 2 – 5 s": echo_only(2, 5),
    "ERLE 8 – 14 s": echo_only(8, 14),
    "ERLE 8 – 14 s, echo 20 dB fainter": echo_only(8, 14, coupling=0.1),
    "ERLE 8 – 14 s, clocks 20 ppm apart": echo_only(8, 14, drift_ppm=20),
    "ERLE 8 – 14 s, clocks 50 ppm apart": echo_only(8, 14, drift_ppm=-50),
    "ERLE 8 – 14 s, clocks 100 ppm apart": echo_only(8, 14, drift_ppm=100),
    "ERLE 14 – 20 s, delay of 450 ms": echo_only(14, 20, delay=0.45),
    "ERLE 0 – 2 s after the delay jumps by 60 ms": echo_only(10, 12, jump=0.06, jump_at=10),
    "ERLE 2 – 4 s after it": echo_only(12, 14, jump=0.06, jump_at=10),
    "ERLE 4 – 10 s after it": echo_only(14, 20, jump=0.06, jump_at=10),
    "ERLE 2 – 4 s after 14 dB more volume": volume_up,
    "ESTOI of the user, as loud as the echo: microphone": both_talk(0, "off"),
    "ESTOI of the user, as loud as the echo": both_talk(0),
    "ESTOI of the user, 10 dB louder: microphone": both_talk(10, "off"),
    "ESTOI of the user, 10 dB louder": both_talk(10),
    "gain of a user who talks alone, dB": gain_alone,
    "CPU ms for a frame of 80 ms": cpu_time,
}


if __name__ == "__main__":
    main()
