"""Scenes: what a user does to a full-duplex model, in the folders of Full-Duplex-Bench.

A folder holds the user's audio, `input.wav`; the benchmark's own file of its task: `pause.json`,
`turn_taking.json` or `interrupt.json` in version 1.0, `metadata.json` in 1.5; and `scene.json`, which is ours and
says the rest. Folders without `scene.json` are read as they are published.
Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/dataset/README.md.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.errors import ConfigError, DataError, system_errors
from moshi_mlx.models.config_reader import ConfigReader, read_json, shown
from moshi_mlx.weights.atomic import AtomicPath

Span = tuple[float, float]  # (start, end) in seconds of input.wav

PAUSE_HANDLING = "pause_handling"
BACKCHANNEL = "backchannel"
TURN_TAKING = "smooth_turn_taking"
INTERRUPTION = "user_interruption"
OVERLAPS = ("user_backchannel", "talking_to_other", "background_speech")  # of version 1.5
SILENCE = "silence"  # ours: nobody speaks
TASKS = (PAUSE_HANDLING, BACKCHANNEL, TURN_TAKING, INTERRUPTION, *OVERLAPS, SILENCE)

INPUT, SCENE = "input.wav", "scene.json"
_PAUSES, _TURN, _INTERRUPT, _METADATA = "pause.json", "turn_taking.json", "interrupt.json", "metadata.json"
_LONGEST = 86_400  # seconds; a time beyond it is a mistake


@dataclass(frozen=True)
class Scene:
    """What a user does, and what is known about it. Times are seconds of input.wav.

    task: one of TASKS. id: the folder's name; the benchmark's own scripts want digits.
    pauses: hesitations inside the user's turn. turn_end: where that turn ends.
    interruption: when the user speaks into the model's answer, or what 1.5 calls the overlap.
    context, interrupt: the user's words before and in it.
    answers: what a right answer holds, one entry for each thing that was asked, each a tuple of wordings of which
        any will do; None where no answer is right or wrong.
    noise_db: signal-to-noise ratio of input.wav, None for a clean one.
    echo_db: gain at which the model hears its own voice again, added when the scene is played, -20 for a tenth;
        None for headphones. echo_delay: seconds by which it comes later.
    human: how often people give backchannels, in bins of equal length over the scene, for JSD; None if not known.
    folder: where it was read from; None for one that is still to be written.
    """

    task: str
    id: str
    pauses: tuple[Span, ...] = ()
    turn_end: float | None = None
    interruption: Span | None = None
    context: str = ""
    interrupt: str = ""
    answers: tuple[tuple[str, ...], ...] | None = None
    noise_db: float | None = None
    echo_db: float | None = None
    echo_delay: float = 0.1
    human: tuple[float, ...] | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DataError(f"scene {self.id}: there is no task {self.task!r}; use one of {', '.join(TASKS)}")
        if not re.fullmatch(r"\w[\w.-]{0,99}", self.id):
            raise DataError(f"a scene's id is the name of its folder; {self.id[:40]!r} cannot be one")
        if self.task == TURN_TAKING and self.turn_end is None:
            raise DataError(f"scene {self.id}: {self.task} needs the end of the user's turn (turn_end)")
        if self.task == INTERRUPTION and self.interruption is None:
            raise DataError(f"scene {self.id}: {self.task} needs the time of the interruption")
        if self.human is not None and (not any(self.human) or min(self.human) < 0):
            raise DataError(f"scene {self.id}: human is a histogram; numbers of which one is above 0 expected")

    @property
    def condition(self) -> str:
        """Return under which condition it is played: "clean", "noise 10 dB", "echo -20 dB" or both."""
        noise = [] if self.noise_db is None else [f"noise {self.noise_db:g} dB"]
        echo = [] if self.echo_db is None else [f"echo {self.echo_db:g} dB"]
        return ", ".join(noise + echo) or "clean"

    def pcm(self) -> np.ndarray:
        """Read the user's audio, (samples,) float32 at 24 kHz. Raises AudioFileError."""
        if self.folder is None:
            raise DataError(f"scene {self.id} has not been written")
        return read_audio(self.folder / INPUT).pcm


