"""Train Nano's language model on conversations made of codes, by the package's own trainer (`finetune --full`).

`python -m training.train_lm FOLDER [STEPS]`; stops and goes on at any time. It begins with FOLDER/start, which is
made of random weights unless it is there; what is learned is in FOLDER/lm.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.loss import Batch, delayed
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.start import write_start
from moshi_mlx.models.config import LmConfig
from training import lm, speech_codes, train_codec
from training.ahead import numbered
from training.codec import Codec, books, vectors
from training.export import export_all_but_lm
from training.hearing import NOTHING, confuse, nearest, scramble
from training.learning import learn, with_steps
from training.model_folder import LM_FOLDER, MODEL, START
from training.text import PAD
from training.turns import OWN, TEXT, USER, Turns, Window

STEPS = 6_850
BATCH, FRAMES = 16, 200
SETTINGS = Settings(
    steps=STEPS, batch=BATCH, seconds=FRAMES * 0.08, lr=2e-3, warm_up=0.01, weight_decay=0.05, full=True,
    checkpointing=False, save_every=100, keep=2, seed=2,
)  # fmt: skip
PAD_WEIGHT = 0.3  # of the loss of text padding, but where words could come: after an interruption, at a sound
CUT_WEIGHT = 3.0  # of the frame in which an interruption silences Nano
SHARES = np.array([1.8, 0.67, 2.0], np.float32)  # in the loss: text, the semantic code, the mean of acoustic codes
SPOKEN_SHARE, QUIET_SHARE = 0.25, 0.05
"""Of the frames in which Nano speaks and of its silent ones, those that the depth transformer trains on, besides
every one in which it begins or falls silent. With CUT_WEIGHT it does the latter as soon as somebody speaks to it
with a chance of 1 in 13."""
PHONETIC = slice(9, 12)  # of the user's codes: those in which the codec learned to hear phones
ACOUSTIC = slice(12, 17)  # the others
NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class Conversations(Data):
    """Endless ones: every step has its own, which follow from the seed and its number.

    near: [books, 512, NEIGHBOURS], see `neighbours`.
    """

    codes: speech_codes.SpeechCodes
    near: np.ndarray
    sources: Sequence[Any] = ()
    weights: Sequence[float] = ()
    salt: int = 3000  # of the seeds

    def batches(self, settings: Settings, config: LmConfig, step: int) -> Iterator[tuple[Batch, Sequence[object]]]:
        """As `Data.batches`; made on another thread while the model learns."""
        seeds = [self.salt, settings.seed]
        return numbered(lambda rng: self.batch(settings, config, rng), seeds, step, "conversations")

    def batch(self, settings: Settings, config: LmConfig, rng: np.random.Generator) -> Batch:
        """Conversations to learn from."""
        turns = Turns(self.codes, rng)
        windows = [turns.window(round(settings.seconds * 12.5)) for _ in range(settings.batch)]
        return batch_of(windows, self.heard(windows, rng), config, rng)

    def heard(self, windows: Sequence[Window], rng: np.random.Generator) -> np.ndarray:
        """Conversations as the model hears them, [B, 17, T]."""
        heard = np.stack([window.codes for window in windows])
        for row, window in enumerate(windows):
            other = None if window.echoes.any() else windows[(row + 1) % len(windows)].codes[ACOUSTIC]
            mishear(rng, heard[row], other, self.near)
        return heard


def train(folder: Path, settings: Settings = SETTINGS) -> None:
    """Take the steps that are left."""
    codec, _ = train_codec.load(folder)
    codes = speech_codes.load(folder, codec.eval())
    start, out = folder / START, folder / LM_FOLDER
    if not (start / MODEL).exists():
        export_all_but_lm(folder, start)
        write_start(start / MODEL, lm.config(), settings.seed)
    checkpoint = Checkpoint.resolve(start)
    learn(checkpoint, out, "conversations", settings, Conversations(codes=codes, near=neighbours(codec)))


def batch_of(
    windows: Sequence[Window],
    heard: np.ndarray,
    config: LmConfig,
    rng: np.random.Generator,
    spoken: float = SPOKEN_SHARE,
    quiet: float = QUIET_SHARE,
) -> Batch:
    """Conversations, ready to be learned from: padding weighs less, and codes are predicted in some frames.

    Nothing is learned of frames in which Nano speaks on though it is interrupted, or waits though it could answer:
    only that it has.
    """
    tokens = delayed(heard, config)
    speaking, _, cut, late, waiting, sounds = (
        np.stack(marks) for marks in zip(*(window.marks for window in windows), strict=True)
    )
    learned = ~(late | waiting)
    # Nano's last acoustic codes come one frame later than its last semantic one (delays).
    later = np.zeros_like(speaking)
    later[:, 1:] = speaking[:, :-1]
    share = np.where(speaking, spoken, quiet)
    chosen = ((rng.random(speaking.shape) < share) | (later != speaking)) & learned
    weights = np.zeros((len(tokens), 1 + config.dep_q, heard.shape[2]), np.float32)
    surely = cut | (sounds & ~speaking)
    weights[:, TEXT] = np.where((tokens[:, TEXT, 1:] == PAD) & ~surely, PAD_WEIGHT, 1.0) * learned
    weights[:, OWN] = chosen[:, None] & (tokens[:, OWN, 1:] < config.card)  # not before the stream began
    weights *= np.where(cut & later, CUT_WEIGHT, 1.0)[:, None]
    weights /= weights.sum((0, 2), keepdims=True)  # every row for itself
    weights[:, 2:] /= config.dep_q - 1
    return Batch(tokens, weights, SHARES, _frames(chosen))


def _frames(chosen: np.ndarray) -> np.ndarray:
    """The frames that are chosen in each row [B, N], filled up with some that are not, and so weigh nothing."""
    order = np.argsort(~chosen, axis=1, kind="stable")
    return order[:, : chosen.sum(1).max()].astype(np.int32)


def mishear(rng: np.random.Generator, heard: np.ndarray, other: np.ndarray | None, near: np.ndarray) -> None:
    """Make the user's codes in `heard` [17, T] less certain, so that what is said counts and not who says it.

    other: the acoustic codes of somebody else [5, T], or None to leave them: only they tell how loud something is,
    and so an echo of Nano from a person who sounds like it.
    """
    chance = rng.random()
    if other is None:
        pass
    elif chance < 0.25:
        heard[ACOUSTIC] = NOTHING
    elif chance < 0.6:
        heard[ACOUSTIC] = other
    elif chance < 0.75:
        heard[int(rng.integers(13, 16)) : 17] = NOTHING
    elif chance < 0.85:
        heard[int(rng.integers(10, 12)) : 17] = NOTHING
    if rng.random() < 0.9:  # what the codec could as well have heard
        for row, others in enumerate(near, PHONETIC.start):
            confuse(rng, heard[row], others, 0.55)
    if rng.random() < 0.4:
        scramble(rng, heard[USER], 0.12)
    if rng.random() < 0.5:  # what it could not hear at all
        begins = rng.random(heard.shape[1]) < rng.uniform(0, 0.04)
        for begin in np.flatnonzero(begins):
            heard[USER, begin : begin + int(rng.integers(1, 4))] = NOTHING


def neighbours(codec: Codec) -> np.ndarray:
    """The codes nearest to each code in which phones are heard, [books, 512, NEIGHBOURS]."""
    heard = books(codec.mimi)[: PHONETIC.stop - PHONETIC.start]
    return nearest([vectors(book).detach().numpy() for book in heard], NEIGHBOURS)


if __name__ == "__main__":
    train(Path(sys.argv[1]), with_steps(SETTINGS, sys.argv[2:3]))
