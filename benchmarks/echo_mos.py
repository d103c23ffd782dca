"""What AECMOS, a judge of echo cancellers, makes of ours in the scenes of benchmarks/echo.py, as a table.

    pip install speechmos librosa onnxruntime       # librosa: speechmos imports it, and does not ask for it
    python benchmarks/echo_mos.py [--seeds 3]

Two scores from 1 to 5: how little the echo disturbs, and how little else is wrong with the user's voice. Each line
is the median over the pairs of voices, with the lowest and the highest; the microphone stands beside the modes.
The same everywhere. Source: Purin et al., 2022, AECMOS; the model at 16 kHz with the scenario told.
"""

import argparse
import statistics

import numpy as np
import soxr
from echo import LENGTH, spoken
from speechmos import aecmos

from moshi_mlx.audio.echo.control import EchoControl
from moshi_mlx.frames import SAMPLE_RATE
from tests.audio.echo_scene import Scene, make_scene, run, seconds, talker

RATE = 16_000
MODES = ("microphone", "linear", "webrtc")
JUDGED = seconds(5, LENGTH)  # once the cancellers have found the delay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    pairs = [(talker(LENGTH, 2 * seed + 1), talker(LENGTH, 2 * seed + 2)) for seed in range(options.seeds)]
    pairs += spoken()
    scenes = {
        "the model alone": ("st", [make_scene(model) for model, _ in pairs]),
        "both, as loud as each other": ("dt", [make_scene(model, user, near_to_echo=0) for model, user in pairs]),
        "both, the user 10 dB louder": ("dt", [make_scene(model, user, near_to_echo=10) for model, user in pairs]),
        "the user alone": ("nst", [make_scene(np.zeros_like(model), user) for model, user in pairs]),
    }
    print(f"{len(pairs)} pairs of voices, seconds 5 to {LENGTH}; median (lowest – highest)\n")
    print("| | | " + " | ".join(MODES) + " |\n|" + "---|" * (len(MODES) + 2))
    for name, (talk, made) in scenes.items():
        found = {mode: [scores(scene, mode, talk) for scene in made] for mode in MODES}
        for which, score in enumerate(("echo", "else")):
            if (talk, score) in (("st", "else"), ("nst", "echo")):
                continue  # there is nothing to judge
            cells = [shown([pair[which] for pair in found[mode]]) for mode in MODES]
            print(f"| {name} | {score} | " + " | ".join(cells) + " |", flush=True)


def scores(scene: Scene, mode: str, talk: str) -> tuple[float, float]:
    """The two scores of what is left of a scene."""
    heard = scene.near if mode == "microphone" else run(EchoControl(mode), scene)
    parts = {"lpb": scene.far, "mic": scene.near, "enh": heard}
    at_16_khz = {
        name: np.clip(soxr.resample(pcm[JUDGED], SAMPLE_RATE, RATE), -1, 1).astype(np.float32)
        for name, pcm in parts.items()
    }
    judged = aecmos.run(at_16_khz, RATE, talk_type=talk)
    return judged["echo_mos"], judged["deg_mos"]


def shown(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})"


if __name__ == "__main__":
    main()
