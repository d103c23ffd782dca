"""What Nano can do, measured through moshi_mlx itself on voices that training never heard.

`python -m training.evaluate MODEL_FOLDER OUT.json [EVERY]`: with every n-th sentence only, for a quick look
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.weights.quantization import parse_scheme
from training import augment
from training.codec_data import LEAD_FRAMES, answer_streams, trimmed
from training.dialogue import ANSWERS, KNOWN, STOPS, UNKNOWN_ANSWER, UNKNOWN_HELD_OUT
from training.heard import Heard
from training.intelligibility import measure
from training.plots import spectrograms
from training.voices import HELD_OUT_VOICES, SAMPLE_RATE, TRAINING_VOICES, Voice, speak

LEAD = 1.0  # seconds of silence before anybody speaks
AT_ONCE = 10  # conversations in a batch
INTERRUPTIONS = 64
STOP_SECONDS = 0.5  # by then it is to be silent


def listen(moshi: Moshi, pcm: np.ndarray, tail: float = 4.0) -> Heard:
    """What Nano says to a recording that begins after LEAD seconds."""
    heard = Heard()
    with moshi.session(seed=0) as session:
        converse(session, FileSource(pcm, LEAD, tail), heard)
    return heard


def read_along(moshi: Moshi, recordings: Sequence[np.ndarray], tail: float = 4.0) -> list[Heard]:
    """As `listen`, for several recordings at once, words only."""
    batch = moshi.batch(len(recordings))
    sessions = [batch.join(seed=0) for _ in recordings]
    heard = [Heard() for _ in recordings]
    quiet = np.zeros(1920, np.float32)
    for frames in zip_longest(*(FileSource(pcm, LEAD, tail) for pcm in recordings), fillvalue=quiet):
        codes = {session: session.encode(frame) for session, frame in zip(sessions, frames, strict=True)}
        generated = batch.generate(codes)
        for session, one in zip(sessions, heard, strict=True):
            if generated[session].text:
                one.pieces.append((generated[session].time, generated[session].text))
    for session in sessions:
        session.close()
    return heard


def recorded(rng: np.random.Generator, voice: Voice, text: str) -> np.ndarray:
    """`text` under conditions drawn from `rng`: pace ±15 %, pitch, −12 to +6 dB, light noise, 8 to 48 kHz."""
    pcm = trimmed(speak(voice, text, float(rng.uniform(0.87, 1.15)), float(rng.uniform(0.9, 1.1))).pcm, 0.01, 240)
    rate = int(rng.choice([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]))
    if rate != SAMPLE_RATE:
        pcm = soxr.resample(soxr.resample(pcm, SAMPLE_RATE, rate), rate, SAMPLE_RATE).astype(np.float32)
    pcm = pcm * 10 ** (rng.uniform(-12, 6) / 20)
    if rng.random() < 0.5:
        pcm = pcm + 10 ** (rng.uniform(-65, -42) / 20) * augment.noise(rng, len(pcm))
    return np.clip(pcm, -1, 1).astype(np.float32)


def understanding(moshi: Moshi, voices: Sequence[Voice], texts: Sequence[str], seed: int, say: Callable) -> dict:
    """Share of turns answered with literally the right words, and of those where Nano spoke too early."""
    rng = np.random.default_rng(seed)
    right: dict[str, list[bool]] = {}
    early, wrong = 0, []
    for voice in voices:
        for first in range(0, len(texts), AT_ONCE):
            asked = texts[first : first + AT_ONCE]
            recordings = [recorded(rng, voice, text) for text in asked]
            for text, pcm, heard in zip(asked, recordings, read_along(moshi, recordings), strict=True):
                wanted = "" if text in STOPS else ANSWERS.get(text, UNKNOWN_ANSWER)
                right.setdefault(str(voice), []).append(heard.text == wanted)
                spoken = LEAD + len(pcm) / SAMPLE_RATE
                early += any(seconds < spoken - 0.1 for seconds, _ in heard.pieces)
                if heard.text != wanted:
                    wrong.append([str(voice), text, heard.text])
        say(f"{voice}: {np.mean(right[str(voice)]):.3f}")
    turns = sum(map(len, right.values()))
    return {
        "turns": turns,
        "right": round(sum(map(sum, right.values())) / turns, 3),
        "early": round(early / turns, 3),
        "by_voice": {voice: round(float(np.mean(values)), 3) for voice, values in right.items()},
        "wrong": wrong[:60],
    }


def quiet(moshi: Moshi, seconds: float = 8.0) -> dict:
    """Frames in which Nano says something or can be heard though nobody speaks."""
    rng = np.random.default_rng(5)
    count = int(seconds * SAMPLE_RATE)
    sounds = {
        "silence": np.zeros(count, np.float32),
        **{f"noise {level} dBFS": 10 ** (level / 20) * augment.noise(rng, count) for level in (-60, -50, -40)},
        **{f"bumps {index}": 0.3 * augment.bumps(rng, count) for index in range(6)},
    }
    found = {}
    for name, pcm in sounds.items():
        heard = listen(moshi, pcm.astype(np.float32), 1.0)
        found[name] = {"text": heard.text, "loud_frames": int(heard.loud.sum())}
    clean = sum(not one["text"] and not one["loud_frames"] for one in found.values())
    return {"recordings": len(found), "silent": clean, "found": found}


def interruptions(moshi: Moshi, voices: Sequence[Voice], count: int, say: Callable) -> dict:
    """How soon Nano falls silent, in its audio, when somebody speaks over it, and whether it answers that."""
    rng = np.random.default_rng(6)
    texts = list(ANSWERS)
    delays: dict[str, list[float]] = {}
    missed, asked, answered = [], 0, 0
    for index in range(count):
        voice = voices[index % len(voices)]
        first, second = texts[rng.integers(len(texts))], texts[rng.integers(len(texts))]
        if index // len(voices) % 2:
            second = STOPS[rng.integers(len(STOPS))]
        one, other = recorded(rng, voice, first), recorded(rng, voice, second)
        pause = int((0.32 + rng.uniform(0.3, 0.9)) * SAMPLE_RATE)
        pcm = np.concatenate([one, np.zeros(pause, np.float32), other])
        heard = listen(moshi, pcm)
        onset = LEAD + (len(one) + pause) / SAMPLE_RATE
        # What the n-th step gives is heard when that step is done; the first step is not part of the recording.
        step = int(onset / FRAME_SECONDS) + 1
        if not heard.loud[step]:
            continue  # it was not speaking
        silent = next((at for at in range(step, len(heard.loud)) if not heard.loud[at : at + 3].any()), None)
        delay = 99.0 if silent is None else silent * FRAME_SECONDS - onset
        delays.setdefault(str(voice), []).append(delay)
        right = second in STOPS or heard.text.endswith(ANSWERS[second])
        asked += second not in STOPS
        answered += second not in STOPS and right
        if delay > STOP_SECONDS or not right:
            missed.append([str(voice), first, second, heard.text, round(delay, 2)])
    every = np.concatenate(list(delays.values()))
    say(f"interruptions: {np.round(np.sort(every), 2)}")
    return {
        "interruptions": len(every),
        "stopped_in_half_a_second": int(np.sum(every <= STOP_SECONDS)),
        "median_seconds": round(float(np.median(every)), 3),
        "longest_seconds": round(float(np.max(every)), 3),
        "by_voice": {
            voice: [int(np.sum(np.array(some) <= STOP_SECONDS)), len(some)] for voice, some in delays.items()
        },
        "questions": asked,
        "answered": answered,
        "missed": missed,
    }


def undisturbed(moshi: Moshi, voice: Voice, count: int, say: Callable) -> dict:
    """Answers that Nano finishes though there is a noise, or its own echo, while it speaks; `count` of each."""
    rng = np.random.default_rng(8)
    streams = answer_streams()

    def noise(_: str) -> tuple[float, np.ndarray]:
        return rng.uniform(0.62, 1.22), rng.choice([0.03, 0.1, 0.5]) * augment.bumps(rng, int(0.65 * SAMPLE_RATE))

    def echo(answer: str) -> tuple[float, np.ndarray]:
        gain = 10 ** (rng.uniform(-40, -30) / 20)
        return 0.48, gain * streams[answer][LEAD_FRAMES * FRAME_SAMPLES :]

    found: dict = {"voice": str(voice), "of": count}
    for name, sound in (("noise", noise), ("echo", echo)):
        texts = [list(ANSWERS)[index] for index in rng.integers(len(ANSWERS), size=count)]
        recordings = []
        for text in texts:
            after, heard_too = sound(ANSWERS[text])
            pause = np.zeros(int(after * SAMPLE_RATE), np.float32)
            recordings.append(np.concatenate([recorded(rng, voice, text), pause, heard_too], dtype=np.float32))
        heard = read_along(moshi, recordings)
        found[name] = sum(one.text == ANSWERS[text] for one, text in zip(heard, texts, strict=True))
    say(f"undisturbed: {found}")
    return found


def several(moshi: Moshi, voices: Sequence[Voice], say: Callable) -> dict:
    """Five questions in one conversation, with every voice."""
    rng = np.random.default_rng(7)
    found = {}
    for voice in voices:
        asked = [list(ANSWERS)[index] for index in rng.choice(len(ANSWERS), 5, replace=False)]
        parts = []
        for text in asked:
            parts += [recorded(rng, voice, text), np.zeros(4 * SAMPLE_RATE, np.float32)]
        heard = listen(moshi, np.concatenate(parts)).text
        wanted = " ".join(ANSWERS[text] for text in asked)
        found[str(voice)] = {"right": heard == wanted, "asked": asked, "said": heard}
    say(f"several: {[one['right'] for one in found.values()]}")
    return {
        "conversations": len(found),
        "right": sum(one["right"] for one in found.values()),
        "by_voice": found,
    }


def precisions(model: str, voices: Sequence[Voice], texts: Sequence[str], say: Callable) -> dict:
    """Understanding with the language model quantized."""
    checkpoint = Checkpoint.resolve(model, offline=True)
    found = {}
    for scheme in ("q8", "q4"):
        lm = checkpoint.load_lm()
        quantize_lm(lm, parse_scheme(scheme))
        widen_on_cpu(lm)
        moshi = Moshi(lm, checkpoint.load_codec("mlx"), checkpoint.load_tokenizer(), checkpoint.sampling)
        found[scheme] = understanding(moshi, voices, texts, 1, say)
    return found


def speed(moshi: Moshi) -> dict:
    """Frames a second of a minute of silence, and where; 12.5 are real time."""
    with moshi.session(seed=0) as session:
        stats = converse(session, FileSource(np.zeros(60 * SAMPLE_RATE, np.float32), 0, 0), Heard())
    where = scene()
    return {**stats.as_dict(), "scene": {key: where[key] for key in ("chip", "cores", "blas", "mlx")}}


def voice_quality(moshi: Moshi, pictures: Path, say: Callable) -> dict:
    """What a recogniser understands of the answers as spoken, beside the recordings that Nano learnt from."""
    original, spoken = {}, {}
    streams = answer_streams()
    wrong = []
    for question, text in ANSWERS.items():
        heard = listen(moshi, speak(Voice("espeak", "en-us"), question).pcm)
        if heard.text != text:
            wrong.append([question, heard.text])
        begin = next((at for at, loud in enumerate(heard.loud) if loud), None)
        if begin is None:
            spoken[text] = np.zeros(24_000, np.float32)
            original[text] = streams[text]
            continue
        stream = streams[text]
        first = begin - LEAD_FRAMES
        # The first frame that can be heard may be the first or the second of the answer: take what fits best.
        choices = []
        for shift in (0, -1, 1, -2):
            at = max(0, first + shift) * 1920
            piece = np.concatenate([heard.pcm[at : at + len(stream)], np.zeros(len(stream), np.float32)])
            piece = piece[: len(stream)]
            spectra = [np.abs(np.fft.rfft(x.reshape(-1, 480), axis=1)) ** 0.3 for x in (piece, stream)]
            choices.append((float(np.abs(spectra[0] - spectra[1]).mean()), piece))
        spoken[text] = min(choices, key=lambda choice: choice[0])[1]
        original[text] = stream
    result = {
        "original": measure(original).rounded(),
        "nano": measure(spoken, original).rounded(),
        "not_the_right_words": wrong,
    }
    say(f"voice: {result}")
    some = list(original)[:2] + list(original)[20:21]
    spectrograms(pictures / "voice.png", {text: (original[text], spoken[text]) for text in some})
    return result


def evaluate(model: str, out: Path, every: int = 1) -> dict:
    """Measure everything, with every `every`-th sentence; results go to `out` as JSON."""

    def say(line: str) -> None:
        print(line, flush=True)

    out.parent.mkdir(parents=True, exist_ok=True)
    moshi = load(model, offline=True)
    moshi.warm_up()
    began = time.perf_counter()
    texts = list(KNOWN)[::every]
    results: dict[str, Any] = {
        "held_out": understanding(moshi, HELD_OUT_VOICES, texts, 1, say),
        "training_voices": understanding(moshi, TRAINING_VOICES[:8:2], texts, 2, say),
        "unknown": understanding(moshi, HELD_OUT_VOICES, UNKNOWN_HELD_OUT, 3, say),
        "quiet": quiet(moshi),
        "interruptions": interruptions(moshi, HELD_OUT_VOICES, INTERRUPTIONS, say),
        "undisturbed": undisturbed(moshi, HELD_OUT_VOICES[2], 20, say),
        "several": several(moshi, HELD_OUT_VOICES, say),
        "precisions": precisions(model, HELD_OUT_VOICES[2:3], texts, say),
        "speed": speed(moshi),
        "voice": voice_quality(moshi, out.parent, say),
    }
    results["minutes"] = round((time.perf_counter() - began) / 60, 1)
    out.write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    evaluate(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
