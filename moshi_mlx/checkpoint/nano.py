"""Nano, the tiny trained Moshi that comes with the package, and what it can be asked.

Beside it one that writes, and one that is whoever it is told to be.

How they were made: `training/` in the repository; what they can and cannot do: README.md in their folders.
"""

import json
from pathlib import Path
from typing import Any

NAME = "nano"
ASSETS = Path(__file__).parents[1] / "assets"
FOLDER = ASSETS / "nano"
STT_NAME, PERSONA_NAME = "nano-stt", "nano-persona"
EMBEDDED = {NAME: FOLDER, STT_NAME: ASSETS / STT_NAME, PERSONA_NAME: ASSETS / PERSONA_NAME}
"""The models in the package, by their names. The codec of all is Nano's."""
RECORDING = ASSETS / "demo.flac"
"""Four questions, the last one an interruption."""


def questions() -> dict[str, str]:
    """Return everything Nano understands, with its answer."""
    return json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))


def persona() -> dict[str, Any]:
    """Return what nano-persona can be: "names", "manners", "voices"; "questions", answers in each manner."""
    return json.loads((EMBEDDED[PERSONA_NAME] / "persona.json").read_text(encoding="utf-8"))


def asked_of(name: str) -> list[str]:
    """Return what a model of the package can be asked; nothing of others."""
    return list(questions()) if name == NAME else list(persona()["questions"]) if name == PERSONA_NAME else []


def greeting(name: str = NAME) -> str:
    """Return one line for a person who is about to talk to a model of the package; "" for others."""
    if name == PERSONA_NAME:
        return _persona_greeting()
    if name != NAME:
        return ""
    known = questions()
    some = [question for question in known if question.endswith("?")][::12]
    return f"nano is a tiny model that knows {len(known)} questions, in English: {' '.join(some)} ..."


def captions() -> list[dict[str, Any]]:
    """Return what is said in RECORDING: "text", and the seconds of its "begin" and "end"."""
    return json.loads(RECORDING.with_suffix(".json").read_text(encoding="utf-8"))


def _persona_greeting() -> str:
    known = persona()
    names, manners, voices = (_either(known[kind]) for kind in ("names", "manners", "voices"))
    role = f"You are {known['names'][-1]} and you are {known['manners'][0]}."
    return (
        f"{PERSONA_NAME} is a tiny model that is told who to be (--persona '{role}'), a name ({names}) and a "
        f"manner ({manners}), and how to sound (--voice {voices}); it knows {len(known['questions'])} questions, "
        "in English"
    )


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
