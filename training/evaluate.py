"""What Nano can do, measured through moshi_mlx itself on voices that training never heard.

`python -m training.evaluate MODEL_FOLDER OUT.json WORK_FOLDER`: every part that has been measured is kept in
WORK_FOLDER and not measured again while the model is the same. OUT.json is written when all parts are there.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.weights.quantization import parse_scheme
from training.conditions import CONDITIONS
from training.dialogue import KNOWN, UNKNOWN_FURTHER, UNKNOWN_HELD_OUT
from training.heard import Heard
from training.interruptions import Interruption, interrupt, interruptions_summed_up, undisturbed
from training.intervals import share
from training.left_alone import left_alone
from training.questions import Turn, ask, ask_under, conversations_summed_up, converse_about, summed_up
from training.recordings import Said, seed_of
from training.voices import HELD_OUT_VOICES, NEURAL_VOICES, SAMPLE_RATE, TRAINING_VOICES, UNHEARD, Voice

TAKES = 2  # of every known sentence, by every unheard voice
CONVERSATIONS = 10  # with every unheard voice
INTERRUPTIONS = 16  # of every unheard voice; a few come when Nano is not speaking, and do not count
UNDER_CONDITIONS = 100  # turns under each condition, by all unheard voices in turn
SOUNDS = 25  # of each kind that it is to leave alone
UNFINISHED = 3  # exit status

EASY_VOICE = HELD_OUT_VOICES[2]  # where something other than the voice is tried
ALL_UNHEARD = tuple(voice for voices in UNHEARD.values() for voice in voices)
NAMES = {group: frozenset(map(str, voices)) for group, voices in UNHEARD.items()}


@dataclass(frozen=True)
class Part:
    """A measurement that is kept: its name, and what makes its result, as JSON holds it."""

    name: str
    measure: Callable[[Moshi], Any]


def parts(model: str, pictures: Path, every: int) -> list[Part]:
    """All measurements, of every n-th sentence, in an order in which the first tell most."""
    found = []
    texts = KNOWN[::every]
    for voice in (*ALL_UNHEARD, *NEURAL_VOICES):
        found.append(_turns(f"turns/{voice}", [Said(voice, text) for text in texts * TAKES]))
    found.append(_talks("neural conversations", NEURAL_VOICES, every))
    found.append(Part("interruptions", lambda moshi: _interruptions(moshi, INTERRUPTIONS // every)))
    unknown = (*UNKNOWN_HELD_OUT, *UNKNOWN_FURTHER)[::every]
    found.append(_turns("unknown", _in_turn(ALL_UNHEARD, unknown)))
    for name, condition in CONDITIONS.items():
        said = _in_turn(ALL_UNHEARD, _shuffled(KNOWN, UNDER_CONDITIONS // every))
        found.append(Part(f"conditions/{name}", _under(condition, said, name)))
    seen = [Said(voice, text) for voice in TRAINING_VOICES[:8:2] for text in texts]
    easy = [Said(EASY_VOICE, text) for text in texts]
    found += [
        Part("left_alone", lambda moshi: left_alone(moshi, -(-SOUNDS // every))),
        Part("undisturbed", lambda moshi: undisturbed(moshi, EASY_VOICE, 20 // every)),
        _turns("training_voices", seen),
        *(Part(f"precisions/{scheme}", _quantized(model, scheme, easy)) for scheme in ("q8", "q4")),
        Part("voice", lambda moshi: _spoken(moshi, pictures)),
    ]
    return [*found, _talks("conversations", ALL_UNHEARD, every)]


def _in_turn(voices: Iterable[Voice], texts: Iterable[str]) -> list[Said]:
    voices = tuple(voices)
    return [Said(voices[number % len(voices)], text) for number, text in enumerate(texts)]


def _shuffled(texts: tuple[str, ...], count: int) -> list[str]:
    """So many texts, each as often as the others but for one, in a random order."""
    rng = np.random.default_rng(seed_of("conditions"))
    rounds = [rng.permutation(len(texts)) for _ in range(-(-count // len(texts)))]
    return [texts[index] for index in np.concatenate(rounds)[:count]]


def _turns(name: str, said: list[Said]) -> Part:
    return Part(name, lambda moshi: [asdict(turn) for turn in ask(moshi, said, name)])


def _under(condition, said: list[Said], name: str) -> Callable[[Moshi], Any]:
    return lambda moshi: [asdict(turn) for turn in ask_under(moshi, condition, said, name)]


def _interruptions(moshi: Moshi, each: int) -> Any:
    return [asdict(one) for one in interrupt(moshi, ALL_UNHEARD, each, "interruptions")]


def _talks(name: str, voices: Sequence[Voice], every: int) -> Part:
    def measure(moshi: Moshi) -> Any:
        talks = converse_about(moshi, voices, -(-CONVERSATIONS // every), name)
        return [[asdict(turn) for turn in one] for one in talks]

    return Part(name, measure)


def _spoken(moshi: Moshi, pictures: Path) -> Any:
    from training.spoken_answers import spoken_answers  # it alone needs pocketsphinx, pystoi and matplotlib

    return spoken_answers(moshi, pictures)


def _quantized(model: str, scheme: str, said: list[Said]) -> Callable[[Moshi], Any]:
    def measure(_: Moshi) -> Any:
        checkpoint = Checkpoint.resolve(model, offline=True)
        lm = checkpoint.load_lm()
        quantize_lm(lm, parse_scheme(scheme))
        widen_on_cpu(lm)
        moshi = Moshi(lm, checkpoint.load_codec("mlx"), checkpoint.load_tokenizer(), checkpoint.sampling)
        return [asdict(turn) for turn in ask(moshi, said, "precisions")]

    return measure


def speed(moshi: Moshi) -> dict[str, Any]:
    """Frames a second of a minute of silence, and where; 12.5 are real time."""
    with moshi.session(seed=0) as session:
        stats = converse(session, FileSource(np.zeros(60 * SAMPLE_RATE, np.float32), 0, 0), Heard())
    where = scene()
    return {**stats.as_dict(), "scene": {key: where[key] for key in ("chip", "cores", "blas", "mlx")}}


def together(found: dict[str, Any]) -> dict[str, Any]:
    """The figures, of what each part found."""

    def turns(name: str) -> list[Turn]:
        return [Turn(**turn) for turn in found[name]]

    def of_voices(voices: Iterable[Voice]) -> list[Turn]:
        return [turn for voice in voices for turn in turns(f"turns/{voice}")]

    def talks(name: str) -> list[list[Turn]]:
        return [[Turn(**turn) for turn in one] for one in found[name]]

    cuts = [Interruption(**one) for one in found["interruptions"]]
    return {
        "turns": {group: summed_up(of_voices(voices)) for group, voices in UNHEARD.items()},
        "neural": {
            "turns": summed_up(of_voices(NEURAL_VOICES)),
            "conversations": conversations_summed_up(talks("neural conversations")),
        },
        "interruptions": {
            group: interruptions_summed_up([one for one in cuts if one.voice in names])
            for group, names in NAMES.items()
        },
        "conditions": {name: _by_group(turns(f"conditions/{name}")) for name in CONDITIONS},
        "unknown": _by_group(turns("unknown")),
        "conversations": {
            group: conversations_summed_up([one for one in talks("conversations") if one[0].voice in names])
            for group, names in NAMES.items()
        },
        "left_alone": found["left_alone"],
        "undisturbed": found["undisturbed"],
        "training_voices": summed_up(turns("training_voices")),
        "precisions": {scheme: summed_up(turns(f"precisions/{scheme}")) for scheme in ("q8", "q4")},
        "voice": found["voice"],
    }


def _by_group(turns: list[Turn]) -> dict[str, Any]:
    shares = {
        group: share([turn.right for turn in turns if turn.voice in names]) for group, names in NAMES.items()
    }
    return {**summed_up(turns), "by_group": {group: one.as_dict() for group, one in shares.items()}}


def fingerprint(model: Path, every: int) -> str:
    """What a part's result depends on: the model's files, and how many sentences."""
    digest = hashlib.sha256(str(every).encode())
    for path in sorted(model.glob("*")):
        if path.suffix in (".safetensors", ".json", ".model"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def measured(
    wanted: Iterable[Part], moshi: Moshi, work: Path, mark: str, minutes: float | None = None
) -> tuple[dict[str, Any], list[str]]:
    """What every part found, by name, and the names of those that are left.

    mark: of what is in `work`, only what has the same mark counts; the others are measured and kept there. No part
    is begun after so many minutes.
    """
    began = time.monotonic()
    found, left = {}, []
    for part in wanted:
        path = work / (part.name.replace("/", "-").replace(":", "-") + ".json")
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("of") != mark:
            if minutes is not None and time.monotonic() - began >= 60 * minutes:
                left.append(part.name)
                continue
            start = time.monotonic()
            kept = {"of": mark, "found": part.measure(moshi)}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{part.name}: {time.monotonic() - start:.0f} s", flush=True)
        found[part.name] = kept["found"]
    return found, left


def evaluate(model: str, out: Path, work: Path, every: int = 1, minutes: float | None = None) -> bool:
    """Measure every part that is not in `work` yet, for so many minutes; say whether all are there.

    When they are, the figures go to `out` as JSON; its "speed" stays what it was.
    """
    mark = fingerprint(Path(model), every)
    wanted = parts(model, out.parent, every)
    found, left = measured(wanted, load(model, offline=True), work, mark, minutes)
    if left:
        print(f"{len(left)} parts are left, {left[0]} first: run it again", flush=True)
        return False
    figures = {"model": mark, "every": every, **together(found)}
    if out.exists() and "speed" in (before := json.loads(out.read_text())):
        figures["speed"] = before["speed"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")
    return True


def main() -> int:
    """Measure, or only the speed of a machine that does nothing else."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("out", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--every", type=int, default=1, choices=range(1, 11), help="only every n-th sentence")
    parser.add_argument(
        "--minutes", type=float, help="begin no part after so many; exit status 3 if some are left"
    )
    parser.add_argument("--speed", action="store_true", help="measure the speed anew as well, on a quiet machine")
    given = parser.parse_args()
    if not evaluate(given.model, given.out, given.work, given.every, given.minutes):
        return UNFINISHED
    if given.speed:
        figures = json.loads(given.out.read_text())
        figures["speed"] = speed(load(given.model, offline=True))
        given.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
