"""The model card of `nano-stt`, from the figures of its evaluation.

python -m training.stt_card EVALUATION.json CARD.md
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.bars import interval
from training.evaluate_stt import CLOSE, DIGITS
from training.stt_text import NUMBERS, vocabulary
from training.stt_windows import DELAY, FRAME
from training.voices import BEFORE_KOKORO, UNHEARD, Voice, is_human

WORDS, TIMES = 0.9, 0.9
"""Its bars: words right of every group of unheard voices, and of these within CLOSE seconds of the synthesizer's."""
GROUPS = {
    "first": "voices held back from the first training of Nano on",
    "mbrola": "MBROLA's voices, the independent test",
    "further": "voices of other accents and qualities",
}


def names(voices: Iterable[Voice]) -> str:
    """Voices in a sentence."""
    return ", ".join(f"{voice.engine} {voice.name}" for voice in voices)


def missed(figures: dict[str, Any]) -> list[str]:
    """What did not reach its bar, a line each."""
    lines = [
        f"Words of {GROUPS[name]}: {interval(found['words'])} are right; the bar is {WORDS:.0%}."
        for name, found in figures["groups"].items()
        if found["words"]["share"] < WORDS
    ]
    if figures["times"]["within"]["share"] < TIMES:
        lines.append(
            f"{interval(figures['times']['within'])} words are within {1000 * CLOSE:.0f} ms of the synthesizer's "
            f"time; the bar is {TIMES:.0%}."
        )
    return lines


def card(figures: dict[str, Any]) -> str:
    """The card as Markdown. figures: of `evaluate_stt`."""
    whole, late = figures["all"], figures["times"]
    short = missed(figures)
    human = [voice for voice in BEFORE_KOKORO if is_human(str(voice))]
    groups = "\n".join(
        f"| {GROUPS[name]} ({names(UNHEARD[name])}) | {interval(found['words'])} | {interval(found['sentences'])} |"
        for name, found in figures["groups"].items()
    )
    voices = "\n".join(
        f"| {name.replace(':', ' ')} | {interval(found['words'])} |" for name, found in figures["voices"].items()
    )
    kinds = "\n".join(f"| {kind} | {interval(found['words'])} |" for kind, found in figures["kinds"].items())
    words = [word for word in vocabulary() if word not in NUMBERS]
    return f"""# nano-stt

Writes down what is said to Nano and around it: a speech-to-text model of 2.8 million parameters on Nano's codec, trained
from nothing on synthetic speech on one CPU core. It exists so that everything around transcribing can be tried, tested
and shown without a download. It knows {len(vocabulary())} English words and no others; it is no substitute for stt-1b.

## What did not reach its bar

{chr(10).join(f"- {line}" for line in short) if short else "Nothing."}

## Figures

Measured through moshi_mlx on the CPU (`training/evaluate_stt.py`), greedy, float32 activations, on voices that training
never heard and by which nothing was chosen. Every utterance is drawn anew: pace ±15 %, pitch ±10 %, level −12 to +6 dB,
noise in half of them, recorded at 8 to 48 kHz. In brackets the Wilson interval of 95 %, in percent.

| what | words right | sentences without a mistake |
|---|---|---|
| all unheard voices | {interval(whole["words"])} | {interval(whole["sentences"])} |
{groups}
| sentences, too, that training never heard, of words that it did | {interval(figures["new"]["words"])} | {interval(figures["new"]["sentences"])} |

| what else | figure |
|---|---|
| words too many, to {whole["words"]["of"]} that were said | {whole["too_many"]} |
| words within {1000 * CLOSE:.0f} ms of the time that the synthesizer tells ({", ".join(late["voices"]).replace(":", " ")}) | {interval(late["within"])} |
| the same: error at the median, at 95 %; how late at the median | {1000 * late["median_error"]:.0f} ms, {1000 * late["p95_error"]:.0f} ms; {1000 * late["median_lateness"]:.0f} ms |
| a pause is found from 0.25 s before to 1.2 s after the end of what is said | {interval(figures["pauses"]["at_end"])} |
| none is found within what is said | {interval(figures["pauses"]["none_within"])} |
| silence, noise, knocks and coughs of 6 s, left without a word | {interval(figures["quiet"])} |

| unheard voice | words right |
|---|---|
{voices}

| what is said | words right |
|---|---|
{kinds}

## How it listens

Four of Nano's eight codebooks, and text {DELAY * FRAME:.2f} s after the sound. The codec is Nano's and lies beside it in the package:
`moshi-mlx quantize nano-stt FOLDER --recipe q8` writes a folder that has its own. Words are small but for names and "I",
without punctuation. Four voice activity heads look 0.5, 1, 2 and 3 s ahead, as those of stt-1b: class 0 is silence. They
learned that a sentence goes on through a pause in its middle, and that nothing follows its end.

## Data and voices

All speech was made by free synthesizers at training time; no recording of a person was used. {len(BEFORE_KOKORO)} voices speak in training
({names(human)}, and espeak-ng's English with many variants), with changes of
speed, pitch, size, level, band, noise and room. What they say: Nano's questions, its answers, commands, sentences that it does
not know, {DIGITS}, and words without sense.

Who these voices are and under which licences they stand, and who only speaks in the evaluation: [Nano's card](../nano/README.md),
which heard these and others. RHVoice's lyubov, CC BY-NC-ND 4.0, spoke in rounds of training before the last. No synthesizer is part
of this package.

## Limits

Voices unlike those of its training it mishears often; numbers, short commands and first words, which nothing before them
helps to guess, oftenest. A sentence that it never heard it writes as one that it did, or in part. A word that it does not know comes out as one that it does, or not at all. One person at a time; people talking at once, music
and far microphones were not tried. Its memory is six seconds.

## Words

{" ".join(words)}

Numbers: {" ".join(NUMBERS)}
"""


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(card(json.loads(Path(sys.argv[1]).read_text())))
