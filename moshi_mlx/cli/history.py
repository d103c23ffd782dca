"""`moshi-mlx history`: the conversations that were kept."""

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import options

if TYPE_CHECKING:
    from moshi_mlx.conversation.history import Kept


def history(
    *,
    which: Annotated[
        str | None,
        typer.Argument(
            help="A conversation: its number in the list, its name or folder, or `last`.", metavar="[WHICH]"
        ),
    ] = None,
    opened: Annotated[
        bool, typer.Option("--open", help="Show the folder of the conversation, with both voices in it.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """List the conversations that were kept, the newest first, or print what was said in one.

    `chat --keep`, or s while you talk, keeps a conversation here. With --json: {"conversations": [{"folder": ...,
    "started": ..., "seconds": ..., "model": ..., "turns": [{"begin": ..., "end": ..., "speaker": ...,
    "text": ...}, ...]}, ...], "problems": [...]}, or one of them.
    """
    from moshi_mlx.conversation.history import find, history_folder, kept

    if which is None:
        if opened:
            raise typer.BadParameter("--open needs a conversation: `moshi-mlx history last --open`")
        found, problems = kept()
        if as_json:
            print(json.dumps({"conversations": [one.as_dict() for one in found], "problems": problems}))
            return
        for problem in problems:
            print(f"note: {problem}", file=sys.stderr)
        none = f"no conversation is kept in {history_folder()}; `moshi-mlx chat --keep` keeps one"
        print("\n".join(listing(found)) or none)
        return
    one = find(which)
    if as_json:
        print(json.dumps(one.as_dict()))
    else:
        print(one.transcript)
        print(f"in {one.folder}", file=sys.stderr)
    if opened:
        show_folder(str(one.folder))


def listing(found: "list[Kept]") -> list[str]:
    """Return a line for each conversation: its number, date, length, model and first words."""
    from moshi_mlx.tasks.subtitles import clock

    lines = []
    for number, one in enumerate(found, 1):
        when = f"{one.started:%Y-%m-%d %H:%M}" if one.started else "?"
        model = one.model.rstrip("/").rpartition("/")[2]
        lines.append(f"{number:>3}  {when:<16}  {clock(one.seconds):>7}  {model}  {one.title}"[:100].rstrip())
    return lines


def show_folder(folder: str) -> None:
    """Open a folder in the system's file manager, where there is one."""
    command = "open" if sys.platform == "darwin" else "xdg-open"
    try:
        subprocess.run([command, folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        print(f"note: no file manager could be opened; the folder is {folder}", file=sys.stderr)