def write_scene(scene: Scene, folder: str | Path, pcm: np.ndarray) -> Scene:
    """Write a scene into a folder, which is made. Returns it as `read_scene` reads it.

    pcm: (samples,) float32 at 24 kHz, the user's audio. The folder is to have the scene's id as its name.
    Raises DataError or AudioFileError where the system refuses, and DataError for times beyond the audio.
    """
    folder = Path(folder)
    if folder.name != scene.id:
        raise DataError(f"scene {scene.id} must be written into a folder of that name, not {folder}")
    with system_errors(f"cannot make {folder}", DataError):
        folder.mkdir(parents=True, exist_ok=True)
    with AudioWriter(folder / INPUT) as file:
        file.write(pcm)
    _check_times(scene, file.seconds)
    for name, content in {**_published(scene, file.seconds), SCENE: _ours(scene)}.items():
        write_json(folder / name, content)
    return replace(scene, folder=folder)


def read_scene(folder: str | Path) -> Scene:
    """Read a folder's scene, without its audio. Raises DataError, in one line, for anything that is none."""
    folder = Path(folder)
    if not (folder / INPUT).is_file():
        raise DataError(f"{folder} holds no scene: it has no {INPUT}")
    fields = _read_published(folder)
    if (folder / SCENE).is_file():
        fields.update(_read_ours(folder / SCENE))
    if "task" not in fields:
        raise DataError(
            f"{folder} names no task: it has neither {SCENE} nor {_PAUSES}, {_TURN} or {_INTERRUPT}, "
            "and is in no folder with the name of one"
        )
    try:
        return Scene(id=folder.name, folder=folder, **fields)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None


def read_scenes(root: str | Path) -> list[Scene]:
    """Read all scenes in a folder and the folders within it, task by task, by their ids.

    `icc_gt_distribution.json` of the benchmark, in `root` or beside the scenes, is their `human` where they have
    none. Raises DataError for a damaged scene, for two of the same task and id, and where there is none.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder of scenes")
    with system_errors(f"cannot read {root}", DataError):
        folders = sorted(path.parent for path in root.rglob(INPUT))
    if not folders:
        raise DataError(f"{root} holds no scenes: no folder in it has an {INPUT}")
    people: dict[Path, Mapping[str, Any]] = {}
    scenes: dict[tuple[str, str], Scene] = {}
    for folder in folders:
        scene = read_scene(folder)
        if scene.task == BACKCHANNEL and scene.human is None:
            scene = replace(scene, human=_human(folder, root, people))
        before = scenes.setdefault((scene.task, scene.id), scene)
        if before is not scene:
            raise DataError(f"{before.folder} and {folder} are both scene {scene.id} of {scene.task}")
    return sorted(scenes.values(), key=lambda one: (TASKS.index(one.task), *_order(one.id)))


def write_json(path: Path, content: Any) -> None:
    """Write a small JSON file, which is whole or not there. Raises DataError where the system refuses."""
    with AtomicPath(path, DataError) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


HUMAN = "icc_gt_distribution.json"
"""The benchmark's own file of how often people give backchannels, by the ids of its scenes."""


def _human(folder: Path, root: Path, people: dict[Path, Mapping[str, Any]]) -> tuple[float, ...] | None:
    for place in (folder.parent / HUMAN, root / HUMAN, root.parent / HUMAN):
        if place not in people:
            people[place] = read_json(place, error=DataError, remedy="fetch it again") if place.is_file() else {}
        if (found := people[place].get(folder.name)) is not None:
            return _numbers(found, f"{place}: {folder.name}")
    return None


def _order(name: str) -> tuple[float, str]:
    return (int(name), "") if name.isdigit() else (math.inf, name)


def _check_times(scene: Scene, seconds: float) -> None:
    spans = [*scene.pauses, *([scene.interruption] if scene.interruption else [])]
    times = [time for span in spans for time in span]
    last = max([*times, scene.turn_end or 0.0], default=0.0)
    if last > seconds + 0.1:
        raise DataError(f"scene {scene.id}: a time is {last:g} s, but its audio ends at {seconds:g} s")


def _published(scene: Scene, seconds: float) -> dict[str, Any]:
    """What the benchmark's own scripts read: the task's file."""

    def marked(text: str, *spans: Span) -> list[dict[str, Any]]:
        return [{"text": text, "timestamp": list(span)} for span in spans]

    if scene.task == PAUSE_HANDLING:
        return {_PAUSES: marked("[PAUSE]", *scene.pauses)}
    if scene.task == TURN_TAKING and scene.turn_end is not None:
        return {_TURN: marked("[TURN-TAKING]", (scene.turn_end, max(seconds, scene.turn_end)))}
    if scene.task == INTERRUPTION and scene.interruption:
        words = {"context": scene.context, "interrupt": scene.interrupt}
        return {_INTERRUPT: [{**words, "timestamp": list(scene.interruption)}]}
    if scene.task in OVERLAPS and scene.interruption:
        words = {"context_text": scene.context, "current_turn_text": scene.interrupt}
        return {_METADATA: {**words, "timestamps": list(scene.interruption)}}
    return {}


