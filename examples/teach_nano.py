"""Teach Nano a question that it does not know, without its forgetting what it knows.

    scripts/with_blas.sh python examples/teach_nano.py taught

Flite asks in several voices: the new question, drawn from a list, and those that Nano knows. Nano itself answers
these: what it knows is replayed to it code for code. To the new one it is given an answer out of its repertoire.
Then somebody asks whom the training has not heard. Needs the program flite.

Nano's codec speaks with Nano's voice alone, so the model's codes are learned from as they were chosen. Mimi takes
recordings of anybody: docs/finetune.md.
"""

import argparse
import itertools
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

import moshi_mlx
from moshi_mlx.checkpoint.nano import questions
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.codes import Window
from moshi_mlx.finetune.data import Recording
from moshi_mlx.finetune.folder import append_log, open_folder
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.settings import Settings

NEW = {
    "What is your age?": "I am very young.",
    "Which day follows Monday?": "Tuesday comes after Monday.",
    "What lives in the sea?": "Fish live in water.",
    "Where is your house?": "I live in your computer.",
    "Which insects are useful?": "Bees make honey.",
    "Who was a famous poet?": "Shakespeare wrote Hamlet.",
    "Why do we need farmers?": "Cows give us milk.",
}
"""Questions that Nano does not know, and what it is to say."""

UNKNOWN = ("Where do lions live?", "What time is it now?", "Why do cats purr?", "Who wrote this letter?")
"""Some that it is to know as little as before."""
VOICES, STRANGER = ("awb", "kal", "slt"), "rms"
FRAMES = 64  # of a window, 5.1 s: a question and its answer
GAP = 4  # frames from the end of a question to its answer, as Nano has learned
PADDING = 3  # the text token; words are greater
MADE_HERE = Recording(Path("flite"), Path("flite"), tuple)


def spoken(text: str, voice: str, random: np.random.RandomState) -> np.ndarray:
    """What flite says, at a pace and a level of its own, between silences; float32 at 24 kHz, a window long."""
    with tempfile.TemporaryDirectory() as folder:
        path, pace = Path(folder) / "said.wav", f"duration_stretch={random.uniform(0.87, 1.15):.3f}"
        words = ["flite", "-voice", voice, "--setf", pace, "-t", text, "-o", str(path)]
        subprocess.run(words, check=True)
        pcm, rate = soundfile.read(path, dtype="float32")
    pcm = soxr.resample(pcm, rate, moshi_mlx.SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(pcm) > 0.02 * np.abs(pcm).max())
    pcm = pcm[loud[0] : loud[-1]] * (10 ** random.uniform(-0.5, 0) / 2 / np.abs(pcm).max())
    before = random.randint(moshi_mlx.FRAME_SAMPLES * 2, moshi_mlx.FRAME_SAMPLES * 9)
    length = (FRAMES + 1) * moshi_mlx.FRAME_SAMPLES
    return np.pad(pcm, (before, max(0, length - before - len(pcm))))[:length]


def asked(moshi: moshi_mlx.Moshi, pcm: np.ndarray) -> tuple[str, np.ndarray]:
    """What is answered, and the codes of both: (17, FRAMES), text, Nano, user, as the model reads them."""
    with moshi.session(seed=0) as session:
        heard = [session.encode(frame) for frame in moshi_mlx.split_frames(pcm)]
        said = [session.generate(codes) for codes in heard]
    text = "".join(one.text for one in said).strip()
    # What is heard at a step belongs to the frame before, and its own codes are whole one step later.
    frames = [[[said[t].text_id], said[t + 1].codes, heard[t + 1]] for t in range(FRAMES)]
    return text, np.stack([np.concatenate(frame) for frame in frames], axis=1).astype(np.int16)


def taught(codes: np.ndarray, end: int, answer: np.ndarray) -> np.ndarray:
    """The same user, who ends at frame `end`, given the first words that are said in `answer`."""
    codes, start = codes.copy(), end + GAP
    first = int(np.flatnonzero(answer[0] > PADDING)[0])
    count = FRAMES - max(start, first)
    codes[0], codes[1:9] = PADDING, answer[1:9, 2:3]  # silence
    codes[:9, start - 1 : start + count] = answer[:9, first - 1 : first + count]  # with the end of padding before
    return codes


def right(moshi: moshi_mlx.Moshi, known: dict[str, str], takes: int = 1) -> list[bool]:
    """Whether each question is answered when the stranger asks it, so many times."""
    random = np.random.RandomState(1)
    every = [(question, answer) for question, answer in known.items() for _ in range(takes)]
    return [asked(moshi, spoken(question, STRANGER, random))[0] == answer for question, answer in every]


def main() -> None:
    parser = argparse.ArgumentParser(description="Teach Nano a new question.")
    parser.add_argument("out", type=Path, help="folder for the adapter")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the question and all else")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--takes", type=int, default=10, help="recordings of the new question, of each voice")
    parser.add_argument("--old", type=int, default=len(questions()), help="questions that are replayed and asked")
    options = parser.parse_args()
    random, known = np.random.RandomState(options.seed % 2**32), questions()
    new = list(NEW)[random.randint(len(NEW))]
    old = {question: known[question] for question in random.permutation(list(known))[: options.old].tolist()}
    old |= dict.fromkeys(UNKNOWN, "I do not know.")
    nano = moshi_mlx.load("nano")
    before = right(nano, {new: NEW[new]}, takes=5)

    # 1) Recordings: the new question with the answer that Nano gives to another, and the old ones as they are.
    source = next(question for question, answer in known.items() if answer == NEW[new])
    text, model = asked(nano, spoken(source, "kal", random))
    assert text == NEW[new], f"asked {source!r}, Nano says {text!r}"
    lessons = []
    for voice in VOICES * options.takes:
        pcm = spoken(new, voice, random)
        end = int(np.flatnonzero(pcm)[-1]) // moshi_mlx.FRAME_SAMPLES
        lessons.append(Window(taught(asked(nano, pcm)[1], end, model), MADE_HERE, 0.0))
    replayed = []
    for question, voice in itertools.product(old, VOICES):
        text, codes = asked(nano, spoken(question, voice, random))
        if text == old[question]:
            replayed.append(Window(codes, MADE_HERE, 0.0))
    print(f"{len(lessons)} times {new!r}, {len(replayed)} times what Nano knows", flush=True)

    # 2) Training: three of eight windows are new.
    settings = Settings(
        steps=options.steps, batch=8, seconds=FRAMES * 0.08, lr=1e-3, lora_rank=32, checkpointing=False,
        semantic_weight=10.0, seed=options.seed % 2**32,
    )  # fmt: skip
    checkpoint = moshi_mlx.Checkpoint.resolve("nano")
    data = Data([lessons], [1.0], replay=Data([replayed], [1.0]), share=5 / 8)
    open_folder(options.out, checkpoint, new, settings, resume=False)
    begin = time.monotonic()
    for report in Run(checkpoint, options.out, settings, data).train():
        append_log(options.out, report)
        print(f"step {report.step}: loss {report.losses.total:.4f}", flush=True)
    minutes = (time.monotonic() - begin) / 60

    # 3) Somebody else asks.
    wise = moshi_mlx.load("nano", adapter=options.out)
    after, still = right(wise, {new: NEW[new]}, takes=5), right(wise, old)
    print(f"taught in {minutes:.1f} minutes: {new} {NEW[new]}")
    print(f"right before: {sum(before)} of {len(before)}; after: {sum(after)} of {len(after)}")
    print(f"old ones right after: {sum(still)} of {len(still)}")


if __name__ == "__main__":
    main()
