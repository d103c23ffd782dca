"""`moshi-mlx doctor`: what this machine is, whether everything works, and which model to take."""

import json
import sys
from typing import Annotated

import typer

from moshi_mlx.doctor.report import Facts, Finding, facts_json, findings, page

KINDS = ("q8", "q4", "bf16")  # of Kyutai's repositories, the one to prefer first: bf16 is twice the bytes of q8
VOICES = ("moshiko", "moshika")


def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Plan for this one only, as in run.", show_default="moshiko in q8, q4, bf16"
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Plan for a window of N frames.", show_default="the model's"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether Moshi runs here: the machine, what is installed, audio devices, models, and a plan.

    The plan tells for every model (or for --model) whether it fits the memory and keeps real time, 80 ms a frame.
    Its times are estimates from the chip's memory bandwidth; `moshi-mlx bench` measures. A doctor advises: no
    other command refuses what it warns of. The network is never used, and no audio device is opened.

    Exit code 0 if a conversation is possible: everything needed works and some model fits the memory; else 1.
    """
    from moshi_mlx.doctor.probe import try_model
    from moshi_mlx.planning.planner import BITS_PER_WEIGHT, ModelSize, plan, size_of

    facts = gather()
    problem, rust = "", facts.packages["rustymimi"] is not None
    if model is None or model in repositories():
        names = [model] if model else [f"{VOICES[0]}-{kind}" for kind in KINDS]
        size = size_of(_moshi_7b())
        models = {name: (size, BITS_PER_WEIGHT[name.rpartition("-")[2]]) for name in names}
    else:
        trial = try_model(model)
        problem = trial.problem
        rust = rust and bool(trial.found.get("published_codec"))
        models = {} if problem else {model: (ModelSize(**trial.found["size"]), trial.found["bits"])}
    planned = plan(models, facts.budget, context=context, rust=rust, cores=facts.machine.cores)
    found = findings(facts, planned)
    if problem:
        found.append(Finding("bad", "Plan", "model", problem))
    if as_json:
        print(json.dumps(facts_json(facts, planned, found)))
    else:
        print(page(found, sys.stdout.encoding))
    raise typer.Exit(any(finding.mark == "bad" for finding in found))


def gather() -> Facts:
    """Ask everything there is to ask; takes a few seconds."""
    from moshi_mlx.doctor import probe as installation
    from moshi_mlx.machine import this_machine

    machine = this_machine()
    packages = installation.package_versions()
    return Facts(
        machine=machine,
        mlx=installation.try_mlx(packages["mlx"], f"{machine.system} {machine.system_version}"),
        audio=installation.try_audio(),
        packages=packages,
        own_problem=installation.own_problem(),
        cached=installation.cached_models(repositories()),
        disk=installation.free_disk(),
    )


def repositories() -> dict[str, str]:
    """Alias -> hub repository. The same as `checkpoint.ALIASES`, which cannot be asked without MLX."""
    return {f"{voice}-{kind}": f"kyutai/{voice}-mlx-{kind}" for voice in VOICES for kind in KINDS}


def _moshi_7b():
    from moshi_mlx.models.config import MOSHI_7B, LmConfig

    return LmConfig.from_dict(MOSHI_7B)