def _ours(scene: Scene) -> dict[str, Any]:
    fields = {name: value for name, value in vars(scene).items() if name != "folder"}
    return {name: value for name, value in fields.items() if value not in (None, (), "") or name == "answers"}


def _read_published(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if task := next((task for task in TASKS if folder.parent.name.endswith(task)), None):
        fields["task"] = task
    elif folder.parent.name.endswith("turn_taking"):  # candor_turn_taking
        fields["task"] = TURN_TAKING
    if (path := folder / _PAUSES).is_file():
        fields |= {"task": PAUSE_HANDLING, "pauses": tuple(_span(one, path) for one in _items(path))}
    elif (path := folder / _TURN).is_file():
        fields |= {"task": TURN_TAKING, "turn_end": _span(_first(path), path)[0]}
    elif (path := folder / _INTERRUPT).is_file():
        first = _first(path)
        fields |= {"task": INTERRUPTION, "interruption": _span(first, path)}
        fields |= {name: str(first.get(name, "")) for name in ("context", "interrupt")}
    elif (path := folder / _METADATA).is_file():
        about = read_json(path, error=DataError, remedy="write it again")
        fields["interruption"] = _span({"timestamp": about.get("timestamps")}, path)
        fields |= {"context": str(about.get("context_text", ""))}
        fields |= {"interrupt": str(about.get("current_turn_text", ""))}
    return fields


def _read_ours(path: Path) -> dict[str, Any]:
    read = ConfigReader(read_json(path, error=DataError, remedy="write it again"), "field")
    read.ignore("id")  # the folder's name
    kinds: dict[str, Callable[[str], Any]] = {
        "task": lambda name: str(read.get(name)),
        "pauses": lambda name: tuple(_span({"timestamp": one}, path) for one in _listed(read.get(name), path)),
        "turn_end": lambda name: read.number(name, below=_LONGEST),
        "interruption": lambda name: _span({"timestamp": read.get(name)}, path),
        "context": lambda name: str(read.get(name)),
        "interrupt": lambda name: str(read.get(name)),
        "answers": lambda name: tuple(_wordings(one, path) for one in _listed(read.get(name), path)),
        "noise_db": lambda name: read.number(name, least=-200, below=200),
        "echo_db": lambda name: read.number(name, least=-200, below=200),
        "echo_delay": lambda name: read.number(name, below=10),
        "human": lambda name: _numbers(read.get(name), f"{path}: {name}"),
    }
    try:
        given = [name for name, value in read.left.items() if name in kinds and value is not None]
        fields = {name: kinds[name](name) for name in given}
        read.finish()
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None
    return fields


def _wordings(value: Any, path: Path) -> tuple[str, ...]:
    """One thing that was asked: a wording of its answer, or several of which any will do."""
    wordings = [value] if isinstance(value, str) else value
    if not isinstance(wordings, list) or not wordings or not all(isinstance(one, str) for one in wordings):
        raise DataError(f"{path}: answers hold {shown(value)}; words, or lists of words, expected")
    return tuple(wordings)


def _items(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path}: a list of groups with a timestamp expected")
    return found


def _first(path: Path) -> dict[str, Any]:
    if not (items := _items(path)):
        raise DataError(f"{path} is an empty list: a timestamp expected")
    return items[0]


def _span(item: Mapping[str, Any], path: Path) -> Span:
    numbers = _numbers(item.get("timestamp"), f"{os.fspath(path)}: timestamp")
    if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= _LONGEST:
        raise DataError(f"{path}: a time is {shown(list(numbers))}; [start, end] in seconds expected")
    return numbers[0], numbers[1]


def _listed(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {shown(value)} found where a list was expected")
    return value


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    def known(one: Any) -> bool:
        return type(one) in (int, float) and -1e12 < one < 1e12  # so neither is NaN

    if not isinstance(value, list | tuple) or not all(map(known, value)):
        raise DataError(f"{where} is {shown(value)}; numbers expected")
    return tuple(float(one) for one in value)
