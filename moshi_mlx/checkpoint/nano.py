"""Nano: the tiny trained Moshi that comes with the package, and what it can be asked.

How it was made: `training/` in the repository; what it can and cannot do: README.md in its folder.
"""

import json
from pathlib import Path
from typing import Any

NAME = "nano"
ASSETS = Path(__file__).parents[1] / "assets"
FOLDER = ASSETS / "nano"
RECORDING = ASSETS / "demo.flac"
"""Four questions, the last one an interruption."""


def questions() -> dict[str, str]:
    """Return everything Nano understands, with its answer."""
    return json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))


def greeting() -> str:
    """Return one line for a person who is about to talk to it."""
    known = questions()
    some = [question for question in known if question.endswith("?")][::12]
    return f"nano is a tiny model that knows {len(known)} questions, in English: {' '.join(some)} ..."


def captions() -> list[dict[str, Any]]:
    """Return what is said in RECORDING: "text", and the seconds of its "begin" and "end"."""
    return json.loads(RECORDING.with_suffix(".json").read_text(encoding="utf-8"))
