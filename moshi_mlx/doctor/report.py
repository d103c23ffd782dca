"""The report of doctor: what was found out, as lines with marks for people and as JSON for programs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moshi_mlx.doctor.probe import FOLDER, PACKAGES, REQUIRED, Probe
from moshi_mlx.machine import Machine
from moshi_mlx.planning.planner import GOOD_MS, THIN_MS, Budget, Entry, Plan, as_json
from moshi_mlx.version import __version__

MARKS = {"ok": "✓", "warn": "!", "bad": "✗", "note": " ", "thin": "!", "no": "✗"}
ASCII_MARKS = {**MARKS, "ok": "+", "bad": "x", "no": "x"}
FRAMES_PER_SECOND = 12.5


@dataclass(frozen=True)
class Checkup:
    """All that was found out about a machine, before anything is concluded from it."""

    machine: Machine
    mlx: Probe
    audio: Probe
    packages: Mapping[str, str | None]
    own_problem: str
    cached: Mapping[str, int]  # alias -> bytes
    disk: tuple[Path, int]  # where downloads go, bytes free there
    kernels: Probe = field(default_factory=Probe)  # see `probe.try_kernels`

    @property
    def backend(self) -> str:
        """What MLX runs on; where it does not start, what it would run on."""
        if backend := self.mlx.found.get("backend"):
            return backend
        return "Metal" if self.machine.apple_silicon else "CUDA" if self.machine.gpu else "CPU"

    @property
    def bandwidth(self) -> float | None:
        """GB/s of the memory that weights are read from."""
        return self.machine.bandwidth(cuda=self.backend == "CUDA")

    @property
    def budget(self) -> Budget:
        """What the machine gives to a model."""
        memory = self.machine.memory_for_models(cuda=self.backend == "CUDA")
        return Budget(memory, self.bandwidth, cpu=self.backend == "CPU")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    mark: "ok", "note", "warn" (something is lost), "bad" (nothing can run); of a plan's row, which is not a
    problem of the machine, "ok", "thin" or "no".
    """

    mark: str
    section: str
    label: str
    text: str


def findings(checkup: Checkup, plan: Plan, codec: str) -> list[Finding]:
    """List everything worth a line, in order. codec: the one to advise, "rust" or "mlx"."""
    return [
        *_machine(checkup),
        *_software(checkup),
        *_audio(checkup),
        *_models(checkup, plan),
        *(_entry(entry) for entry in plan.entries),
        *_advice(checkup, plan, codec),
    ]


def page(found: Sequence[Finding], encoding: str | None, verdict: str = "") -> str:
    """Align findings as text, below the verdict if there is one.

    ASCII marks where the encoding has no others, ? for what else it lacks.
    """
    encoding = encoding or "ascii"
    try:
        "".join(MARKS.values()).encode(encoding)
        marks = MARKS
    except UnicodeEncodeError:
        marks = ASCII_MARKS
    width = max((len(finding.label) for finding in found), default=0)
    lines, section = [verdict] if verdict else [], ""
    for finding in found:
        if finding.section != section:
            lines += ["", finding.section] if lines else [finding.section]
            section = finding.section
        lines.append(f"  {marks[finding.mark]} {finding.label:<{width}}  {finding.text}")
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


def report_json(checkup: Checkup, plan: Plan, codec: str, found: Sequence[Finding]) -> dict[str, Any]:
    """Return all that was found out, the plan and what is wrong. Memory is in bytes, GB are 10^9 bytes."""
    return {
        "ok": not any(finding.mark == "bad" for finding in found),
        "problems": [asdict(finding) for finding in found if finding.mark in ("warn", "bad")],
        "machine": asdict(checkup.machine) | {"bandwidth_GB_per_s": checkup.bandwidth},
        "mlx": {
            "version": checkup.packages["mlx"],
            "backend": checkup.mlx.found.get("backend"),
            "among_processes": checkup.mlx.found.get("among_processes", []),
            "problem": checkup.mlx.problem or None,
            "own_kernels": [text for text, _ in checkup.kernels.found.get("trials", [])],
        },
        "moshi_mlx": {"version": __version__, "folder": str(FOLDER), "problem": checkup.own_problem or None},
        "packages": dict(checkup.packages),
        "audio": {
            "devices": checkup.audio.found.get("devices", []),
            "default_input": checkup.audio.found.get("default_input"),
            "default_output": checkup.audio.found.get("default_output"),
            "problem": checkup.audio.problem or None,
        },
        "cache": {"folder": str(checkup.disk[0]), "free_bytes": checkup.disk[1], "models": dict(checkup.cached)},
        "plan": {
            "estimated": True,
            "entries": [as_json(entry) for entry in plan.entries],
            "recommended": as_json(plan.recommended),
            "codec": codec,
        },
    }


