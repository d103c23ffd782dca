"""Whether `nano-persona` obeys its prompts, measured through moshi_mlx itself on voices that training never heard.

`python -m training.evaluate_persona MODEL OUT.json`: what was measured of a model is kept beside OUT.json.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.loudness import at_loudness
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.voices import Voices
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.tasks.persona import VOICE_LUFS, persona
from training.dialogue import UNKNOWN_HELD_OUT
from training.evaluate_stt import Parts
from training.intervals import share
from training.persona_questions import Turn, ask, asked_of_all, talk
from training.persona_text import ANSWERS, NAME_QUESTION, VOICES, Persona, personas
from training.pitch import pitch
from training.recordings import Said, all_of, recorded, seed_of
from training.voices import SAMPLE_RATE, UNHEARD, Voice, speak

PAUSE = 3.2  # seconds to answer in, between the questions of a conversation
QUESTIONS = 4  # of a conversation
ALL_UNHEARD = tuple(voice for voices in UNHEARD.values() for voice in voices)
SHOWN = 40  # wrong turns that are kept


def prompts_of(moshi: Moshi, model: str) -> dict[Persona, Prompt]:
    """The prompt of everybody, with the voices of the model."""
    voices = Voices(model, offline=True)
    heard = {name: voices.read(name) for name in VOICES}
    return {one: persona(moshi, one.prompt, heard[one.voice]) for one in personas()}


def conversations(moshi: Moshi, prompts: dict[Persona, Prompt]) -> dict[str, int]:
    """Conversations of QUESTIONS questions with everybody, the last of which asks for the name."""
    rng = np.random.default_rng(seed_of("persona conversations"))
    known = [text for text in ANSWERS if text != NAME_QUESTION]
    recordings, wanted = [], []
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    for number, one in enumerate(prompts):
        texts = [*(str(text) for text in rng.choice(known, QUESTIONS - 1, replace=False)), NAME_QUESTION]
        voice = ALL_UNHEARD[number % len(ALL_UNHEARD)]
        parts = all_of(recorded, [seed_of("persona conversations"), number], [Said(voice, text) for text in texts])
        recordings.append(np.concatenate([piece for part in parts for piece in (part, pause)][:-1]))
        wanted.append(" ".join(one.answer(text) for text in texts))
    heard = talk(moshi, list(prompts.values()), recordings)
    return {"right": sum(one.text == text for one, text in zip(heard, wanted, strict=True)), "of": len(wanted)}


def recorded_voices(moshi: Moshi, asks: Voice) -> list[dict[str, Any]]:
    """Answers to prompts whose voice is a recording of something that training never heard."""
    rng = np.random.default_rng(seed_of("persona recordings"))
    texts = list(ANSWERS)
    asked: list[tuple[Persona, str]] = []
    prompts: list[Prompt] = []
    for one in personas():
        pcm = speak(VOICES[one.voice], str(rng.choice(UNKNOWN_HELD_OUT)), float(rng.uniform(0.9, 1.1))).pcm
        prompts.append(persona(moshi, one.prompt, at_loudness(pcm, VOICE_LUFS)))
        asked.append((one, texts[rng.integers(len(texts))]))
    recordings = all_of(recorded, [seed_of("persona recordings")], [Said(asks, text) for _, text in asked])
    return [
        asdict(Turn(str(asks), text, one.name, one.manner, one.voice, heard.text, pitch(heard.pcm)))
        for (one, text), heard in zip(asked, talk(moshi, prompts, recordings), strict=True)
    ]


def summed_up(turns: Sequence[Turn]) -> dict[str, Any]:
    """Shares of turns: in which all is obeyed, and each of what was asked for."""
    named = [turn.named for turn in turns if turn.named is not None]
    return {
        "obeyed": share([turn.obeyed for turn in turns]).as_dict(),
        "words": share([turn.right for turn in turns]).as_dict(),
        "name": share(named).as_dict() if named else None,
        "manner": share([turn.mannered for turn in turns]).as_dict(),
        "voice": share([turn.voiced for turn in turns]).as_dict(),
    }


def summary(found: dict[str, list[Turn]], talks: dict[str, int], others: Sequence[Turn]) -> dict[str, Any]:
    """What the card shows. found: every unheard voice's turns; talks, others: of the functions above."""
    every = [turn for turns in found.values() for turn in turns]
    return {
        "all": summed_up(every),
        "groups": {
            group: summed_up([turn for voice in voices for turn in found[str(voice)]])
            for group, voices in UNHEARD.items()
        },
        "voices": {voice: summed_up(turns) for voice, turns in found.items()},
        "manners": _by("manner", every),
        "names": _by("name", every),
        "own_voices": _by("voice", every),
        "unknown": summed_up([turn for turn in every if turn.text not in ANSWERS]),
        "conversations": share([True] * talks["right"] + [False] * (talks["of"] - talks["right"])).as_dict(),
        "recordings": summed_up(others),
        "misnamed": misnamed(every),
        "wrong": [list(asdict(turn).values()) for turn in every if not turn.obeyed][:SHOWN],
    }


def misnamed(turns: Sequence[Turn]) -> list[list[str]]:
    """Whoever mostly says another name than its own where it is asked for it: name, manner and voice of each."""
    asked: dict[tuple[str, str, str], list[bool]] = {}
    for turn in turns:
        if turn.named is not None:
            asked.setdefault((turn.name, turn.manner, turn.voice), []).append(turn.named)
    return [list(who) for who, named in asked.items() if sum(named) < len(named) / 2]


def _by(what: str, turns: Sequence[Turn]) -> dict[str, Any]:
    kinds = dict.fromkeys(getattr(turn, what) for turn in turns)
    return {kind: summed_up([turn for turn in turns if getattr(turn, what) == kind]) for kind in kinds}


def evaluate(model: str, out: Path) -> None:
    """Measure everything; results go to `out` as JSON."""
    moshi = load(model, codec="mlx", offline=True)
    prompts = prompts_of(moshi, model)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = Parts.beside(out, Checkpoint.resolve(model, offline=True))
    found: dict[str, list[Turn]] = {}
    for seed, voice in enumerate(ALL_UNHEARD):
        asked = list(asked_of_all(voice, seed))
        turns = parts.found(
            f"turns of {voice}",
            lambda voice=voice, asked=asked: list(map(asdict, ask(moshi, prompts, voice, asked))),
        )
        found[str(voice)] = [Turn(**turn) for turn in turns]
    talks = parts.found("conversations", lambda: conversations(moshi, prompts))
    others = parts.found("recordings", lambda: recorded_voices(moshi, ALL_UNHEARD[2]))
    results = summary(found, talks, [Turn(**turn) for turn in others])
    out.write_text(json.dumps(results, indent=1) + "\n")
    print({name: results["all"][name] for name in ("obeyed", "words", "name", "manner", "voice")})


if __name__ == "__main__":
    evaluate(sys.argv[1], Path(sys.argv[2]))
