"""Train `nano-tts` on sentences made of codes, by the package's own trainer.

`python -m training.train_tts FOLDER [STEPS]`; stops and goes on at any time. It needs what `tts_codes` has made in
FOLDER; what is learned is in FOLDER/lm. `python -m training.train_tts FOLDER export TARGET` writes it beside a
codec, `python -m training.train_tts FOLDER curve TABLE.csv` how its loss fell.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.loss import PARTS, Batch, delayed
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.quantization import Recipe, make_scheme
from training import stt_text, tts_speech
from training.ahead import numbered
from training.learning import begun, command, learn
from training.model_folder import LM_FOLDER, OWN_CODEC, START, write_around
from training.persona_start import write_learned
from training.text import EPAD, PAD
from training.tts_text import tokenizer_model, vocabulary
from training.tts_windows import DELAY, Windows
from training.word_pieces import SPECIAL

STEPS = 1_400
BATCH, FRAMES = 16, 100
SETTINGS = Settings(
    steps=STEPS, batch=BATCH, seconds=FRAMES * 0.08, lr=2.5e-3, warm_up=0.03, weight_decay=0.05, full=True,
    checkpointing=False, save_every=100, keep=2, seed=7,
)  # fmt: skip
RECIPE = Recipe("q5 with q8", make_scheme(5, 128), {"text_*": {"bits": 8, "group_size": 128}})
"""What fits: the depth transformer is stored once for each codebook."""
SHARES = np.array(
    [0.3, 0.67, 2.0], np.float32
)  # in the loss: the text, the semantic code, the mean of acoustic ones
HIDDEN_SHARE = 0.12  # of the windows hide their text: what guidance leads away from
WRONG_SHARE, WRONG = 0.5, 0.06  # of the windows have so many codes wrong, as its own may be
DEPTH_SHARE, TELLING_LEAD = 0.45, 0.7
"""Of the frames, those whose codes are predicted: by chance, but mostly those in which a word begins to sound."""


def config() -> dict[str, Any]:
    """As `config.json` says it, without the names of files."""
    return {
        "dim": 256, "n_q": 8, "dep_q": 8, "card": 512, "num_heads": 4, "num_layers": 5, "hidden_scale": 3,
        "causal": True, "layer_scale": None, "context": 75, "max_period": 10_000, "gating": "silu",
        "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 128,
        "depformer_dim_feedforward": 384, "depformer_num_heads": 4, "depformer_num_layers": 2,
        "depformer_causal": True, "depformer_layer_scale": None, "depformer_multi_linear": True,
        "depformer_context": 8, "depformer_max_period": 10_000, "depformer_gating": "silu",
        "depformer_pos_emb": "none", "depformer_weights_per_step": True,
        "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2],
        "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1], "text_card": SPECIAL + len(vocabulary()),
        "existing_text_padding_id": PAD, "existing_text_end_padding_id": EPAD, "model_type": "tts",
        "tts_config": {"audio_delay": DELAY * 0.08, "second_stream_ahead": 0},
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sentences(Data):
    """Endless windows of sentences: every step has its own, which follow from the seed and its number."""

    windows: Windows
    sources: Sequence[Any] = ()
    weights: Sequence[float] = ()

    def batches(self, settings: Settings, config: LmConfig, step: int) -> Iterator[tuple[Batch, Sequence[object]]]:
        """As `Data.batches`; made on another thread while the model learns."""
        seeds = [7000, settings.seed]
        return numbered(lambda rng: batch_of(self.windows, settings, config, rng), seeds, step, "sentences")


def batch_of(windows: Windows, settings: Settings, config: LmConfig, rng: np.random.Generator) -> Batch:
    """Windows, ready to be learned from: some hide their text, some have codes that are wrong, and not learned."""
    frames = round(settings.seconds * 12.5)
    made = [windows.window(rng, frames) for _ in range(settings.batch)]
    codes = np.stack([one.codes for one in made])
    learned = codes >= 0
    learned[:, 0] = np.stack([one.asked for one in made])
    wrong = (rng.random(codes.shape) < WRONG) & (rng.random((len(codes), 1, 1)) < WRONG_SHARE) & learned
    wrong[:, 0] = False
    codes[wrong] = rng.integers(config.card, size=int(wrong.sum()))
    hidden = rng.random(len(codes)) < HIDDEN_SHARE
    codes[hidden, 0] = -1
    learned[hidden, 0] = False
    weights = np.zeros(codes.shape, np.float32)
    for row, delay in enumerate(config.delays):
        weights[:, row, delay:] = (learned & ~wrong)[:, row, : frames - delay]
    liked = rng.random((len(codes), frames)) + TELLING_LEAD * np.stack([one.telling for one in made])
    chosen = np.sort(np.argsort(-liked, axis=1)[:, : round(DEPTH_SHARE * frames)])
    kept = np.zeros((len(codes), frames), bool)
    np.put_along_axis(kept, chosen, True, 1)
    weights[:, 1:] *= kept[:, None]
    weights /= weights.sum((0, 2), keepdims=True)
    weights[:, 2:] /= config.dep_q - 1
    return Batch(delayed(codes, config), weights, SHARES, chosen.astype(np.int32))


def train(folder: Path, settings: Settings = SETTINGS) -> None:
    """Take the steps that are left."""
    checkpoint = begun(folder / START, config(), tokenizer_model(), settings.seed)
    windows = Windows(tts_speech.load(folder))
    learn(checkpoint, folder / LM_FOLDER, "sentences", settings, Sentences(windows=windows))


def export(folder: Path, target: Path) -> None:
    """Write the model that was trained in `folder` to `target`, quantized.

    Its codec is the one that lies in `target`, whose decoder has learned the words.
    """
    wanted = write_learned(target, Checkpoint.resolve(folder / LM_FOLDER), RECIPE)
    write_around(target, config(), tokenizer_model(), OWN_CODEC, wanted.block)
    (target / "words.json").write_text(json.dumps(stt_text.vocabulary()) + "\n")


if __name__ == "__main__":
    command(train, export, SETTINGS, PARTS, sys.argv[1:])
