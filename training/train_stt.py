"""Train `nano-stt` on talks made of codes, by the package's own trainer.

`python -m training.train_stt FOLDER [STEPS]`; stops and goes on at any time. It needs FOLDER/codes, from
`stt_codes`; what is learned is in FOLDER/lm. `python -m training.train_stt FOLDER export TARGET` writes the model,
`python -m training.train_stt FOLDER curve TABLE.csv` how its loss fell.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.loss import LISTENING_PARTS, Batch, delayed
from moshi_mlx.finetune.output import write_weights
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config import LmConfig
from training import stt_codes
from training.hearing import NOTHING, confuse, nearest, scramble
from training.learning import begun, command, learn
from training.model_folder import CODEC, LM_FOLDER, MODEL, START, codec_at, size_of, tensors, write_around
from training.stt_text import tokenizer_model
from training.stt_windows import CLASSES, DELAY, HORIZONS, Window, Windows
from training.text import EPAD, PAD, SPECIAL

STEPS = 3_200
BATCH, FRAMES = 16, 160
SETTINGS = Settings(
    steps=STEPS, batch=BATCH, seconds=FRAMES * 0.08, lr=2.5e-3, warm_up=0.03, weight_decay=0.05, full=True,
    checkpointing=False, save_every=100, keep=2, seed=3,
)  # fmt: skip
PHONETIC = 3  # codebooks in which the codec learned to hear phones
PAD_WEIGHT = 0.3  # of text that is no word
SHARES = np.array([1.0, 0.25], np.float32)  # in the loss: the text, all heads together


def config() -> dict[str, Any]:
    """As `config.json` says it, without the names of files."""
    return {
        "dim": 192, "n_q": stt_codes.CODEBOOKS, "dep_q": 0, "card": 512, "num_heads": 4, "num_layers": 5,
        "hidden_scale": 4, "causal": True, "layer_scale": None, "context": 75, "max_period": 10_000,
        "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
        "delays": [0] * (1 + stt_codes.CODEBOOKS), "text_card": _text_card(), "existing_text_padding_id": PAD,
        "existing_text_end_padding_id": EPAD, "extra_heads_num_heads": len(HORIZONS),
        "extra_heads_dim": CLASSES, "model_type": "stt",
        "stt_config": {"audio_delay_seconds": DELAY * 0.08, "audio_silence_prefix_seconds": 0.0},
        "lm_gen_config": {"use_sampling": False},
    }  # fmt: skip


def _text_card() -> int:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model()).get_piece_size()


@dataclass(frozen=True, kw_only=True)
class Talks(Data):
    """Endless ones: every step has its own, which follow from the seed and its number.

    near: [PHONETIC, 512, n], the codes nearest to each in those books.
    """

    talks: Sequence[stt_codes.Talk]
    near: np.ndarray
    sources: Sequence[Any] = ()
    weights: Sequence[float] = ()

    def batches(self, settings: Settings, config: LmConfig, step: int) -> Iterator[tuple[Batch, Sequence[object]]]:
        """As `Data.batches`."""
        made = Windows(self.talks)
        for number in count(step):
            rng = np.random.default_rng([4000, settings.seed, number])
            windows = [made.window(rng, round(settings.seconds * 12.5)) for _ in range(settings.batch)]
            yield batch_of(windows, self.near, config, rng), [f"talks of step {number + 1}"]


def batch_of(windows: Sequence[Window], near: np.ndarray, config: LmConfig, rng: np.random.Generator) -> Batch:
    """Windows, ready to be learned from: heard uncertainly, and some words are not read as they were written."""
    targets = np.stack([np.concatenate([window.text[None], window.activity]) for window in windows])
    heard = np.stack([np.concatenate([window.text[None], window.codes]) for window in windows])
    for row in range(len(heard)):
        _mishear(rng, heard[row], heard[(row + 1) % len(heard), 1 + PHONETIC :], near)
        _misread(rng, heard[row, 0], config)
    weights = np.ones(targets.shape, np.float32)
    weights[:, 0] = np.where(targets[:, 0] < SPECIAL, PAD_WEIGHT, 1.0)
    weights[:, :1] /= weights[:, :1].sum()
    weights[:, 1:] /= max(1.0, weights[:, 1:].sum())
    return Batch(delayed(heard, config), weights, SHARES, targets=targets.astype(np.int32))


def _mishear(rng: np.random.Generator, heard: np.ndarray, other: np.ndarray, near: np.ndarray) -> None:
    """Make the codes in `heard` [1 + CODEBOOKS, T] less certain, so that what is said counts and not who says it.

    other: the acoustic codes of somebody else.
    """
    chance = rng.random()
    if chance < 0.3:
        heard[1 + PHONETIC :] = NOTHING
    elif chance < 0.6:
        heard[1 + PHONETIC :] = other
    elif chance < 0.75:
        heard[int(rng.integers(2, 1 + PHONETIC)) :] = NOTHING
    if rng.random() < 0.8:  # what the codec could as well have heard
        for codes, others in zip(heard[1:], near, strict=False):
            confuse(rng, codes, others, 0.4)
    if rng.random() < 0.3:
        scramble(rng, heard[1:], 0.1)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(heard.shape[1]))
            heard[1:, at : at + int(rng.integers(1, 4))] = NOTHING


def _misread(rng: np.random.Generator, text: np.ndarray, config: LmConfig) -> None:
    """Replace words that were written before, so that what is heard counts more than what was written."""
    if rng.random() < 0.5:
        words = np.flatnonzero(text >= SPECIAL)
        lost = words[rng.random(len(words)) < rng.uniform(0, 0.4)]
        text[lost] = np.where(rng.random(len(lost)) < 0.5, PAD, rng.integers(SPECIAL, config.text_card, len(lost)))


def neighbours(count: int = 8) -> np.ndarray:
    """The codes nearest to each code in which phones are heard, [PHONETIC, 512, count]."""
    stored = tensors(CODEC["mimi_name"])
    layers = ["rvq_first.vq.layers.0", *(f"rvq_rest.vq.layers.{index}" for index in range(PHONETIC - 1))]
    tables = []
    for layer in layers:
        sums, usage = (
            np.array(stored[f"quantizer.{layer}._codebook.{name}"]) for name in ("embedding_sum", "cluster_usage")
        )
        tables.append(sums / np.maximum(usage, 1e-5)[:, None])
    return nearest(tables, count)


def train(folder: Path, settings: Settings = SETTINGS) -> None:
    """Take the steps that are left."""
    checkpoint = begun(folder / START, config(), tokenizer_model(), settings.seed)
    data = Talks(talks=stt_codes.load(folder / "codes"), near=neighbours())
    learn(checkpoint, folder / LM_FOLDER, "talks", settings, data)


def export(folder: Path, target: Path) -> None:
    """Write the model that was trained in `folder` to `target`, in bfloat16; the codec is Nano's, beside it."""
    target.mkdir(parents=True, exist_ok=True)
    lm = Checkpoint.resolve(folder / LM_FOLDER).load_lm()
    write_weights(target / MODEL, lm, "BF16")
    write_around(target, config(), tokenizer_model(), codec_at(target))
    print(f"{target}: {size_of(target) / 1e6:.2f} MB")


if __name__ == "__main__":
    command(train, export, SETTINGS, LISTENING_PARTS, sys.argv[1:])
