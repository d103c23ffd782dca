"""`moshi-mlx models`: its commands, for the models that are here, and how they come and go."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.catalogue import Model

HELP = "The models on this machine: which are here, and how they come and go."


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the models on this machine: complete or not, their size, when they were last used.

    Names are what --model takes. Models lie in the hub's cache (HF_HUB_CACHE), which other programs share; of what
    lies there, models of other families are not listed. Folders of your own are not known here. The network is
    not used.
    """
    from moshi_mlx.checkpoint.catalogue import cache_folder, free_disk, models
    from moshi_mlx.cli.tables import table

    def row(model: Model) -> tuple[str, str, str, str]:
        state = "in the package" if model.repo is None else "complete" if model.complete else "incomplete"
        return model.name, size(model.nbytes), "" if model.used is None else _ago(model.used), state

    found = models()
    if as_json:
        print(json.dumps({"cache": str(cache_folder()), "models": [as_dict(model) for model in found]}))
        return
    print(table(map(row, found), ("model", "size", "last used", "state")))
    folder, free = free_disk()
    print(f"\n{size(free)} free in {folder}")


COMMANDS = (list_,)


def as_dict(model: Model) -> dict[str, object]:
    """A model for --json; `used` in seconds of the epoch."""
    return {
        "name": model.name,
        "repo": model.repo,
        "folder": str(model.folder),
        "bytes": model.nbytes,
        "used": model.used,
        "complete": model.complete,
        "problem": model.problem or None,
    }


def size(nbytes: float) -> str:
    """Bytes for people."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"


def _ago(moment: float) -> str:
    days = int(time.time() - moment) // 86400
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
