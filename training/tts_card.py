"""The model card of `nano-tts`, from the figures of its evaluation.

python -m training.tts_card EVALUATION.json CARD.md
"""

import json
import sys
from pathlib import Path
from typing import Any

from training.bars import interval
from training.evaluate_tts import NEW_KIND
from training.stt_text import NUMBERS, vocabulary
from training.tts_windows import DELAY

SENTENCES = 0.95
"""Its bar: new sentences that a recogniser finds among all of them."""
ROWS = {
    "sentences": "sentences, found by a grammar of all of them (pocketsphinx)",
    "words": "words right in those that it found",
    "written": "words right as nano-stt writes them, which may be any of as many words at any place",
}


def missed(figures: dict[str, Any]) -> list[str]:
    """What did not reach its bar, a line each."""
    found = figures["kinds"][NEW_KIND]["model"]["sentences"]
    if found["share"] >= SENTENCES:
        return []
    return [
        f"{interval(found)} sentences that training never said are found by a grammar; the bar is {SENTENCES:.0%}."
    ]


def card(figures: dict[str, Any]) -> str:
    """The card as Markdown. figures: of `evaluate_tts`."""
    short, times = missed(figures), figures["times"]
    table = "\n".join(
        f"| {kind}: {row} | {interval(found['model'][name])} | {interval(found['original'][name])} |"
        for kind, found in figures["kinds"].items()
        for name, row in ROWS.items()
    )
    wrong = figures["kinds"][NEW_KIND]["misunderstood"]
    words = [word for word in vocabulary() if word not in NUMBERS]
    return f"""# nano-tts

Says a text: a text-to-speech model of 7 million parameters on Nano's codec, trained from nothing on synthetic
speech on two CPU cores. It exists so that everything around text-to-speech can be tried, tested and shown without a
download. It says {len(vocabulary())} English words, in any order, and leaves out others; it is no substitute for tts-1.6b.

    moshi-mlx say --model nano-tts "Hello, I am small but I can say nine words."

## What did not reach its bar

{chr(10).join(f"- {line}" for line in short) if short else "Nothing."}

## Figures

Measured through moshi_mlx on the CPU (`training/evaluate_tts.py`), at the temperature of 0.6 and the guidance of 2 that `say` has,
float32 activations, beside the voice that it learned from, which says the same. In brackets the Wilson interval of 95 %, in
percent. *{NEW_KIND.capitalize()}* are drawn as those of its training, of three words or more, and none of them is one; most are words without sense.

| what | nano-tts | flite's slt |
|---|---|---|
{table}

Words begin {1000 * times["median_error"]:.0f} ms at the median ({1000 * times["p95_error"]:.0f} ms at 95 %) from the time that `--transcript` tells, by pocketsphinx, of {times["of"]} words.

Of the new sentences it is misunderstood in: {"; ".join(f"*{text}*" for text in wrong) or "none"}.

## How it speaks

By Kyutai TTS's protocol: it reads a word when it asks for one, and {DELAY * 0.08:.2f} s later says it. Guidance is real, for one window in
eight of its training had no text. It has one voice, Nano's, and takes no other: a recording that it should go on from it cannot imitate. Upper case is as lower case; of punctuation, full stops, commas
and question marks change how it sounds.

## Data

Every word by flite's `slt` (BSD-like licence), made at training time; no recording of a person was used. A word that goes on is cut out of a phrase,
others end one, asking or not. So there are four of each word; Nano's codec turned them into codes, with the encoder that its codebooks were made with, and
sentences without end are put together of these: two of three without sense, so that every word follows every other, the others what is said to Nano and
by it, and numbers. The codec's decoder learned them beside what Nano and nano-persona say.

## Limits

It speaks word by word: nothing tells how long a word is or how high but the mark after it, and no word changes the one beside it. One voice, one pace, no
feeling. It knows no word that is not below.

## Words

{" ".join(words)}

Numbers: {" ".join(NUMBERS)}
"""


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(card(json.loads(Path(sys.argv[1]).read_text())))
