"""Nano's model card, from the figures of its evaluation and of its behaviour.

moshi-mlx eval nano nano+q8 nano+q4 --json > EVAL.json
python -m training.card behaviour EVAL.json > training/results/behaviour.json
python -m training.card EVALUATION.json training/results/behaviour.json CARD.md
"""

import json
import sys
from pathlib import Path

from training.dialogue import ANSWERS, STOPS, UNKNOWN_ANSWER
from training.voices import HELD_OUT_VOICES, TRAINING_VOICES, is_human

SHOWN = (
    ("speaks into a pause of the user", "pause_handling", "clean", "takeover", "mean", ""),
    ("answers at the end of a turn", "smooth_turn_taking", "clean", "takeover", "mean", ""),
    ("the first word after it, median", "smooth_turn_taking", "clean", "latency", "median", "s"),
    ("right answers (one question, two at once, after a hesitation)", "smooth_turn_taking", "clean", "accuracy", "mean", ""),
    ("right answers in noise, 10 dB", "smooth_turn_taking", "noise 10 dB", "accuracy", "mean", ""),
    ("silent after an interruption began, median", "user_interruption", "clean", "stop", "median", "s"),
    ("the same, 9 of 10 below", "user_interruption", "clean", "stop", "p90", "s"),
    ("right answers to interruptions", "user_interruption", "clean", "accuracy", "mean", ""),
    ("goes on when the user says \"uh huh\" (right answers)", "user_backchannel", "clean", "accuracy", "mean", ""),
    ("goes on when others speak (right answers)", "background_speech", "clean", "accuracy", "mean", ""),
    ("speaks into 20 s of silence or noise", "silence", "clean", "takeover", "mean", ""),
)  # fmt: skip
"""Of a report of `eval`: what the card calls a figure, and which it is."""


def behaviour(report: dict) -> dict:
    """What the card shows of a report of `eval --json`."""
    rows = []
    for title, task, condition, measure, statistic, unit in SHOWN:
        wanted = {"task": task, "condition": condition, "measure": measure, "statistic": statistic}
        found = [
            next(one for one in model["figures"] if {name: one[name] for name in wanted} == wanted)
            for model in report["models"]
        ]
        values = [round(one["value"], 4) for one in found]
        rows.append({"title": title, "unit": unit, "samples": found[0]["samples"], "values": values})
    return {"models": [Path(model["model"]).name for model in report["models"]], "rows": rows}


