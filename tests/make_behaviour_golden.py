"""Let Full-Duplex-Bench's own scripts judge our samples, and keep their numbers.

    pip install -e .[cpu] torch silero-vad scipy tqdm
    PYTHONPATH=. python tests/make_behaviour_golden.py [FOLDER]    writes tests/data/behaviour.json
    PYTHONPATH=. python tests/make_behaviour_golden.py [FOLDER] --judge OUTPUT    prints their numbers for any

FOLDER holds a checkout of the benchmark; without it the commit below is fetched. Its scripts run as they are: what
they compute is read from their local variables when they return. Stood in for are torchaudio's `load`, by
soundfile, `torch.hub`, by the installed silero-vad of the same model, and the judge of `user_interruption`.
"""

import argparse
import importlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace

import soundfile
import torch

SOURCE = "https://github.com/DanielLin94144/Full-Duplex-Bench"
COMMIT = "d7336bd"
SCRIPTS = "v1_v1.5/evaluation"
GOLDEN = Path(__file__).parent / "data" / "behaviour.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--judge", type=Path, metavar="OUTPUT", help="a folder with a folder a task")
    args = parser.parse_args()
    stand_in()
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or fetch(Path(place))
        sys.path.insert(0, str((folder / SCRIPTS).resolve()))
        if args.judge:
            people = folder / SCRIPTS / "icc_gt_distribution.json"
            print(json.dumps(judged(args.judge.resolve(), json.loads(people.read_text())), indent=1))
            return
        from tests.quality.behaviour.samples import make_samples, people

        samples = Path(place) / "samples"
        make_samples(samples)
        versions = {name: importlib.metadata.version(name) for name in ("silero-vad", "torch", "scipy")}
        golden = {"commit": COMMIT, **versions, **judged(samples, people()), "timing": timing(samples / "timing")}
    GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


def fetch(place: Path) -> Path:
    folder = place / "benchmark"
    clone = ["git", "clone", "--quiet", "--filter=blob:none", "--no-checkout", SOURCE, str(folder)]
    subprocess.run(clone, check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", COMMIT, "--", SCRIPTS], check=True)
    return folder


def stand_in() -> None:
    def load(path):
        pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(pcm.T.copy()), rate

    torchaudio = ModuleType("torchaudio")
    torchaudio.load = load
    sys.modules["torchaudio"] = torchaudio

    def model(*args, **kwargs):
        from silero_vad import load_silero_vad

        return load_silero_vad(), None

    torch.hub.load = model
    torch.set_num_threads(1)


def locals_of(function, *args) -> dict:
    """What a function's local variables hold when it returns."""
    found = {}

    def look(frame, event, value):
        if event == "return" and frame.f_code is function.__code__:
            found.update(frame.f_locals)

    sys.setprofile(look)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            function(*args)
    finally:
        sys.setprofile(None)
    return found


def judged(root: Path, people: dict) -> dict:
    """The numbers of version 1.0 for a folder with a folder a task: means, and those of each sample by its id."""
    result = {}
    for task, judge in JUDGES.items():
        if (root / task).is_dir():
            with tempfile.TemporaryDirectory() as here:
                (Path(here) / "icc_gt_distribution.json").write_text(json.dumps(people))
                before = Path.cwd()
                os.chdir(here)
                try:
                    result[task] = judge(root / task)
                finally:
                    os.chdir(before)
    return result


def script(task: str):
    return getattr(importlib.import_module(f"eval_{task}"), f"eval_{task}")


def pause_handling(root: Path) -> dict:
    found = locals_of(script("pause_handling"), str(root))
    names = [Path(file).parent.name for file in found["audio_output_files"]]
    return {"mean": found["average_take_turn"], "takeover": dict(zip(names, found["take_turn_list"], strict=True))}


def smooth_turn_taking(root: Path) -> dict:
    found = locals_of(script("smooth_turn_taking"), str(root))
    names = [Path(file).parent.name for file in found["audio_output_files"]]
    took = dict(zip(names, found["take_turn_list"], strict=True))
    return {
        "mean": found["average_take_turn"],
        "mean_latency": found["average_latency"],
        "takeover": took,
        "latency": dict(zip([name for name in names if took[name]], found["latency_list"], strict=True)),
    }


def user_interruption(root: Path) -> dict:
    answer = SimpleNamespace(content="Analysis: none.\nI would rate the AI's response as 3")
    reply = SimpleNamespace(choices=[SimpleNamespace(message=answer)])
    completions = SimpleNamespace(create=lambda **asked: reply)
    with tempfile.TemporaryDirectory() as copy:  # the script writes into the samples
        place = Path(copy) / root.name
        subprocess.run(["cp", "-r", str(root), str(place)], check=True)
        client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
        found = locals_of(script("user_interruption"), str(place), client)
    names = [Path(each).name for each in sorted(found["file_dirs"])]
    took = dict(zip(names, found["take_turn_list"], strict=True))
    latencies = found["latency_list"]
    return {
        "mean": sum(found["take_turn_list"]) / len(names),
        "mean_latency": sum(latencies) / len(latencies) if latencies else None,
        "takeover": took,
        "latency": dict(zip([name for name in names if took[name]], latencies, strict=True)),
    }


def backchannel(root: Path) -> dict:
    names = [name for name in os.listdir(root) if name.isdigit()]  # the script's own order
    found = locals_of(script("backchannel"), str(root))
    parts = {"takeover": "TOR_list", "frequency": "freq_list", "divergence": "jsd_list"}
    each = {key: dict(zip(names, map(float, found[name]), strict=True)) for key, name in parts.items()}
    means = {"mean": "tor_mean", "mean_frequency": "freq_mean", "mean_divergence": "jsd_mean"}
    return {**{key: float(found[name]) for key, name in means.items()}, **each}


JUDGES = {
    "pause_handling": pause_handling,
    "backchannel": backchannel,
    "smooth_turn_taking": smooth_turn_taking,
    "user_interruption": user_interruption,
}


def timing(root: Path) -> dict:
    """Stop and response latencies of version 1.5, by sample."""
    process = importlib.import_module("get_timing").process_folder
    result = {}
    for folder in sorted(root.iterdir()):
        with redirect_stdout(io.StringIO()):
            process(folder)
        result[folder.name] = json.loads((folder / "latency_intervals.json").read_text())
    return result


if __name__ == "__main__":
    main()
