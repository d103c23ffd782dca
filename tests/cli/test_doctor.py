"""`moshi-mlx doctor`: what it says of machines that are not here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.doctor.probe import PACKAGES, Probe
from moshi_mlx.doctor.report import Checkup, Finding, findings, page
from moshi_mlx.machine import Machine
from moshi_mlx.planning.planner import Budget, ModelSize, plan
from tests.cli.conftest import Done

M2_PRO = Machine(
    system="macOS",
    system_version="15.6.1",
    chip="Apple M2 Pro",
    cores=10,
    memory=16 * 2**30,
    architecture="arm64",
    python="3.12.1",
    gpu_cores=16,
)
SERVER = Machine("Linux", "Debian GNU/Linux 12", "AMD EPYC", 2, 64 * 2**30, "x86_64", "3.11.7")
DEVICES = {
    "devices": [
        {"name": "MacBook Pro Microphone", "inputs": 1, "outputs": 0},
        {"name": "Ohrhörer", "inputs": 0, "outputs": 2},
    ],
    "default_input": "MacBook Pro Microphone",
    "default_output": "Ohrhörer",
}
GOOD = Checkup(
    machine=M2_PRO,
    mlx=Probe({"backend": "Metal"}),
    audio=Probe(DEVICES),
    packages=dict.fromkeys(PACKAGES, "1.2"),
    own_problem="",
    cached={"moshiko-q4": 4_800_000_000},
    disk=(Path("/cache"), 100_000_000_000),
)
CPU = replace(
    GOOD, machine=SERVER, mlx=Probe({"backend": "CPU"}), audio=Probe({**DEVICES, "devices": []}), cached={}
)

Doctor = Callable[..., Done]

TRIALS = [["4096 wide: used (9.1 µs, plain 12.3 µs)", True], ["1024 wide: not used, it is no faster", False]]


def line(done: Done, start: str) -> str:
    """The one line whose label begins so."""
    (found,) = [text.strip() for text in done.out.splitlines() if text[4:].startswith(start)]
    return found


def verdict(done: Done) -> str:
    first, blank, *_ = done.out.splitlines()
    assert blank == ""
    return first


def without(*missing: str) -> dict[str, str | None]:
    return {name: None if name in missing else "1.2" for name in PACKAGES}


def test_a_mac_that_will_do(doctor: Doctor) -> None:
    done = doctor(GOOD)
    assert (done.code, done.err) == (0, "")
    assert line(done, "chip") == "✓ chip             Apple M2 Pro, 10 cores, 16 GPU cores, 200 GB/s"
    assert line(done, "memory") == "✓ memory           16.0 GiB"
    assert line(done, "input") == "✓ input            1, default: MacBook Pro Microphone"
    assert "iTerm.app" in line(done, "permission")
    assert "4.8 GB" in done.out
    assert "--model moshiko-q8 --codec rust" in line(done, "take")
    rows = [text.split() for text in done.out.splitlines() if "moshiko-" in text and " frames" in text]
    assert ["✓", "moshiko-q8", "3000", "frames", "11.1", "GB", "fits", "60", "ms", "keeps", "time"] in rows
    assert [row[0] for row in rows if row[1] == "moshiko-bf16"] == ["✗"] * 4
    assert "✗" not in line(done, "disk")


def test_what_became_of_our_own_kernels_is_told(doctor: Doctor) -> None:
    done = doctor(replace(GOOD, kernels=Probe({"trials": TRIALS})))
    assert line(done, "own kernels").startswith("own kernels      add and norm, 4096 wide: used (9.1 µs, plain")
    failed = doctor(replace(GOOD, kernels=Probe(problem="it crashed")))
    assert line(failed, "own kernels").endswith("not used: it crashed")
    assert failed.code == 0


def test_without_rustymimi_the_codec_runs_in_mlx(doctor: Doctor) -> None:
    done = doctor(replace(GOOD, packages=without("rustymimi")))
    assert done.code == 0
    assert line(done, "rustymimi").startswith("! rustymimi        missing: the codec runs in MLX")
    assert line(done, "take").endswith("--codec mlx")


def test_mlx_that_crashes_is_the_one_thing_broken(doctor: Doctor) -> None:
    advice = "MLX 0.31.2 cannot load its Metal kernels; upgrade macOS, or pip install 'mlx<0.31'"
    done = doctor(replace(GOOD, mlx=Probe(problem=advice)))
    assert done.code == 1
    assert line(done, "mlx") == f"✗ mlx              {advice}"
    assert "--model moshiko-q8" in line(done, "take")  # what it will be once that is mended


@pytest.mark.parametrize(("name", "code"), [("mlx", 1), ("numpy", 1), ("sounddevice", 0), ("huggingface_hub", 0)])
def test_a_missing_package_says_what_that_means(doctor: Doctor, name: str, code: int) -> None:
    done = doctor(replace(GOOD, packages=without(name)))
    assert done.code == code
    assert line(done, name) == f"{'✗' if code else '!'} {name:<15}  missing: {PACKAGES[name]}"


def test_no_devices_and_no_portaudio_are_warnings(doctor: Doctor) -> None:
    nothing = replace(GOOD, audio=Probe({"devices": [], "default_input": None, "default_output": None}))
    assert (
        line(doctor(nothing), "output") == "! output           no output device; recordings can still be answered"
    )
    done = doctor(replace(GOOD, audio=Probe(problem="PortAudio is missing; apt install libportaudio2")))
    assert (done.code, line(done, "devices")) == (
        0,
        "! devices          PortAudio is missing; apt install libportaudio2",
    )


def test_an_intel_python_is_broken(doctor: Doctor) -> None:
    rosetta = replace(M2_PRO, architecture="x86_64", rosetta=True)
    done = doctor(replace(GOOD, machine=rosetta))
    assert done.code == 1
    assert "Rosetta" in line(done, "Python")


def test_a_chip_of_the_future_gets_a_plan_of_memory_only(doctor: Doctor) -> None:
    done = doctor(replace(GOOD, machine=replace(M2_PRO, chip="Apple M9")))
    assert done.code == 0
    assert "Apple M9 is not in the table" in line(done, "speed")
    assert "time unknown" in done.out
    assert " ms  keeps" not in done.out


def test_no_model_but_nano_fits_a_small_machine(doctor: Doctor) -> None:
    small = replace(GOOD, machine=replace(M2_PRO, memory=8 * 2**30))
    assert doctor(small, "--model", "moshiko-q4").code == 1
    done = doctor(small)
    assert done.code == 0
    assert verdict(done) == "You can talk to: nano"
    assert done.out.count("GB too little") == 12
    assert any(text.startswith("  ! memory ") and "no model fits" in text for text in done.out.splitlines())


def test_a_slow_chip_is_told_so_and_not_refused(doctor: Doctor) -> None:
    done = doctor(replace(GOOD, machine=replace(M2_PRO, chip="Apple M1")))
    assert done.code == 0
    assert "closest is moshiko-q4" in line(done, "time")


def test_a_window_in_int8_and_a_thin_margin_are_said(doctor: Doctor) -> None:
    done = doctor(replace(GOOD, machine=replace(M2_PRO, chip="Apple M2", cores=8)))
    assert "--model moshiko-q4 --kv-bits 8 --codec rust" in line(done, "take")
    assert "nothing else should run" in line(done, "time")


def test_linux_without_a_card_is_told_to_try_nano(doctor: Doctor) -> None:
    done = doctor(CPU)
    assert done.code == 0
    assert "6.5 s a frame" in line(done, "time")
    assert "--model nano" in line(done, "try")
    assert "take" not in done.out
    assert "permission" not in done.out
    assert json.loads(doctor(CPU, "--json").out)["plan"]["codec"] == "mlx"  # as it will be loaded


@pytest.mark.parametrize(("weights", "says"), [(2e9, "mine is too large for a CPU"), (1e8, "no model both fits")])
def test_why_a_model_of_ones_own_is_not_for_a_cpu(weights: float, says: str) -> None:
    size = ModelSize(int(weights), int(weights), 1000, 100)
    planned = plan({"mine": (size, 16)}, Budget(10**9, None, cpu=True))
    assert next(found for found in findings(CPU, planned, "mlx") if found.label == "time").text.startswith(says)


def test_a_card_is_planned_with_its_own_memory(doctor: Doctor) -> None:
    card = replace(SERVER, gpu="NVIDIA H200", gpu_memory=10 * 2**30)
    done = doctor(replace(CPU, machine=card, mlx=Probe({"backend": "CUDA"})), "--model", "moshiko-q8")
    assert "NVIDIA H200, 10.0 GiB, 4800 GB/s" in line(done, "GPU")
    assert done.code == 1  # 64 GiB beside the card are of no use
    unused = doctor(replace(CPU, machine=card))
    assert "mlx[cuda13]" in line(unused, "CUDA")


def test_a_full_disk_is_said_where_a_download_would_be_needed(doctor: Doctor) -> None:
    full = replace(GOOD, disk=(Path("/cache"), 2_000_000_000))
    assert line(doctor(full), "disk").startswith("! disk")
    assert line(doctor(replace(full, cached={"moshiko-q8": 1})), "disk").startswith("✓ disk")


def test_one_model_and_one_window(doctor: Doctor) -> None:
    plan = json.loads(doctor(GOOD, "--model", "moshika-q4", "--context", "1000", "--json").out)["plan"]
    assert {(entry["model"], entry["context"]) for entry in plan["entries"]} == {
        ("moshika-q4", 0), ("moshika-q4", 500), ("moshika-q4", 1000)
    }  # fmt: skip
    assert plan["recommended"]["model"] == "moshika-q4"


def test_a_folder_is_planned_by_its_own_size_and_codec(doctor: Doctor, tiny_folder: Path) -> None:
    plan = json.loads(doctor(GOOD, "--model", str(tiny_folder), "--json").out)["plan"]
    assert plan["recommended"]["model"] == str(tiny_folder)
    assert plan["recommended"]["context"] == 64
    assert plan["recommended"]["memory_GB"] == pytest.approx(1.4, abs=0.02)
    assert plan["codec"] == "mlx"  # rustymimi knows the published codec only


def test_a_model_that_is_not_here_is_a_problem_among_the_findings(doctor: Doctor) -> None:
    done = doctor(GOOD, "--model", "/no/model")
    assert done.code == 1
    assert "/no/model does not exist" in line(done, "model")
    assert "Apple M2 Pro" in done.out


SCHEMA: dict[str, Any] = {
    "ok": bool,
    "problems": [{"mark": str, "section": str, "label": str, "text": str}],
    "machine": {
        "system": str, "system_version": str, "chip": str, "cores": int, "memory": int, "architecture": str,
        "python": str, "gpu": (str, None), "gpu_cores": (int, None), "gpu_memory": (int, None), "rosetta": bool,
        "bandwidth_GB_per_s": (int, float, None),
    },
    "mlx": {
        "version": (str, None), "own_kernels": [str], "backend": (str, None), "among_processes": [str],
        "problem": (str, None),
    },
    "moshi_mlx": {"version": str, "folder": str, "problem": (str, None)},
    "packages": dict,
    "audio": {
        "devices": [{"name": str, "inputs": int, "outputs": int}], "default_input": (str, None),
        "default_output": (str, None), "problem": (str, None),
    },
    "cache": {"folder": str, "free_bytes": int, "models": dict},
    "plan": {"estimated": bool, "entries": list, "recommended": (dict, None), "codec": str},
    "verdict": str,
    "talk_to": [str],
    "measured": [],
    "check": None,
    "config": {"file": str, "settings": dict, "problem": (str, None)},
}  # fmt: skip


def assert_shape(value: Any, shape: Any, where: str = "") -> None:
    if isinstance(shape, dict):
        assert set(value) == set(shape), where
        for key, part in shape.items():
            assert_shape(value[key], part, f"{where}.{key}")
    elif isinstance(shape, list):
        for part in value:
            assert_shape(part, shape[0], where)
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        assert any(value is None if kind is None else type(value) is kind for kind in kinds), (where, value)


@pytest.mark.parametrize(
    "checkup", [GOOD, CPU, replace(GOOD, mlx=Probe(problem="broken"), packages=without("mlx"))]
)
def test_json_is_one_object_of_a_known_shape(doctor: Doctor, checkup: Checkup) -> None:
    done = doctor(checkup, "--json")
    found = json.loads(done.out)
    assert_shape(found, SCHEMA)
    assert found["ok"] == (done.code == 0)
    assert len(found["plan"]["entries"]) == 12
    assert len(done.out.splitlines()) == 1
    marks = {problem["mark"] for problem in found["problems"]}
    assert marks <= {"warn", "bad"}
    assert ("bad" in marks) == (done.code == 1)


def test_marks_are_plain_where_the_encoding_has_no_others() -> None:
    found = [
        Finding("ok", "Audio", "input", "Ohrhörer"),
        Finding("no", "Plan", "x", ""),
        Finding("bad", "Plan", "y", ""),
    ]
    assert page(found, "utf-8").splitlines()[1] == "  ✓ input  Ohrhörer"
    plain = page(found, "ascii")
    assert plain.splitlines()[1] == "  + input  Ohrh?rer"
    assert plain.isascii()
    assert plain.count("  x ") == 2
    assert page(found, "latin-1").splitlines()[1] == "  + input  Ohrhörer"
    assert page(found, None).isascii()


def test_doctor_itself_never_imports_mlx_or_sound() -> None:
    code = (
        "import sys, atexit\n"
        "late = {'mlx', 'mlx.core', 'sounddevice', 'rustymimi'}\n"
        "atexit.register(lambda: print('LOADED', *sorted(late & set(sys.modules))))\n"
        "sys.argv = ['moshi-mlx', 'doctor', '--json']\n"
        "from moshi_mlx.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    report, loaded = done.stdout.splitlines()
    assert_shape(json.loads(report), SCHEMA)
    assert loaded == "LOADED"


def test_doctor_reports_where_mlx_cannot_be_imported(tmp_path: Path) -> None:
    """Also in the processes that it starts, which is where MLX is tried."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'mlx':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    places = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "moshi_mlx", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": places, "PYTHONIOENCODING": "utf-8"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    lines = [text.split(maxsplit=2) for text in done.stdout.splitlines()]
    assert ["✗", "mlx", PACKAGES["mlx"]] in lines
    assert sum(text.startswith("moshiko-") for text in (" ".join(words[1:]) for words in lines)) == 12, "the plan"
