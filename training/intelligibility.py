"""How well a recogniser that knows nothing of Nano (pocketsphinx) understands its answers, and STOI."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soxr
from pocketsphinx import Config, Decoder, NGramModel
from pystoi import stoi

from moshi_mlx.quality.transcription import word_errors
from training.dialogue import ANSWERS, UNKNOWN_ANSWER
from training.text import plain
from training.voices import SAMPLE_RATE

_RATE = 16_000
_FRAMES = 100  # of the recogniser, a second
_AROUND = 4_800  # samples of silence
_OWN_WORDS = {"nano": "N AA N OW", "tokyo": "T OW K IY OW", "madrid": "M AH D R IH D", "everest": "EH V ER AH S T"}


@dataclass(frozen=True)
class Intelligibility:
    """Shares from 0 to 1. sentences: right among all answers (a grammar of them); words: right in free order."""

    sentences: float  # closed grammar: which answer was it
    grammar_words: float
    words: float  # with a bigram language model of the answers
    stoi: float | None
    worst_stoi: float | None

    def rounded(self) -> dict[str, float | None]:
        return {key: None if value is None else round(value, 3) for key, value in asdict(self).items()}


def measure(spoken: Mapping[str, np.ndarray], original: Mapping[str, np.ndarray] | None = None) -> Intelligibility:
    """Recordings by what is said in them, float32 at 24 kHz; original: the same, sample for sample, for STOI."""
    closed, free = closed_to(_sentences()), _free()
    sentences = grammar_errors = errors = total = 0
    scores = []
    for text, pcm in spoken.items():
        wanted = plain(text)
        chosen = _heard(closed, pcm)
        sentences += chosen == wanted
        grammar_errors += _errors(wanted, chosen)
        errors += _errors(wanted, _heard(free, pcm))
        total += len(wanted)
        if original:
            count = min(len(pcm), len(original[text]))
            scores.append(float(stoi(original[text][:count], pcm[:count], SAMPLE_RATE)))
    return Intelligibility(
        sentences / len(spoken),
        1 - grammar_errors / total,
        1 - errors / total,
        sum(scores) / len(scores) if scores else None,
        min(scores) if scores else None,
    )


def _errors(wanted: list[str], heard: list[str]) -> int:
    return word_errors(" ".join(wanted), " ".join(heard)).errors


def _sentences() -> list[str]:
    return [" ".join(plain(text)) for text in dict.fromkeys([*ANSWERS.values(), UNKNOWN_ANSWER])]


class Recogniser:
    """Hears words. decoder: with what it searches for."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def hear(self, pcm: np.ndarray) -> list[tuple[str, float]]:
        """The words of a recording (samples,) float32 at 24 kHz, and the second at which each begins."""
        pcm = soxr.resample(pcm, SAMPLE_RATE, _RATE)
        pcm = np.concatenate([np.zeros(_AROUND), pcm, np.zeros(_AROUND)])
        samples = np.clip(pcm * 32767, -32768, 32767).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        if not self._decoder.hyp():
            return []
        words = [(one.word.partition("(")[0], one.start_frame / _FRAMES) for one in self._decoder.seg()]
        return [(word, at - _AROUND / _RATE) for word, at in words if word[0] not in "<["]


def closed_to(sentences: Sequence[str]) -> Recogniser:
    """One that hears nothing but one of these sentences, `plain` words with spaces between."""
    decoder = _decoder(sentences)
    rule = " | ".join(sentences)
    decoder.add_jsgf_string("answers", f"#JSGF V1.0;\ngrammar answers;\npublic <answer> = {rule};\n")
    decoder.activate_search("answers")
    return Recogniser(decoder)


def _heard(recogniser: Recogniser, pcm: np.ndarray) -> list[str]:
    return [word for word, _ in recogniser.hear(pcm)]


def _decoder(sentences: Sequence[str]) -> Decoder:
    decoder = Decoder(Config(lm=None, loglevel="FATAL", samprate=float(_RATE)))
    for word in dict.fromkeys(word for sentence in sentences for word in sentence.split()):
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, _OWN_WORDS[word], True)
    return decoder


def _free() -> Recogniser:
    decoder = _decoder(_sentences())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.arpa"
        path.write_text(_bigrams(_sentences()))
        decoder.add_lm("bigram", NGramModel(decoder.config, decoder.logmath, str(path)))
    decoder.activate_search("bigram")
    return Recogniser(decoder)


def _bigrams(sentences: list[str], discount: float = 0.5) -> str:
    """An ARPA bigram model with absolute discounting."""
    lines = [["<s>", *sentence.split(), "</s>"] for sentence in sentences]
    single = Counter(word for line in lines for word in line[1:])
    double = Counter(pair for line in lines for pair in pairwise(line))
    starts = Counter(first for line in lines for first in line[:-1])
    followers = Counter(first for first, _ in double)
    total = sum(single.values())
    out = ["\\data\\", f"ngram 1={len(single) + 1}", f"ngram 2={len(double)}", "", "\\1-grams:", "-99 <s> 0.0"]
    for word, count in single.items():
        left = discount * followers[word] / starts[word] if starts[word] else 1.0
        seen = sum(single[second] for first, second in double if first == word) / total
        backoff = left / max(1e-6, 1 - seen)
        out.append(f"{math.log10(count / total):.5f} {word} {math.log10(backoff):.5f}")
    out[5] = f"-99 <s> {math.log10(discount * followers['<s>'] / starts['<s>']):.5f}"
    out += ["", "\\2-grams:"]
    for (first, second), count in double.items():
        out.append(f"{math.log10((count - discount) / starts[first]):.5f} {first} {second}")
    return "\n".join([*out, "", "\\end\\", ""])