def _machine(checkup: Checkup) -> list[Finding]:
    machine = checkup.machine
    cores = f"{machine.cores} cores" + (f", {machine.gpu_cores} GPU cores" if machine.gpu_cores else "")
    speed = "memory bandwidth not known here" if checkup.bandwidth is None else f"{checkup.bandwidth:g} GB/s"
    known = checkup.bandwidth is not None or checkup.backend == "CPU"
    found = [
        ("ok", "chip", f"{machine.chip}, {cores}" + (f", {speed}" if checkup.backend == "Metal" else "")),
        ("ok", "memory", f"{machine.memory / 2**30:.1f} GiB"),
        ("ok", "system", " ".join(dict.fromkeys([machine.system, *machine.system_version.split()]))),
    ]
    if machine.gpu:
        memory = f", {machine.gpu_memory / 2**30:.1f} GiB" if machine.gpu_memory else ""
        used = speed if checkup.backend == "CUDA" else "not used by MLX"
        found.append(("ok", "GPU", f"{machine.gpu}{memory}, {used}"))
    if not known:
        name = machine.gpu if checkup.backend == "CUDA" else machine.chip
        found.append(
            ("warn", "speed", f"{name} is not in the table of chips: the plan knows memory, but not time")
        )
    if machine.rosetta:
        advice = "this Python is an Intel program under Rosetta, and MLX needs an arm64 one; install that"
        found.append(("bad", "Python", f"{machine.python}, {machine.architecture}: {advice}"))
    else:
        found.append(("ok", "Python", f"{machine.python}, {machine.architecture}"))
    return [Finding(mark, "Machine", label, text) for mark, label, text in found]


def _software(checkup: Checkup) -> list[Finding]:
    found = [("warn", "moshi_mlx", checkup.own_problem)] if checkup.own_problem else []
    found = found or [("ok", "moshi_mlx", f"{__version__}, in {FOLDER}")]
    for name, version in checkup.packages.items():
        if version is None:
            found.append(("bad" if name in REQUIRED else "warn", name, f"missing: {PACKAGES[name]}"))
        elif name == "mlx" and checkup.mlx.problem:
            found.append(("bad", name, checkup.mlx.problem))
        else:
            among = " and ".join(checkup.mlx.found.get("among_processes", ()))
            said = f"{version}, {checkup.backend}" + (f", {among} among processes" if among else "")
            found.append(("ok", name, said if name == "mlx" else version))
    if checkup.kernels.problem:
        found.append(("note", "own kernels", f"not used: {checkup.kernels.problem}"))
    elif trials := checkup.kernels.found.get("trials"):
        mark = "ok" if all(used for _, used in trials) else "note"
        found.append((mark, "own kernels", "add and norm, " + "; ".join(text for text, _ in trials)))
    if checkup.machine.gpu and checkup.backend == "CPU":
        text = "MLX does not use the GPU; pip install 'mlx[cuda13]' instead of 'mlx[cpu]'"
        found.append(("warn", "CUDA", text))
    return [Finding(mark, "Software", label, text) for mark, label, text in found]


