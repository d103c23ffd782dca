"""Conversations that were kept: where they lie, what each holds, and its words for people.

Not here: how one is written while it lasts (see `recorder`).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moshi_mlx.conversation.turns import Turn
from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.tasks.subtitles import clock, srt

ABOUT = "session.json"
TURNS = "turns.jsonl"
NAMES = {"user": "you", "moshi": "Moshi"}


def history_folder() -> Path:
    """Return where conversations are kept unless told otherwise; the folder need not exist.

    Source: the XDG base directory specification; `XDG_DATA_HOME` moves it.
    """
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "moshi-mlx" / "conversations"


def new_folder(model: str, root: Path | None = None) -> Path:
    """Return a name for the conversation that begins now: its date, its time, and the model's name."""
    now = datetime.now().astimezone()
    last = model.rstrip("/").rpartition("/")[2].partition("@")[0] or "moshi"
    return (root or history_folder()) / f"{now:%Y-%m-%d %H.%M.%S} {last}"


@dataclass(frozen=True)
class Kept:
    """A conversation that was kept. started: as session.json says, None where it does not. seconds: its length."""

    folder: Path
    started: datetime | None
    seconds: float
    model: str
    turns: tuple[Turn, ...]

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Read a folder. Raises AudioFileError if it holds no conversation, or a damaged one."""
        if not (folder / ABOUT).is_file():
            raise AudioFileError(f"{folder} holds no conversation: it has no {ABOUT}")
        about = read_json(folder / ABOUT, error=AudioFileError, remedy="its recordings can still be heard")
        frames = about.get("frames")
        seconds = frames * FRAME_SECONDS if isinstance(frames, int) else 0.0
        return cls(folder, _date(about.get("started")), seconds, str(about.get("model", "")), _turns(folder))

    @property
    def title(self) -> str:
        """Return the first words that were said."""
        return next((turn.text for turn in self.turns if turn.text), "")

    @property
    def transcript(self) -> str:
        """Return the conversation as people read it, a turn a line."""
        when = f" of {self.started:%Y-%m-%d %H:%M}" if self.started else ""
        head = f"Conversation{when} with {self.model or 'Moshi'}, {clock(self.seconds)}\n"
        return "\n".join([head, *map(turn_text, self.turns), ""])

    def as_dict(self) -> dict[str, Any]:
        """Return what programs are told of it."""
        return {
            "folder": str(self.folder),
            "started": self.started.isoformat() if self.started else None,
            "seconds": round(self.seconds, 2),
            "model": self.model,
            "turns": [turn_line(turn) for turn in self.turns],
        }


def kept(root: Path | None = None) -> tuple[list[Kept], list[str]]:
    """Return the conversations in a folder, the newest first, and a line for each that cannot be read.

    Hidden folders are left out: they are drafts, which nobody has asked to keep.
    """
    root = root or history_folder()
    with system_errors(f"cannot read {root}", AudioFileError):
        there = [each for each in root.iterdir() if each.is_dir()] if root.is_dir() else []
    folders = sorted(each for each in there if not each.name.startswith("."))
    found, problems = [], []
    for folder in folders:
        if (folder / ABOUT).is_file():
            try:
                found.append(Kept.read(folder))
            except AudioFileError as error:
                problems.append(str(error))
    found.sort(key=lambda one: one.started.timestamp() if one.started else 0.0, reverse=True)
    return found, problems


def find(which: str, root: Path | None = None) -> Kept:
    """Return a conversation by its number in `kept`, counted from 1, its folder's name or path, or "last".

    Raises AudioFileError if there is none.
    """
    root = root or history_folder()
    for folder in (root / which, Path(which).expanduser()):
        if (folder / ABOUT).is_file():
            return Kept.read(folder)
    found, _ = kept(root)
    number = 1 if which == "last" else int(which) if which.isdecimal() else 0
    if not 1 <= number <= len(found):
        there = f"1 to {len(found)}, or a folder" if found else f"none is kept in {root}"
        raise AudioFileError(f"there is no conversation {which!r} ({there})")
    return found[number - 1]


def turn_line(turn: Turn) -> dict[str, Any]:
    """Return a turn as a line of turns.jsonl."""
    about = {"begin": round(turn.begin, 2), "end": round(turn.end, 2), "speaker": turn.speaker, "text": turn.text}
    return {**about, "interrupted": True} if turn.interrupted else about


def turn_text(turn: Turn) -> str:
    """Return a turn as a line for people."""
    return f"{clock(turn.begin):>7}  {NAMES[turn.speaker]:<5}  {turn_said(turn)}"


def turn_said(turn: Turn) -> str:
    """Return what was said in a turn, or how long it was where nobody wrote it down."""
    return (turn.text or f"({turn.seconds:.1f} s)") + (" — interrupted" if turn.interrupted else "")


def write_texts(folder: Path) -> None:
    """Write transcript.txt and transcript.srt of a conversation, from its turns. Raises OSError as files do."""
    one = Kept.read(folder)
    (folder / "transcript.txt").write_text(one.transcript, encoding="utf-8")
    lines = [(turn.begin, turn.end, turn.text) for turn in one.turns if turn.text]
    (folder / "transcript.srt").write_text(srt(lines), encoding="utf-8")


def _turns(folder: Path) -> tuple[Turn, ...]:
    path = folder / TURNS
    if not path.is_file():  # it was kept by an older version
        return ()
    with system_errors(f"cannot read {path}", AudioFileError):
        text = path.read_bytes().decode(errors="replace")
    found = map(_turn, text.splitlines())
    return tuple(sorted((turn for turn in found if turn), key=lambda turn: turn.begin))


def _turn(line: str) -> Turn | None:
    """Read a line of turns.jsonl, None if it is damaged: the last one may be cut where a program was killed."""
    try:
        said = json.loads(line)
        times, text = (float(said["begin"]), float(said["end"])), said.get("text", "")
        if said["speaker"] in NAMES and isinstance(text, str) and all(map(math.isfinite, times)):
            return Turn(said["speaker"], *times, text, bool(said.get("interrupted", False)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        pass
    return None


def _date(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
