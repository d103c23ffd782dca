"""`moshi-mlx doctor`: what this machine is, whether everything works, and which model to take."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from moshi_mlx.cli import config_file
from moshi_mlx.cli.interruption import undone
from moshi_mlx.doctor.probe import run_python
from moshi_mlx.doctor.report import Checkup, Finding, findings, page, report_json
from moshi_mlx.doctor.verdict import NANO, Measured, talk_to, verdict_line
from moshi_mlx.errors import ConfigError
from moshi_mlx.planning.planner import Plan

MEASURE_SECONDS = 600.0  # of one model, its loading included
_BENCH = """
import sys
from moshi_mlx.cli.main import main
sys.argv = ["moshi-mlx", "--no-config", "bench", *sys.argv[1:]]
main()
"""
MOSHI_SIZED = ("moshiko-", "moshika-", "personaplex")  # how aliases begin whose size is known without files
KINDS = ("q8", "q4", "bf16")  # of moshiko, the one to prefer first: bf16 is twice the bytes of q8


def doctor(
    shell: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Plan for this model only; names as for run.",
            show_default="moshiko in q8, q4, bf16",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Plan for a window of N frames.", show_default="the model's"),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure Nano, and what fits of the rest, instead of trusting estimates."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check that MLX computes rightly here: every operation, up to a minute."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Check, and write what to attach to an issue, as JSON."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check whether Moshi runs here: the machine, what is installed, audio devices, models, and a plan.

    The first line says to which models you can talk. The plan says of every model (or of --model) whether it fits
    the memory and keeps real time, 80 ms a frame. Its times are estimates from the chip's memory bandwidth;
    --measure takes minutes and runs frames: of models that are here, and of random weights like those that are
    not. This is advice: no other command refuses what doctor warns of. The network is never used, and no audio
    device is opened.

    With --check every operation of the model and the codec runs at Moshi's shapes and types on this machine and is
    compared with what is right; last, Nano answers a recorded question, token for token. The first operation that
    differs is named, with what to do. `chat` and `serve` do the quick part of it once for each version of MLX.
    The file of --report names machine and versions, but no folders or devices.

    The exit code is 0 if a conversation is possible, with --model of that model, otherwise of any, Nano included,
    and if nothing that was checked is wrong; else it is 1.
    """
    from moshi_mlx.checkpoint.hub import NotCachedError
    from moshi_mlx.checkpoint.names import ALIASES
    from moshi_mlx.codec.load import auto_kind
    from moshi_mlx.doctor.probe import measure_model
    from moshi_mlx.errors import MoshiError
    from moshi_mlx.models.config import MOSHI_7B, LmConfig
    from moshi_mlx.models.mimi_config import MIMI
    from moshi_mlx.planning.planner import plan, size_of
    from moshi_mlx.weights.quantization import parse_scheme

    checkup = gather()
    models, mimi, problem = {}, MIMI, ""
    if model is None or (model in ALIASES and model.startswith(MOSHI_SIZED)):
        size = size_of(LmConfig.from_dict(MOSHI_7B))
        for name in [model] if model else [f"moshiko-{kind}" for kind in KINDS]:
            kind = name.rpartition("-")[2]  # PersonaPlex is published in bfloat16
            models[name] = size, parse_scheme(kind).bits_per_weight if kind in ("q4", "q8") else 16.0
    else:
        try:
            size, bits, mimi = measure_model(model, check=not checkup.mlx.problem)
            models[model] = size, bits
        except NotCachedError:
            problem = f"{model} is not on this machine, so its size is not known; `moshi-mlx models get {model}`"
        except MoshiError as error:
            problem = str(error)
    planned, codec = plan(models, checkup.budget, context), auto_kind(mimi, gpu=checkup.backend != "CPU")
    found = findings(checkup, planned, codec)
    if problem:
        found.append(Finding("bad", "Plan", "model", problem))
    alone = model is not None
    measured, failed = measurements(checkup, planned, alone) if measure and not checkup.mlx.problem else ([], [])
    found += [one.finding() for one in measured] + failed
    names = talk_to(planned, measured, alone)
    if not names and not any(finding.mark == "bad" for finding in found):
        found.append(
            Finding(
                "bad", "Advice", "time", f"{model} is too slow here" if model else "not even Nano keeps time here"
            )
        )
    file = _config_file(shell.find_root().command)
    found += _shown(file)
    line, outcome = verdict_line(checkup, names, found, model), None
    if (check or report) and not checkup.mlx.problem:
        from moshi_mlx.cli.mlx_check import checked

        outcome = checked()
        found += outcome.findings()
        line = outcome.problem or line
    if report:
        from moshi_mlx.cli.mlx_check import write_report

        write_report(report, checkup, outcome, found)
    if as_json:
        whole = report_json(checkup, planned, codec, found)
        more = {"verdict": line, "talk_to": names, "measured": [asdict(one) for one in measured], "config": file}
        more["check"] = outcome.as_json() if outcome else None
        print(json.dumps(whole | more, default=str))  # TOML has dates
    else:
        print(page(found, sys.stdout.encoding, line))
    raise typer.Exit(any(finding.mark == "bad" for finding in found))


