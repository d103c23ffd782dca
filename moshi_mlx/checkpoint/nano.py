"""Nano, the tiny trained Moshi that comes with the package, and what it can be asked; beside it one that writes.

How they were made: `training/` in the repository; what they can and cannot do: README.md in their folders.
"""

import json
from pathlib import Path
from typing import Any

NAME = "nano"
ASSETS = Path(__file__).parents[1] / "assets"
FOLDER = ASSETS / "nano"
STT_NAME = "nano-stt"
EMBEDDED = {NAME: FOLDER, STT_NAME: ASSETS / STT_NAME}
"""The models in the package, by their names. The codec of all is Nano's."""
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