def _behaviour_table(found: dict) -> str:
    lines = ["| what | scenes | " + " | ".join(found["models"]) + " |", "|---" * (2 + len(found["models"])) + "|"]
    for row in found["rows"]:
        cells = [f"{value:.2f} s" if row["unit"] else _percent(value) for value in row["values"]]
        lines.append(f"| {row['title']} | {row['samples']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card(figures: dict, behaves: dict) -> str:
    """The card as Markdown. behaves: of `behaviour`."""
    held, seen, unknown = figures["held_out"], figures["training_voices"], figures["unknown"]
    quiet, cuts, voice = figures["quiet"], figures["interruptions"], figures["voice"]
    through, speed = figures["undisturbed"], figures["speed"]
    nano, original = voice["nano"], voice["original"]
    voices = "\n".join(f"| {name} | {_percent(share)} |" for name, share in held["by_voice"].items())
    known = "\n".join(f"- {question} *{answer}*" for question, answer in ANSWERS.items())
    return f"""# Nano

A Moshi of 9 million parameters with a Mimi of 3 million, trained from nothing on synthetic speech on two CPU cores. It
exists so that everything around a speech-text model can be tried, tested and shown without a download. It knows
{len(ANSWERS)} questions, in these words, and nothing else; it is no substitute for Moshi.

## Figures

Measured through moshi_mlx on the CPU (`training/evaluate.py`), greedy, float32 activations. Every turn is drawn anew:
pace ±15 %, pitch ±10 %, level −12 to +6 dB, noise in half of them, recorded at 8 to 48 kHz.

| what | figure |
|---|---|
| voices that training never heard: literally the right words | {_percent(held["right"])} of {held["turns"]} turns |
| voices that training heard ({_names(seen["by_voice"])}) | {_percent(seen["right"])} of {seen["turns"]} |
| began to speak too early (unheard voices) | {_percent(held["early"])} |
| unknown sentences that training never saw, answered "{UNKNOWN_ANSWER}" | {_percent(unknown["right"])} of {unknown["turns"]} |
| silence, noise, knocks and coughs that it leaves unanswered | {quiet["silent"]} of {quiet["recordings"]} |
| silent within half a second of an interruption (its audio) | {cuts["stopped_in_half_a_second"]} of {cuts["interruptions"]}, median {cuts["median_seconds"]} s, longest {cuts["longest_seconds"]} s |
| answers to {_names([through["voice"]])} finished in spite of a noise; of its own echo, 30 to 40 dB below it | {through["noise"]} of {through["of"]}; {through["echo"]} of {through["of"]} |
| conversations of five questions, one with each unheard voice, without a mistake | {figures["several"]["right"]} of {figures["several"]["conversations"]} |
| interrupting questions answered | {cuts["answered"]} of {cuts["questions"]} |

| unheard voice | right |
|---|---|
{voices}

What pocketsphinx, which knows nothing of Nano, understands of its spoken answers; the middle column is the recordings
that it learnt from:

| | original | Nano |
|---|---|---|
| which answer it was (grammar of all answers) | {_percent(original["sentences"])} | {_percent(nano["sentences"])} |
| words, bigram model | {_percent(original["words"])} | {_percent(nano["words"])} |
| STOI, mean (worst) | | {nano["stoi"]} ({nano["worst_stoi"]}) |

It sounds like flite's `slt`, a little rougher, its s sounds coarser above 6 kHz; while it does not speak it is silent
(−100 dBFS) but for a faint click in the very first frame.

![spectrograms of three answers](../../../training/results/voice.png)

Quantized, {_names(figures["precisions"]["q8"]["by_voice"])} alone, {figures["precisions"]["q8"]["turns"]} turns: q8 {_percent(figures["precisions"]["q8"]["right"])}, q4 {_percent(figures["precisions"]["q4"]["right"])} (float32 activations as above).
A minute took {speed["seconds"]:.0f} s on {speed["scene"]["cores"]} cores, {speed["scene"]["chip"]} ({speed["frames_per_second"]:.0f} frames/s; 12.5 are real time).

## Behaviour

In the builtin scenes of `moshi-mlx eval` (`make eval`), by the metrics of Full-Duplex-Bench, which docs/evaluation.md explains;
float32 activations. No difference between the three is beyond doubt.

{_behaviour_table(behaves)}

It does not wait: a pause of half a second in the middle of a question is its end for Nano, which answers what it has heard by
then. "Uh huh" and other voices interrupt it as words do.

## Data and voices

All speech was made by free synthesizers at training time; no recording of a person was used. Nano's own voice is
flite's `slt`, and its codec's decoder was fitted to that voice alone, on Nano's own sentences: it cannot reproduce other
speech. {len(TRAINING_VOICES)} voices ask in training ({_names([voice for voice in TRAINING_VOICES if is_human(str(voice))])}, and espeak-ng's English with many
variants), with changes of speed, pitch, level, band and noise. Held out: {_names(HELD_OUT_VOICES)}.

Licences of the synthesizers: flite and its CMU voices, BSD-like; espeak-ng, GPL-3.0 or later; festival, BSD-like, its
diphone voices, free for any use, its HTS voice, BSD-like; SVOX Pico, Apache-2.0; RHVoice and the
three of its voices that ask here, LGPL-2.1 or later. None of them is part of this package.

## Limits

Of voices that it has heard it understands nearly everything, of others nine sentences in ten. What it does not
understand it mostly admits not to know, now and then it takes it for another question. One interruption in nine, by
voices that it never heard, it notices late or takes for its own echo or a noise, and finishes its sentence: oftenest of
the voice whose speaker is its own. Asked several questions in one conversation by a hard voice, it gets some wrong.
Voices unlike those above, children's for example, were not tried. Its codec's window is one second, its memory eight.

## What it can be asked

{known}

{", ".join(f'"{stop}"' for stop in STOPS)} end an answer. Everything else gets "{UNKNOWN_ANSWER}"
"""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _names(voices) -> str:
    return ", ".join(str(voice).replace(":", " ") for voice in voices)


if __name__ == "__main__":
    if sys.argv[1] == "behaviour":
        print(json.dumps(behaviour(json.loads(Path(sys.argv[2]).read_text())), indent=1))
    else:
        first, second = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
        Path(sys.argv[3]).write_text(card(first, second))
