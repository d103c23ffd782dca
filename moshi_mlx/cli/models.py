"""`moshi-mlx models`: its commands, for the models that are here, and how they come and go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli.options import MODEL_HELP, JsonOption, OfflineOption, QuietOption
from moshi_mlx.cli.tables import byte_size, table

if TYPE_CHECKING:
    from pathlib import Path

    from moshi_mlx.checkpoint.catalogue import Model

HELP = "The models on this machine: which are here, and how they come and go."
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=MODEL_HELP)]


def list_(
    as_json: JsonOption = False,
) -> None:
    """List the models on this machine: complete or not, their size, when they were last used.

    Names are what --model takes. Models lie in the hub's cache (HF_HUB_CACHE), which other programs share; of what
    lies there, models of other families are not listed. Folders of your own are not known here. The network is
    not used.
    """
    from moshi_mlx.checkpoint.catalogue import cache_folder, free_disk, models

    def row(model: Model) -> tuple[str, str, str, str]:
        state = "in the package" if model.repo is None else "complete" if model.complete else "incomplete"
        return model.name, byte_size(model.nbytes), "" if model.used is None else _ago(model.used), state

    found = models()
    if as_json:
        print(json.dumps({"cache": str(cache_folder()), "models": [_as_dict(model) for model in found]}))
        return
    print(table(map(row, found), ("model", "size", "last used", "state")))
    folder, free = free_disk()
    print(f"\n{byte_size(free)} free in {folder}")


def get(
    name: NameArgument,
    check: Annotated[
        bool, typer.Option("--check", help="Read also what is here already, and fetch again what is damaged.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch a model, so that it can be used without a network. What was begun goes on where it was cut.

    Its size, its place and the free space there are said first. Ctrl-C, a crash or a lost connection cost nothing:
    the same command goes on. Every file's size is checked, and the SHA-256 of all but small ones. Other commands
    fetch what they need in the same way.
    """
    from moshi_mlx.checkpoint.catalogue import drop_damaged, free_disk, plan
    from moshi_mlx.checkpoint.catalogue import get as fetch
    from moshi_mlx.errors import DownloadError
    from moshi_mlx.weights.progress import progress_bar

    say = partial(print, file=sys.stderr, flush=True) if not quiet else lambda line: None
    shown = False if quiet else None
    wanted = plan(name)
    if check:
        with progress_bar(f"reading {name}", _bytes_of(wanted.files), shown) as advance:
            dropped = drop_damaged((path for path in wanted.files if path.exists()), advance)
        for path in dropped:
            say(f"{path.name} was damaged: its content is not what its SHA-256 says")
        wanted = plan(name) if dropped else wanted
    folder, free = free_disk()
    here = f", {byte_size(wanted.nbytes - wanted.to_fetch)} of it here" if wanted.to_fetch < wanted.nbytes else ""
    if wanted.missing:
        say(f"{name}: {byte_size(wanted.nbytes)}{here}; {byte_size(wanted.to_fetch)} to fetch")
        say(f"to {folder}: {byte_size(free)} free")
    if wanted.to_fetch > free:
        raise DownloadError(
            f"{name} needs {byte_size(wanted.to_fetch)} in {folder}, and {byte_size(free)} are free; "
            "free some, or set HF_HUB_CACHE"
        )
    try:
        with progress_bar(f"fetching {name}", wanted.to_come, shown) as advance:
            fetch(wanted, advance)
    except KeyboardInterrupt:
        came = byte_size(wanted.nbytes - wanted.to_fetch)
        raise KeyboardInterrupt(
            f"{came} of {byte_size(wanted.nbytes)} are here, and the same command goes on from there"
        ) from None
    say(f"{name} is complete: {byte_size(wanted.nbytes)} in {len(wanted.files)} files")


def voices(
    name: NameArgument = "personaplex", as_json: JsonOption = False, offline: OfflineOption = False
) -> None:
    """List the voices that come with a model, for --voice of chat, serve and run.

    A file is fetched for that if it is not here. A voice may also be a file of your own: a .pt as NVIDIA's code
    saves them, or a recording of somebody.
    """
    from moshi_mlx.checkpoint.voices import ARCHIVE, Voices

    found = Voices(name, offline).names
    if as_json:
        print(json.dumps({"model": name, "voices": found}))
    elif found:
        print("\n".join(found))
    else:
        print(f"{name} has no voices (no {ARCHIVE})", file=sys.stderr)


def remove(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Remove a model from the hub's cache, and what was begun of it. NAME@REVISION removes one revision only.

    Files that other revisions or other models use stay. Without --yes you are asked; where nobody can be asked,
    nothing is removed.
    """
    from moshi_mlx.checkpoint import catalogue

    repo, revision = catalogue.repo_of(name)
    folder = catalogue.cached_folder(repo)
    before = catalogue.bytes_in(folder)[0]
    what = f"revision {revision} of {repo}" if revision else f"{repo}, {byte_size(before)},"
    if not yes:
        typer.confirm(f"remove {what} from {folder}?", abort=True, err=True)
    catalogue.remove(name)
    if not quiet:
        left = catalogue.bytes_in(folder)[0] if folder.exists() else 0
        print(f"removed: {byte_size(before - left)} are free again", file=sys.stderr)


def info(
    name: NameArgument,
    as_json: JsonOption = False,
) -> None:
    """Say what a model on this machine is: its files with sizes and SHA-256, shape, precision, and what it lacks.

    Also what it is for (talk, transcribe, translate), which conditions it takes, and whether it takes a persona,
    makes captions and finds pauses.

    Folders, too. The network is not used; `moshi-mlx models get` says the size of a model that is not here.
    """
    from moshi_mlx.checkpoint.catalogue import describe

    about = describe(name)
    if as_json:
        print(json.dumps(about))
        return
    files = about.pop("files")
    width = max(map(len, about))
    for label, value in about.items():
        if value is not None:
            print(
                f"{label.replace('_', ' '):<{width}}  {byte_size(value) if label == 'bytes' else _in_words(value)}"
            )
    rows = [(file["name"], byte_size(file["bytes"]), file["sha256"] or "") for file in files]
    print("\n" + table(rows, ("file", "size", "sha256")))


COMMANDS = (list_, get, remove, info, voices)


def _as_dict(model: Model) -> dict[str, object]:
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


def _bytes_of(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.exists())


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {', '.join(values)}" for name, values in value.items())
    return str(value)


def _ago(moment: float) -> str:
    days = int(time.time() - moment) // 86400
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
