"""Nano's model card, from the figures of its evaluation and of its behaviour.

moshi-mlx eval nano nano+q8 nano+q4 --json > EVAL.json
python -m training.card behaviour EVAL.json > training/results/behaviour.json
python -m training.card EVALUATION.json training/results/behaviour.json CARD.md
"""

import json
import sys
from pathlib import Path

from training.bars import Bar, bars, interval, percent
from training.dialogue import ANSWERS, STOPS, UNKNOWN_ANSWER
from training.voices import NEURAL_VOICES, TRAINING_VOICES, UNHEARD, is_human

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
        cells = [f"{value:.2f} s" if row["unit"] else percent(value) for value in row["values"]]
        lines.append(f"| {row['title']} | {row['samples']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card(figures: dict, behaves: dict) -> str:
    """The card as Markdown. behaves: of `behaviour`."""
    seen = figures["training_voices"]
    alone, voice, through, speed = (figures[name] for name in ("left_alone", "voice", "undisturbed", "speed"))
    nano, original = voice["nano"], voice["original"]
    known = "\n".join(f"- {question} *{answer}*" for question, answer in ANSWERS.items())
    return f"""# Nano

A Moshi of 9 million parameters with a Mimi of 3 million, trained from nothing on synthetic speech on two CPU cores. It
exists so that everything around a speech-text model can be tried, tested and shown without a download. It knows
{len(ANSWERS)} questions, in these words, and nothing else; it is no substitute for Moshi.

{_missed(list(bars(figures)))}

## Figures

Measured through moshi_mlx on the CPU (`make nano-card`), greedy, float32 activations, on voices that training never heard.
Every turn is drawn anew: pace ±15 %, pitch ±10 %, level −12 to +6 dB, noise in half of them, recorded at 8 to 48 kHz.
In brackets are Wilson intervals of 95 %. Three groups of voices: {_groups()}. The MBROLA voices
are the independent test: a synthesizer that neither training nor any choice has ever used.{_how_many(figures["every"])}

| what | {" | ".join(UNHEARD)} |
|---|{"---|" * len(UNHEARD)}
{_group_rows(figures)}

| unheard voice | words right | interruptions | conversations | questions in them |
|---|---|---|---|---|
{_voice_rows(figures)}

Three voices of neural networks sound like people: {_names(NEURAL_VOICES[:1])}, of a network that training never heard, and
{_names(NEURAL_VOICES[1:])}, of one that it heard with other speakers. They ask the same, in single turns ({interval(figures["neural"]["turns"]["early"])} answered
too early) and in conversations of ten:

| unheard voice | words right | conversations | questions in them |
|---|---|---|---|
{_neural_rows(figures["neural"])}

Under bad conditions, one at a time and everything else clean, all unheard voices in turn say the same {figures["conditions"]["none"]["of"]} sentences:

| condition | all | {" | ".join(UNHEARD)} |
|---|---|{"---|" * len(UNHEARD)}
{_condition_rows(figures["conditions"])}

| what it is to leave alone, 8 s each | left alone |
|---|---|
{_alone_rows(alone)}

| what | figure |
|---|---|
| voices that training heard ({_names(seen["by_voice"])}): literally the right words | {interval(seen)} |
| answers to {_names([through["voice"]])} finished in spite of a noise | {interval(through["noise"])} |
| of its own echo, 30 to 40 dB below it | {interval(through["echo"])} |
| {_names(figures["precisions"]["q8"]["by_voice"])} alone, quantized to q8 | {interval(figures["precisions"]["q8"])} |
| quantized to q4 | {interval(figures["precisions"]["q4"])} |

What pocketsphinx, which knows nothing of Nano, understands of its spoken answers; the middle column is the recordings
that it learnt from:

| | original | Nano |
|---|---|---|
| which answer it was (grammar of all answers) | {percent(original["sentences"])} | {percent(nano["sentences"])} |
| words, bigram model | {percent(original["words"])} | {percent(nano["words"])} |
| STOI, mean (worst) | | {nano["stoi"]} ({nano["worst_stoi"]}) |

It sounds like flite's `slt`, a little rougher, its s sounds coarser above 6 kHz; while it does not speak it is silent
(−100 dBFS) but for a faint click in the very first frame.

![spectrograms of three answers](../../../training/results/voice.png)

A minute took {speed["seconds"]:.0f} s on {speed["scene"]["cores"]} cores, {speed["scene"]["chip"]} ({speed["frames_per_second"]:.0f} frames/s; 12.5 are real time).

## Behaviour

In the builtin scenes of `moshi-mlx eval` (`make eval`), by the metrics of Full-Duplex-Bench, which docs/evaluation.md explains;
float32 activations. No difference between the three is beyond doubt.

{_behaviour_table(behaves)}

It does not wait: a pause of half a second in the middle of a question is its end for Nano, which answers what it has heard by
then. "Uh huh" and other voices interrupt it as words do.

## Data and voices

All speech was made by free synthesizers at training time; no recording of a person was used. Nano's own voice is
flite's `slt`, and its codec's decoder was fitted to Nano's own sentences in it: it cannot reproduce other
speech but that of `nano-persona`, whose sentences it learned, too. {len(TRAINING_VOICES)} voices ask in training ({_names([voice for voice in TRAINING_VOICES if is_human(str(voice))])}, and espeak-ng's English with many
variants; *kokoro* are a neural network's speakers of eight languages, all of whom say English, *accent* festival's Italian, Finnish and Czech
voices, which do, too; *foreign* are Pico's German, Spanish,
French and Italian ones and RHVoice's Russian, Ukrainian, Kyrgyz and Esperanto ones, which read it as their languages would spell
it), and speakers made of two of them, with changes of speed, pitch, size, level, band, noise, room and microphone.

Unheard are {_names(voice for voices in (*UNHEARD.values(), NEURAL_VOICES) for voice in voices)}. Their texts come from the
same front ends that training uses (espeak-ng's for MBROLA, Kokoro and Piper). festival cmu_us_slt_arctic_hts is a speaker that training
heard through flite, rhvoice evgeniy-eng an engine that training heard with other speakers.

Licences of the synthesizers: flite and its CMU voices, BSD-like; espeak-ng, GPL-3.0 or later; festival, BSD-like, its
English diphone voices, free for any use, its HTS voice, BSD-like, its Italian ones, GPL-2.0 or later, its Czech ones, GPL-3.0 or
later, its Finnish ones, LGPL-2.0 or later; SVOX Pico, Apache-2.0; RHVoice and its voices alan, bdl, clb
and those of other languages, LGPL-2.1 or later, its lyubov, heard in rounds of training before the last, and evgeniy-eng, heard only in the
evaluation, CC BY-NC-ND 4.0;
Kokoro's weights and speakers, Apache-2.0; Piper, GPL-3.0, its voice joe, fine-tuned on recordings under CC0, heard only in the evaluation;
MBROLA, AGPL-3.0, its voices for use with MBROLA alone and not to be sold. None of them is
part of this package, and nothing made by MBROLA or Piper went into the model.

## Conditions

Each is a function in `training/conditions.py`. Room: reverberation as noise that decays exponentially, RT60 0.2 to
0.8 s, half a metre to two metres from the microphone. Telephone: 300 to 3400 Hz, μ-law at 8 kHz. Noise: 20 to 30 dB below the
speech, all the time. Clipped: overdriven by 10 to 20 dB. Opus: 16 kb/s. Lost: 2 % of chunks of 80 ms are silent, at
least one within the question. Music is made by a program, and people who talk to each other do so three to five metres away, 20
to 35 dB below a person at the microphone.

## Limits

Of voices that it has heard it understands nearly everything, of others less: see above, voice by voice. What it does not
understand it mostly admits not to know, now and then it takes it for another question. Interruptions by voices
that it never heard it sometimes notices late or takes for its own echo or a noise, and finishes its sentence. Asked several questions in
one conversation by a hard voice, it gets some wrong. Children and recordings of real people were not tried. Its codec's window
is one second, its memory eight.

## What it can be asked

{known}

{", ".join(f'"{stop}"' for stop in STOPS)} end an answer. Everything else gets "{UNKNOWN_ANSWER}"
"""


def _missed(all_bars: list[Bar]) -> str:
    """The bars that are not reached, first of all."""
    missed: dict[tuple[str, str], list[str]] = {}
    for bar in all_bars:
        if not bar.reached:
            found = f"{_plain(bar.of)} {bar.found}" if bar.of else bar.found
            missed.setdefault((bar.what, bar.limit), []).append(found)
    if not missed:
        return f"It reaches all of its {len(all_bars)} bars (`training/bars.py`)."
    rows = "\n".join(f"| {what} | {limit} | {'; '.join(found)} |" for (what, limit), found in missed.items())
    return f"""## What it does not reach

Of the {len(all_bars)} bars in `training/bars.py` it misses {sum(not bar.reached for bar in all_bars)}:

| what | bar | found |
|---|---|---|
{rows}"""


def _how_many(every: int) -> str:
    return f" Of the sentences and sounds only one in {every} was tried." if every > 1 else ""


def _groups() -> str:
    return "; ".join(f"*{group}*, {_names(voices)}" for group, voices in UNHEARD.items())


def _group_rows(figures: dict) -> str:
    cuts = figures["interruptions"]
    rows = {
        "literally the right words": figures["turns"],
        "began to speak too early": {group: one["early"] for group, one in figures["turns"].items()},
        f'unknown sentences that training never saw, answered "{UNKNOWN_ANSWER}"': figures["unknown"]["by_group"],
        "silent within half a second of an interruption (its audio)": cuts,
        "interrupting questions answered": {group: one["answered"] for group, one in cuts.items()},
        "conversations of ten questions without a mistake": figures["conversations"],
    }
    lines = [
        f"| {what} | {' | '.join(interval(found[group]) for group in UNHEARD)} |" for what, found in rows.items()
    ]
    times = (
        f"{one['median_seconds']:.2f}, {one['p95_seconds']:.2f}, {one['longest_seconds']:.2f} s"
        for one in cuts.values()
    )
    return "\n".join([*lines, f"| silent after an interruption: median, p95, longest | {' | '.join(times)} |"])


def _voice_rows(figures: dict) -> str:
    lines = []
    for group, voices in UNHEARD.items():
        for voice in map(str, voices):
            cells = (
                figures["turns"][group], figures["interruptions"][group], figures["conversations"][group],
                figures["conversations"][group]["questions"],
            )  # fmt: skip
            lines.append(f"| {_plain(voice)} | {' | '.join(interval(one['by_voice'][voice]) for one in cells)} |")
    return "\n".join(lines)


def _neural_rows(found: dict) -> str:
    turns, talks = found["turns"], found["conversations"]
    lines = []
    for voice in map(str, NEURAL_VOICES):
        cells = (
            turns["by_voice"][voice], talks["by_voice"][voice], talks["questions"]["by_voice"][voice],
        )  # fmt: skip
        lines.append(f"| {_plain(voice)} | {' | '.join(map(interval, cells))} |")
    return "\n".join(lines)


def _condition_rows(conditions: dict) -> str:
    return "\n".join(
        f"| {name} | {interval(one)} | {' | '.join(interval(one['by_group'][group]) for group in UNHEARD)} |"
        for name, one in conditions.items()
    )


def _alone_rows(alone: dict) -> str:
    return "\n".join(f"| {kind} | {interval(one)} |" for kind, one in [*alone["by_kind"].items(), ("all", alone)])


def _names(voices) -> str:
    return ", ".join(_plain(str(voice)) for voice in voices)


def _plain(voice: str) -> str:
    return voice.replace(":", " ")


if __name__ == "__main__":
    if sys.argv[1] == "behaviour":
        print(json.dumps(behaviour(json.loads(Path(sys.argv[2]).read_text())), indent=1))
    else:
        first, second = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
        Path(sys.argv[3]).write_text(card(first, second))
