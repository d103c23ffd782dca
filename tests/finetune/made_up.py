"""Made-up alignments, windows and a tokenizer that two programs can make alike; numpy is all they need."""

import zlib

import numpy as np

CASES = 200
DURATIONS = (0.5, 2.0, 3.3, 4.72, 10.0)  # seconds; some no whole frames
FRAME = 0.08
SYLLABLES = ("ka", "lo", "mi", "ne", "ru", "sto", "zürich", "日本", " ", "\n", "a", "!")


class Pieces:
    """A tokenizer of three characters a piece, with the methods of sentencepiece's that Kyutai's trainer calls."""

    def encode(self, text: str | list[str]) -> list:
        if isinstance(text, list):
            return [self.encode(line) for line in text]
        return [4 + zlib.crc32(text[start : start + 3].encode()) % 200 for start in range(0, len(text), 3)]

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2


def case(number: int) -> tuple[list, float, float, float]:
    """Return (alignments, start, window, there): a recording's words and a window in it.

    window: its seconds. there: the seconds of it that the recording still fills.
    """
    random = np.random.RandomState(number)
    window = DURATIONS[number % len(DURATIONS)]
    start = window * random.randint(3)
    if number == 0:  # the one window of many in which rounding puts a word behind the last frame
        window = 83.76
        start = 2 * window
    alignments, time = [], max(0.0, start - 1.0)
    while time < start + window + 1.0:
        kind = random.randint(7)
        length = random.choice([0.01, 0.05, 0.2, 0.6, 1.5])
        word = "".join(random.choice(SYLLABLES, random.randint(0, 6)))
        speaker = "SPEAKER_MAIN" if random.rand() < 0.85 else "SPEAKER_01"
        begin = time
        if kind == 0:  # on the edge of a frame, or of the window
            begin = max(time, round(time / FRAME) * FRAME)
            begin = max(begin, start) if begin < start + 0.1 else begin
        elif kind < 3 and time > start + window - 0.7:  # just before the window's end
            begin = max(time, np.nextafter(start + window, 0))
        end = begin + length * (0 if kind == 2 else -1 if kind == 3 else 1)
        alignments.append([word, [float(begin), float(end)], speaker])
        step = {4: 0.0, 5: length / 3, 6: length}.get(kind, length + random.choice([0.0, 0.1, 1.0]))
        time = begin + step + (1e-3 if step == 0 else 0.0)
    if number == 0:
        alignments = [each for each in alignments if each[1][0] < start + window - 2]
        begin = float(np.nextafter(start + window, 0))
        alignments.append(["late", [begin, begin + 1], "SPEAKER_MAIN"])
    there = window if number % 4 or not number else window * random.rand()
    return alignments, float(start), window, float(there)


STEPS, TOTAL = 10, 100  # taken of a schedule of so many
RANK, SCALING = 4, 2.0
ADAPTED = 0.3  # of random tensors: adapters are small beside what they adapt
SCHEDULES = ((100, 0.05), (7, 0.05), (30, 0.3), (1, 0.05))  # steps, share that warms up


def codes_of(config: dict, step: int, rows: int = 2, frames: int = 30) -> np.ndarray:
    """The made-up windows of a step, (B, 1 + n_q, T) int32: words in padding, and one that ends early."""
    random = np.random.RandomState(1000 + step)
    codes = random.randint(0, config["card"], (rows, 1 + config["n_q"], frames))
    words = random.randint(0, config["text_card"], (rows, frames))
    codes[:, 0] = np.where(random.rand(rows, frames) < 0.6, random.choice([0, 3], (rows, frames)), words)
    codes[-1, 1:, frames - 5 :] = -1
    codes[-1, 0, frames - 2 :] = -1
    return codes.astype(np.int32)


def shadow(name: str, array: np.ndarray) -> np.ndarray:
    """Its norm and its products with three random arrays, which no other array of its size is likely to share."""
    flat = np.asarray(array, np.float64).ravel()
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return np.array([np.linalg.norm(flat), *(flat @ random.standard_normal(flat.size) for _ in range(3))])
