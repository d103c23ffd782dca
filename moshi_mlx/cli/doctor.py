"""`moshi-mlx doctor`: what this machine is, whether everything works, and which model to take."""

import json
import sys
from typing import Annotated, Any

import typer

from moshi_mlx.cli import config_file
from moshi_mlx.doctor.report import Checkup, Finding, findings, page, report_json
from moshi_mlx.errors import ConfigError

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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check whether Moshi runs here: the machine, what is installed, audio devices, models, and a plan.

    The plan says of every model (or of --model) whether it fits the memory and keeps real time, 80 ms a frame.
    Its times are estimates from the chip's memory bandwidth; `moshi-mlx bench` measures. This is advice: no
    other command refuses what doctor warns of. The network is never used, and no audio device is opened.

    The exit code is 0 if a conversation is possible, that is if all that is required works and some model fits
    the memory; else it is 1.
    """
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
    if model is None or model in ALIASES:
        size = size_of(LmConfig.from_dict(MOSHI_7B))
        for name in [model] if model else [f"moshiko-{kind}" for kind in KINDS]:
            kind = name.rpartition("-")[2]  # PersonaPlex has Moshi's size, and is published in bfloat16
            models[name] = size, parse_scheme(kind).bits_per_weight if kind in ("q4", "q8") else 16.0
    else:
        try:
            size, bits, mimi = measure_model(model, check=not checkup.mlx.problem)
            models[model] = size, bits
        except MoshiError as error:
            problem = str(error)
    planned, codec = plan(models, checkup.budget, context), auto_kind(mimi, gpu=checkup.backend != "CPU")
    found = findings(checkup, planned, codec)
    if problem:
        found.append(Finding("bad", "Plan", "model", problem))
    file = _config_file(shell.find_root().command)
    found += _shown(file)
    if as_json:
        print(
            json.dumps(report_json(checkup, planned, codec, found) | {"config": file}, default=str)
        )  # TOML has dates
    else:
        print(page(found, sys.stdout.encoding))
    raise typer.Exit(any(finding.mark == "bad" for finding in found))


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


def gather() -> Checkup:
    """Find out all there is to find out; takes a few seconds."""
    from moshi_mlx.checkpoint.catalogue import cached_models, free_disk
    from moshi_mlx.checkpoint.names import ALIASES
    from moshi_mlx.doctor import probe
    from moshi_mlx.machine import this_machine

    machine = this_machine()
    packages = probe.package_versions()
    return Checkup(
        machine=machine,
        mlx=probe.try_mlx(packages["mlx"], f"{machine.system} {machine.system_version}"),
        audio=probe.try_audio(),
        packages=packages,
        own_problem=probe.own_problem(),
        cached=cached_models(ALIASES),
        disk=free_disk(),
    )