@undone("the measurements are not finished, and nothing is reported")
def measurements(checkup: Checkup, planned: Plan, alone: bool) -> tuple[list[Measured], list[Finding]]:
    """Run frames of Nano and of all that fits, each in a process of its own; takes minutes.

    alone: only what is planned. Returns what was measured, and what could not be.
    """
    from moshi_mlx.checkpoint.names import ALIASES

    names = [] if alone else [NANO]
    names += [entry.model for entry in planned.entries if entry.possible or (alone and entry.fits)]
    measured, failed = [], []
    for name in dict.fromkeys(names):
        print(f"measuring {name}", file=sys.stderr, flush=True)
        words = ["--model", name, "--offline"]
        if name in ALIASES and name not in checkup.cached:  # it has Moshi's shape; a codec may stand in its way
            kind = name.rpartition("-")[2]
            words = ["--random", "-q", kind if kind in KINDS else "bf16"]
        probe = run_python(sys.executable, _BENCH, *words, "--frames", "50", "--json", timeout=MEASURE_SECONDS)
        if probe.problem:
            failed.append(Finding("warn", "Measured", name, f"it could not be measured: {probe.problem}"))
        else:
            measured.append(Measured.of(name, probe.found))
    return measured, failed


def _config_file(group: Any) -> dict[str, Any]:
    """What the file of defaults says. group: the command of all commands."""
    path = config_file.place()
    settings, problem = {}, None
    try:
        settings = config_file.read_settings(path)
        config_file.defaults(settings, group, path)
    except ConfigError as error:
        problem = str(error)
    return {"file": str(path), "settings": settings, "problem": problem}


def _shown(file: dict[str, Any]) -> list[Finding]:
    if file["problem"]:
        return [Finding("bad", "Defaults", "file", file["problem"])]
    lines = config_file.lines(file["settings"])
    if not lines:
        return [Finding("note", "Defaults", "file", f"none; {file['file']} can hold them (docs/cli.md)")]
    return [
        Finding("ok", "Defaults", "file", file["file"]),
        *(Finding("note", "Defaults", "", one) for one in lines),
    ]


@undone("the machine was not checked")
def gather() -> Checkup:
    """Find out all there is to find out; takes a few seconds."""
    from moshi_mlx.checkpoint.catalogue import cached_models, free_disk
    from moshi_mlx.checkpoint.names import ALIASES
    from moshi_mlx.doctor import probe
    from moshi_mlx.machine import this_machine

    machine = this_machine()
    packages = probe.package_versions()
    mlx = probe.try_mlx(packages["mlx"], f"{machine.system} {machine.system_version}")
    return Checkup(
        machine=machine,
        mlx=mlx,
        kernels=probe.try_kernels() if mlx.found.get("backend") == "Metal" else probe.Probe(),
        audio=probe.try_audio(),
        packages=packages,
        own_problem=probe.own_problem(),
        cached=cached_models(ALIASES),
        disk=free_disk(),
    )