def _audio(checkup: Checkup) -> list[Finding]:
    if checkup.audio.problem:
        return [Finding("warn", "Audio", "devices", checkup.audio.problem)]
    found = []
    for kind in ("input", "output"):
        count = sum(device[f"{kind}s"] > 0 for device in checkup.audio.found["devices"])
        default = checkup.audio.found[f"default_{kind}"]
        if count:
            found.append(("ok", kind, f"{count}, default: {default or 'none'}"))
        else:
            found.append(("warn", kind, f"no {kind} device; recordings can still be answered"))
    if checkup.machine.system == "macOS":
        terminal = os.environ.get("TERM_PROGRAM", "the terminal program")
        hint = f"{terminal} needs it (System Settings, Privacy & Security, Microphone); without it all is silence"
        found.append(("note", "permission", hint))
    return [Finding(mark, "Audio", label, text) for mark, label, text in found]


def _models(checkup: Checkup, plan: Plan) -> list[Finding]:
    found = [("ok", alias, f"{size / 1e9:.1f} GB, in the cache") for alias, size in checkup.cached.items()]
    found = found or [("note", "cache", "none of Kyutai's models are here; they are downloaded when first used")]
    folder, free = checkup.disk
    wanted = plan.recommended
    # weights make up most of the memory needed, so that is what a download may take
    short = wanted is not None and wanted.model not in checkup.cached and free < wanted.memory_GB * 1e9
    text = f"{free / 1e9:.1f} GB free for {folder}"
    found.append(("warn" if short else "ok", "disk", text + (": too little for a download" if short else "")))
    return [Finding(mark, "Models", label, text) for mark, label, text in found]


def _entry(entry: Entry) -> Finding:
    mark = "no" if not entry.possible else "ok" if entry.verdict == "good" else "thin"
    time = "   ? ms" if entry.ms is None else f"{entry.ms:4.0f} ms"
    judged = {"good": "keeps time", "thin": "just keeps time", "no": "too slow", "unknown": "time unknown"}
    text = (
        f"{entry.context:>5} frames{', int8' if entry.kv_bits == 8 else '':<6}  {entry.memory_GB:5.1f} GB "
        f"{'fits      ' if entry.fits else 'too little'}  {time}  {judged[entry.verdict]}"
    )
    return Finding(mark, "Plan (estimates)", entry.model, text)


def _advice(checkup: Checkup, plan: Plan, codec: str) -> list[Finding]:
    found = []
    best = plan.recommended
    # One model alone was asked about: then its end is the end. Otherwise there is Nano.
    lost = "bad" if len({entry.model for entry in plan.entries}) == 1 else "warn"
    if best:
        window = " --kv-bits 8" if best.kv_bits == 8 else ""
        command = f"moshi-mlx run IN OUT.wav --model {best.model}{window} --codec {codec}"
        found.append(("ok" if best.verdict == "good" else "warn", "take", command))
        full = max(entry.context for entry in plan.entries if entry.model == best.model)
        if best.context < full:
            seconds = best.context / FRAMES_PER_SECOND
            text = (
                f"it keeps time for {seconds:.0f} s of a conversation; with more to look back on it falls behind"
            )
            found.append(("warn", "window", text))
        if best.verdict == "thin":
            text = f"a frame takes more than {GOOD_MS:.0f} of {THIN_MS:.0f} ms: nothing else should run beside it"
            found.append(("note", "time", text))
    elif checkup.backend == "CPU" and plan.entries and all(entry.verdict == "no" for entry in plan.entries):
        text = f"{plan.entries[0].model} is too large for a CPU: Moshi 7B took 6.5 s a frame on 2 cores"
        found.append((lost, "time", text))
    elif plan.entries:
        closest = min(plan.entries, key=lambda entry: (not entry.fits, entry.ms or 0.0, entry.memory_GB))
        text = f"no model both fits and keeps real time over its window; closest is {closest.model}"
        found.append((lost, "time", text))
    if not best:
        text = "--model nano is part of the package, tiny, and answers 44 questions; recordings need no real time"
        found.append(("note", "try", text))
    if plan.entries and not any(entry.fits for entry in plan.entries):
        text = "no model fits: model, codec and 1 GB to work in need more than 70 % of the memory"
        found.append((lost, "memory", text))
    return [Finding(mark, "Advice", label, text) for mark, label, text in found]
