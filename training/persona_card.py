"""The model card of `nano-persona`, from the figures of its evaluation.

python -m training.persona_card EVALUATION.json CARD.md
"""

import json
import sys
from pathlib import Path
from typing import Any

from training.bars import interval
from training.evaluate_persona import ALL_UNHEARD, PAUSE, QUESTIONS
from training.persona_lm import CONTEXT
from training.persona_prompts import NOBODY
from training.persona_questions import BETWEEN
from training.persona_text import ANSWERS, MANNERS, NAMES, UNKNOWN_ANSWERS, VOICES, said
from training.stt_card import GROUPS, names
from training.voices import BEFORE_KOKORO, UNHEARD

OBEYED = 0.95
"""The bar: of the turns of every group of unheard voices, those in which name, manner and voice are obeyed."""
PARTS = {
    "obeyed": "words and voice are those of the prompts",
    "words": "the words are exactly those of the name and the manner",
    "name": "asked for its name, it says that of the prompt",
    "manner": "it says what somebody of its manner says",
    "voice": "it speaks in the voice of the prompt",
}


def missed(figures: dict[str, Any]) -> list[str]:
    """What did not reach its bar, a line each."""
    lines = [
        f"Of all turns: {PARTS[part]} in {interval(figures['all'][part])}; the bar is {OBEYED:.0%}."
        for part in PARTS
        if figures["all"][part]["share"] < OBEYED
    ]
    lines += [
        f"{name}, who is {manner} and has the {voice} voice, says another name in most turns, whoever asks."
        for name, manner, voice in figures["misnamed"]
    ]
    return lines + [
        f"Asked by {GROUPS[name]}, it obeys in {interval(found['obeyed'])} of turns; the bar is {OBEYED:.0%}."
        for name, found in figures["groups"].items()
        if found["obeyed"]["share"] < OBEYED
    ]


def card(figures: dict[str, Any]) -> str:
    """The card as Markdown. figures: of `evaluate_persona`."""
    short = missed(figures)
    whole = figures["all"]
    parts = "\n".join(f"| {PARTS[part]} | {interval(whole[part])} |" for part in PARTS)
    groups = "\n".join(
        f"| {GROUPS[name]} ({names(UNHEARD[name])}) | {interval(found['obeyed'])} | {interval(found['words'])} |"
        for name, found in figures["groups"].items()
    )
    voices = "\n".join(
        f"| {name.replace(':', ' ')} | {interval(found['obeyed'])} | {interval(found['words'])} |"
        for name, found in figures["voices"].items()
    )
    kinds = "\n".join(
        f"| {kind} | {interval(found['obeyed'])} |"
        for what in ("manners", "own_voices", "names")
        for kind, found in figures[what].items()
    )
    says = "\n".join(
        f"| {question} | {' | '.join(answers)} |"
        for question, answers in {**ANSWERS, "anything else": UNKNOWN_ANSWERS}.items()
    )
    return f"""# nano-persona

PersonaPlex's protocol at small size: a text prompt chooses one of {len(NAMES)} names and one of {len(MANNERS)} manners, a voice prompt one of
two voices. It has Nano's size and codec, and knows {len(ANSWERS)} questions. It exists so that everything around prompts can be
tried, tested and shown without a download; it is no substitute for personaplex.

    moshi-mlx chat --model nano-persona --voice male --persona "You are {NAMES[1]} and you are {MANNERS[2]}."

## What did not reach its bar

{chr(10).join(f"- {line}" for line in short) if short else "Nothing."}

## Figures

Measured through moshi_mlx on the CPU (`training/evaluate_persona.py`), greedy, on voices that training never heard and by
which nothing was chosen. Each of {len(ALL_UNHEARD)} voices asks each of {len(NAMES) * len(MANNERS) * len(VOICES)} personas its name and one thing more, in a conversation of one
turn. Every question is drawn anew: pace ±15 %, pitch ±10 %, level −12 to +6 dB, noise in half of them, recorded at 8 to
48 kHz. Which voice speaks is told by the pitch of the decoded audio: what its male voice says lies below {BETWEEN:.0f} Hz in
the recordings that it learned from, what its female voice says above. In brackets the Wilson interval of 95 %, in percent.

| in how many turns | share |
|---|---|
{parts}
| the same, of sentences that it does not know | {interval(figures["unknown"]["obeyed"])} |
| {QUESTIONS} questions in one conversation, {PAUSE} s apart, the last for its name, without a wrong word | {interval(figures["conversations"])} |
| the voice prompt is a recording of that voice, not one of the files: it speaks in that voice | {interval(figures["recordings"]["voice"])} |

| who asks | obeyed | right words |
|---|---|---|
{groups}
{voices}

| what is asked for | obeyed |
|---|---|
{kinds}

## What it says

Prompts say "You are NAME and you are MANNER.", NAME being {", ".join(NAMES[:-1])} or {NAMES[-1]}, and MANNER one of these:

| | {" | ".join(MANNERS)} |
|---|---|---|---|
{says}

Without a text prompt it is {NOBODY.name} and {NOBODY.manner}; without a voice prompt it speaks in the {NOBODY.voice} voice. Other words in a
prompt it does not know.

## Limits

Two of the {len(said())} things that it can say, "Paris." and "Yes.", come out too high in the male voice: the codec's decoder was made for
one voice and learned the second from what it has to say in it. Everything else that it says is on the right side of {BETWEEN:.0f} Hz.

## How it is played

As PersonaPlex: the voice, half a second of silence, the text between its tags, half a second of silence. `voices/` has
`female` and `male`; a recording of one of the two does as well. Its window is {CONTEXT * 0.08:.1f} s, prompts included, which then leave
it: `--trim SECONDS` lets it live through them again.

## Data and voices

All speech was made by free synthesizers at training time; no recording of a person was used. It learned from the
conversations of [Nano](../nano/README.md), of whose voices {len(BEFORE_KOKORO)} speak in them, and began with Nano's weights. It speaks with
the voices {names(VOICES.values())}: BSD-like licences, as those of CMU's. None of the synthesizers is part of this package.
"""


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(card(json.loads(Path(sys.argv[1]).read_text())))
