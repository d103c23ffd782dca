"""What `nano-stt` hears, measured through moshi_mlx itself on voices that training never heard.

`python -m training.evaluate_stt MODEL OUT.json`: what was measured of a model is kept beside OUT.json.
`python -m training.evaluate_stt MODEL` listens to training voices that say things anew: what may be chosen by.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.hub import sha256
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.transcription import time_errors, word_errors
from moshi_mlx.tasks.transcribe import Transcriber, load_transcriber
from moshi_mlx.tasks.words import Transcription, Word
from training import augment
from training.dialogue import ANSWERS, KNOWN, STOPS, UNKNOWN, UNKNOWN_ANSWER, UNKNOWN_HELD_OUT
from training.intervals import Share
from training.recordings import Said, recorded
from training.stt_text import digits, spelled
from training.voices import UNHEARD, Voice
from training.word_times import timed

LEAD, TAIL = 0.6, 1.3  # seconds of silence around what is said
TAUGHT: dict[str, Sequence[str]] = {
    "questions": [text for text in KNOWN if text not in STOPS],
    "answers": [*dict.fromkeys(ANSWERS.values()), UNKNOWN_ANSWER],
    "commands": STOPS,
    "unknown sentences": UNKNOWN,
}
"""What training has said, by kind. Digits are drawn anew."""
DIGITS, NEW = "digits", "sentences that training never heard"
KINDS = (*TAUGHT, DIGITS)  # Nano's domain
COUNT = 20  # utterances of each kind, of each voice
TELL_TIMES = (Voice("espeak", "en-us+f4"), Voice("espeak", "en-gb-x-gbcwmd+m5"))  # unheard, and times are known
CLOSE = 0.12  # seconds
EARLY, LATE = 0.25, 1.2  # seconds around the end of what is said, in which a pause is to be found
ONSET = 0.3  # seconds of what is said in which it may not have been noticed
AT_ONCE = 24  # recordings in a batch
TAKES = (Voice("flite", "awb"), Voice("rhvoice", "bdl"), Voice("pico", "en-GB"), Voice("espeak", "en-us+m3"))


def texts(rng: np.random.Generator, kind: str, count: int) -> list[str]:
    """Things to say, drawn anew."""
    if kind == DIGITS:
        return [digits(rng) for _ in range(count)]
    among = UNKNOWN_HELD_OUT if kind == NEW else TAUGHT[kind]
    return [str(text) for text in rng.choice(among, count, replace=count > len(among))]


def heard(transcriber: Transcriber, said: Iterable[np.ndarray]) -> list[Transcription]:
    """What is written of recordings, with silence around each."""
    lead, tail = (np.zeros(int(seconds * SAMPLE_RATE), np.float32) for seconds in (LEAD, TAIL))
    return transcriber.transcribe_together([np.concatenate([lead, pcm, tail]) for pcm in said], AT_ONCE)


def understanding(transcriber: Transcriber, voice: Voice, count: int, seed: int) -> dict[str, Any]:
    """Of what one voice says, by kind: words right and words too many, sentences without a mistake, mistakes."""
    found: dict[str, Any] = {}
    for number, kind in enumerate((*KINDS, NEW)):
        rng = np.random.default_rng([50, seed, number])
        said = texts(rng, kind, count)
        every = heard(transcriber, [recorded(rng, Said(voice, text)) for text in said])
        wanted = [" ".join(spelled(text)) for text in said]
        errors = [word_errors(text, one.text) for text, one in zip(wanted, every, strict=True)]
        wrong = [[text, one.text] for text, one in zip(wanted, every, strict=True) if one.text != text]
        found[kind] = {
            "right": sum(one.words - one.substitutions - one.deletions for one in errors),
            "of": sum(one.words for one in errors),
            "too_many": sum(one.insertions for one in errors),
            "sentences": [count - len(wrong), count],
            "wrong": wrong[:3],
        }
    return found


def times(transcriber: Transcriber, voice: Voice, count: int) -> list[float]:
    """By how many seconds words that are right begin too late, by a synthesizer that tells when they do."""
    rng = np.random.default_rng(51)
    said = texts(rng, "questions", count) + texts(rng, "unknown sentences", count)
    spoken = [timed(voice, text, float(rng.uniform(0.87, 1.15))) for text in said]
    errors: list[float] = []
    for text, one, found in zip(said, spoken, heard(transcriber, [each.pcm for each in spoken]), strict=True):
        pairs = zip(spelled(text), one.onsets, strict=True)
        wanted = [Word(word, LEAD + onset, LEAD + onset) for word, onset in pairs]
        errors += time_errors(wanted, found.words).tolist()
    return [round(error, 3) for error in errors]


def pauses(transcriber: Transcriber, voice: Voice, count: int) -> dict[str, int]:
    """Utterances at whose end a pause is found, and those in the middle of which one is."""
    rng = np.random.default_rng(52)
    said = texts(rng, "questions", count) + texts(rng, "unknown sentences", count)
    recordings = [recorded(rng, Said(voice, text)) for text in said]
    at_end = within = 0
    for pcm, one in zip(recordings, heard(transcriber, recordings), strict=True):
        end = LEAD + len(pcm) / SAMPLE_RATE
        found = [pause.time for pause in one.pauses]
        at_end += any(end - EARLY <= time <= end + LATE for time in found)
        within += any(LEAD + ONSET < time < end - EARLY for time in found)
    return {"of": len(said), "at_end": at_end, "within": within}


def quiet(transcriber: Transcriber) -> dict[str, int]:
    """Recordings of silence, noise and knocks, and how many are left without a word."""
    rng = np.random.default_rng(53)
    length = 6 * SAMPLE_RATE
    sounds = [np.zeros(length, np.float32)]
    sounds += [10 ** (level / 20) * augment.noise(rng, length) for level in (-65, -60, -55, -50, -45, -40)]
    sounds += [0.3 * augment.bumps(rng, length) for _ in range(23)]
    found = heard(transcriber, [sound.astype(np.float32) for sound in sounds])
    return {"of": len(found), "silent": sum(not one.words for one in found)}


class Parts:
    """Results that are kept as they are found, so that an evaluation goes on where it was ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    @classmethod
    def beside(cls, out: Path, model: Checkpoint) -> "Parts":
        """Those of a model, beside `out`: it depends on what it has learned and on what its codec hears."""
        weights = [sha256(path)[:6] for path in (model.lm_weights, model.mimi_weights)]
        return cls(out.with_name(f"{out.stem}-{'-'.join(weights)}.parts"))

    def found(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gives, or gave."""
        if name not in self._done:
            self._done[name] = find()
            self._path.write_text(json.dumps(self._done))
            print(name, flush=True)
        return self._done[name]


def evaluate(model: str, out: Path) -> None:
    """Measure everything; results go to `out` as JSON."""
    transcriber = load_transcriber(model, codec="mlx", offline=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = Parts.beside(out, Checkpoint.resolve(model, offline=True))
    words: dict[str, dict[str, Any]] = {}
    late: list[float] = []
    ends: list[dict[str, int]] = []
    for seed, voice in enumerate(voice for voices in UNHEARD.values() for voice in voices):
        words[str(voice)] = parts.found(
            f"words of {voice}", lambda voice=voice, seed=seed: understanding(transcriber, voice, COUNT, seed)
        )
        ends.append(parts.found(f"pauses of {voice}", lambda voice=voice: pauses(transcriber, voice, COUNT)))
    for voice in TELL_TIMES:
        late += parts.found(f"times of {voice}", lambda voice=voice: times(transcriber, voice, 30))
    silence = parts.found("quiet", lambda: quiet(transcriber))
    results = summary(words, np.array(late), ends, silence)
    out.write_text(json.dumps(results, indent=1) + "\n")
    for name, found in {**results["groups"], "all": results["all"]}.items():
        print(name, found["words"])
    print({name: results[name] for name in ("new", "times", "pauses", "quiet")})


def summary(
    words: dict[str, dict[str, Any]], late: np.ndarray, ends: Sequence[dict[str, int]], silence: dict[str, int]
) -> dict[str, Any]:
    """What the card shows. words: of every unheard voice; late, ends, silence: of `times`, `pauses`, `quiet`."""
    groups = {name: [words[str(voice)] for voice in voices] for name, voices in UNHEARD.items()}
    total = sum(one["of"] for one in ends)
    apart = np.abs(late)
    return {
        "all": added(words.values(), KINDS),
        "groups": {name: added(found, KINDS) for name, found in groups.items()},
        "voices": {voice: added([found], KINDS) for voice, found in words.items()},
        "kinds": {kind: added(words.values(), [kind]) for kind in KINDS},
        "new": added(words.values(), [NEW]),
        "times": {
            "voices": [str(voice) for voice in TELL_TIMES],
            "within": Share(int((apart <= CLOSE).sum()), len(late)).as_dict(),
            "median_error": round(float(np.median(apart)), 3),
            "p95_error": round(float(np.percentile(apart, 95)), 3),
            "median_lateness": round(float(np.median(late)), 3),
        },
        "pauses": {
            "at_end": Share(sum(one["at_end"] for one in ends), total).as_dict(),
            "none_within": Share(total - sum(one["within"] for one in ends), total).as_dict(),
        },
        "quiet": Share(silence["silent"], silence["of"]).as_dict(),
        "wrong": {
            voice: [line for one in found.values() for line in one["wrong"][:2]] for voice, found in words.items()
        },
    }


def added(found: Iterable[dict[str, Any]], kinds: Sequence[str]) -> dict[str, Any]:
    """Words and sentences of some kinds, of several voices together."""
    some = [one[kind] for one in found for kind in kinds]
    whole = [sum(one["sentences"][index] for one in some) for index in range(2)]
    return {
        "words": Share(sum(one["right"] for one in some), sum(one["of"] for one in some)).as_dict(),
        "too_many": sum(one["too_many"] for one in some),
        "sentences": Share(*whole).as_dict(),
    }


def takes(model: str, count: int = 8) -> None:
    """Print what is right of what training voices say anew."""
    transcriber = load_transcriber(model, codec="mlx", offline=True)
    for seed, voice in enumerate(TAKES):
        found = understanding(transcriber, voice, count, 100 + seed)
        print(
            voice,
            added([found], KINDS)["words"],
            {kind: f"{one['right']}/{one['of']}" for kind, one in found.items()},
        )
        print(
            [line for one in found.values() for line in one["wrong"][:1]],
            pauses(transcriber, voice, 6),
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        takes(sys.argv[1])
    else:
        evaluate(sys.argv[1], Path(sys.argv[2]))
