"""How well others understand what `nano-tts` says, sentences that it never learned, through moshi_mlx itself.

`python -m training.evaluate_tts MODEL OUT.json`: what was measured of a model is kept beside OUT.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.quality.transcription import word_errors
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.say import say_together
from moshi_mlx.tasks.transcribe import load_transcriber
from training import tts_text
from training.answers import TEXTS
from training.dialogue import KNOWN, UNKNOWN
from training.evaluate_stt import Parts, heard
from training.intervals import Share
from training.stt_text import spelled
from training.text import plain
from training.voices import MODEL_VOICE, speak

NEW = 200  # sentences
TOGETHER = 25
MODEL, ORIGINAL = "model", "original"  # who says them
Words = list[tuple[str, float]]  # that were heard, with the second at which each begins
NEW_KIND, KNOWN_KIND = "new sentences", "answers of Nano"


def new_sentences(count: int = NEW) -> list[str]:
    """Sentences of at least three words, drawn anew, and none that Nano or anybody says to it."""
    learned = {tuple(plain(text)) for text in (*KNOWN, *UNKNOWN, *TEXTS)}
    rng = np.random.default_rng(60)
    found: dict[tuple[str, ...], str] = {}
    while len(found) < count:
        text = tts_text.sentence(rng)
        words = tuple(plain(text))
        if len(words) >= 3 and words not in learned:
            found.setdefault(words, text)
    return [*found.values()]


def spoken(moshi: Moshi, texts: Sequence[str]) -> list[tuple[np.ndarray, list[float]]]:
    """What the model makes of each text, (samples,) at 24 kHz, and when it says that each word begins, seconds."""
    frames: list[list[np.ndarray]] = [[] for _ in texts]
    times: list[list[float]] = [[] for _ in texts]
    for index, one in say_together(moshi, [(text, ()) for text in texts], size=TOGETHER, seed=1):
        if one:
            frames[index].append(one.audio)
            times[index] += [time for _, time in one.words]
    return [(np.concatenate(made), told) for made, told in zip(frames, times, strict=True)]


def recognised(texts: Sequence[str], found: Sequence[Words]) -> Iterator[tuple[bool, int, int]]:
    """Of each sentence, whether a grammar of them all found it, and words that are wrong, of how many."""
    for text, one in zip(texts, found, strict=True):
        wanted, words = plain(text), [word for word, _ in one]
        errors = word_errors(" ".join(wanted), " ".join(words))
        wrong = errors.substitutions + errors.deletions + errors.insertions
        yield words == wanted, min(len(wanted), wrong), len(wanted)


def lateness(texts: Sequence[str], found: Sequence[Words], told: Sequence[Sequence[float]]) -> list[float]:
    """By how many seconds words begin later than the model says, where the recogniser found the sentence."""
    late: list[float] = []
    for text, one, times in zip(texts, found, told, strict=True):
        if [word for word, _ in one] == plain(text):
            late += [round(at - time, 3) for (_, at), time in zip(one, times, strict=True)]
    return late


def written(said: Sequence[np.ndarray], texts: Sequence[str]) -> dict[str, int]:
    """What nano-stt, which knows the same words, writes of it: words right, and of how many."""
    found = heard(load_transcriber(nano.STT_NAME, codec="mlx", offline=True), said)
    errors = [word_errors(" ".join(spelled(text)), one.text) for text, one in zip(texts, found, strict=True)]
    return {
        "right": sum(one.words - one.substitutions - one.deletions for one in errors),
        "of": sum(one.words for one in errors),
    }


def understood(moshi: Moshi, kind: str, texts: Sequence[str], parts: Parts) -> dict[str, Any]:
    """Figures of one kind of sentences, of the model and of the voice that it learned from."""
    from training.intelligibility import closed_to

    @cache
    def made() -> list[tuple[np.ndarray, list[float]]]:
        return spoken(moshi, texts)

    @cache
    def said(who: str) -> list[np.ndarray]:
        return [pcm for pcm, _ in made()] if who == MODEL else [speak(MODEL_VOICE, text).pcm for text in texts]

    @cache
    def found(who: str) -> list[Words]:
        recogniser = closed_to([" ".join(plain(text)) for text in texts])
        return [recogniser.hear(pcm) for pcm in said(who)]

    def figures(who: str) -> dict[str, Any]:
        return {
            "sentences": [*recognised(texts, found(who))],
            "written": written(said(who), texts),
            "seconds": round(sum(map(len, said(who))) / 24_000, 1),
        }

    out: dict[str, Any] = {
        who: parts.found(f"{kind}, {who}", lambda who=who: figures(who)) for who in (MODEL, ORIGINAL)
    }
    times = parts.found(f"{kind}, times", lambda: lateness(texts, found(MODEL), [told for _, told in made()]))
    return {**out, "late": times}


def evaluate(model: str, out: Path) -> None:
    """Measure everything; results go to `out` as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = Parts.beside(out, Checkpoint.resolve(model, offline=True))
    moshi = load(model, codec="mlx", offline=True)
    kinds = {NEW_KIND: new_sentences(), KNOWN_KIND: list(TEXTS)}
    results = summary({kind: (texts, understood(moshi, kind, texts, parts)) for kind, texts in kinds.items()})
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(
        json.dumps({kind: found["model"]["sentences"] for kind, found in results["kinds"].items()}),
        results["times"],
    )


def summary(found: Mapping[str, tuple[Sequence[str], dict[str, Any]]]) -> dict[str, Any]:
    """What the card shows. found: of each kind, its sentences and what `understood` gives."""
    kinds = {}
    for kind, (texts, each) in found.items():
        kinds[kind] = {who: _shares(each[who]) for who in ("model", "original")}
        rows = zip(texts, each["model"]["sentences"], strict=True)
        kinds[kind]["misunderstood"] = [text for text, (right, *_) in rows if not right]
    late = np.abs([time for _, each in found.values() for time in each["late"]])
    times = {
        "of": len(late),
        "median_error": _rounded(np.median(late)),
        "p95_error": _rounded(np.percentile(late, 95)),
    }
    return {"kinds": kinds, "times": times}


def _shares(figures: dict[str, Any]) -> dict[str, Any]:
    rights, wrong, words = zip(*figures["sentences"], strict=True)
    return {
        "sentences": Share(sum(rights), len(rights)).as_dict(),
        "words": Share(sum(words) - sum(wrong), sum(words)).as_dict(),
        "written": Share(figures["written"]["right"], figures["written"]["of"]).as_dict(),
        "seconds": figures["seconds"],
    }


def _rounded(value: Any) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    evaluate(sys.argv[1], Path(sys.argv[2]))
