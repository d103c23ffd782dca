"""Train `nano-persona` on conversations made of codes, by the package's own trainer.

`python -m training.train_persona FOLDER [STEPS]`; stops and goes on at any time. FOLDER is the work folder of
Nano, with its finished codec and codes; what is learned is in FOLDER/persona/lm.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.loss import Batch
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.moshi import load
from moshi_mlx.tasks.persona import steady_codes
from moshi_mlx.weights.quantization import RECIPES, UNQUANTIZED
from training import persona_speech, speech_codes, train_codec
from training.export import export_all_but_lm
from training.learning import learn, with_steps
from training.model_folder import LEARNED, LM_FOLDER, MODEL, OWN_CODEC, START, write_around
from training.persona_lm import CONTEXT, config
from training.persona_prompts import Prompts, Steady
from training.persona_speech import Speech
from training.persona_start import write_learned, write_warm_start
from training.persona_text import NAMES
from training.persona_turns import PersonaTurns, PersonaWindow
from training.persona_words import token_ids, tokenizer_model
from training.train_lm import Conversations, batch_of, neighbours

STEPS = 5_100
BATCH, FRAMES = 14, 120  # most steps: many prompts, with one or two turns each
LONG_SHARE, LONG_BATCH, LONG_FRAMES = 0.3, 6, CONTEXT  # whatever it remembers, it has learned from
SPOKEN_SHARE, QUIET_SHARE = 0.2, 0.04  # as Nano's: what a voice sounds like is learned soon, whom to obey is not
WORD_WEIGHT, NAME_WEIGHT = 3.0, 12.0
"""Of the loss of words, beside Nano's, and of names: nothing but them tells whether it obeys."""
SETTINGS = Settings(
    steps=STEPS, batch=BATCH, seconds=FRAMES * 0.08, lr=1.2e-3, warm_up=0.04, weight_decay=0.05, full=True,
    checkpointing=False, save_every=100, keep=2, seed=5,
)  # fmt: skip
WORK = "persona"  # in the work folder of Nano


@dataclass(frozen=True, kw_only=True)
class PersonaConversations(Conversations):
    """As Nano's, each with prompts before it."""

    speech: Speech
    prompts: Prompts
    salt: int = 5000

    def batch(self, settings: Settings, config: LmConfig, rng: np.random.Generator) -> Batch:
        """Conversations to learn from; prompts are heard as they are."""
        turns = PersonaTurns(self.codes, self.speech, self.prompts, rng)
        size, frames = settings.batch, round(settings.seconds * 12.5)
        if rng.random() < LONG_SHARE:
            size, frames = LONG_BATCH, LONG_FRAMES
        windows = [turns.window(frames) for _ in range(size)]
        heard = self.heard(windows, rng)
        for row, window in enumerate(windows):
            heard[row, :, : window.known] = window.codes[:, : window.known]
        made = batch_of(windows, heard, config, rng, SPOKEN_SHARE, QUIET_SHARE)
        return of_words(without_prompts(made, windows, config))


def without_prompts(batch: Batch, windows: Sequence[PersonaWindow], config: LmConfig) -> Batch:
    """The same batch, in which nothing is to be learned of the frames of prompts; rows still sum to as much."""
    frames = np.arange(batch.weights.shape[2])
    ends = np.array([window.known for window in windows])[:, None] + np.array(config.delays[: 1 + config.dep_q])
    weights = np.where(frames < ends[:, :, None], 0, batch.weights)  # [B, 1 + dep_q, T]
    weights *= batch.weights.sum((0, 2), keepdims=True) / weights.sum((0, 2), keepdims=True)
    return replace(batch, weights=weights.astype(np.float32))


def of_words(batch: Batch) -> Batch:
    """The same batch, in which words weigh more, beside padding; rows still sum to as much."""
    weights, texts = batch.weights.copy(), batch.tokens[:, :1, 1:]
    words = token_ids()
    names = [token for word, token in words.items() if word.strip(".,") in NAMES]
    weights[:, :1] *= np.where(np.isin(texts, [*words.values()]), WORD_WEIGHT, 1)
    weights[:, :1] *= np.where(np.isin(texts, names), NAME_WEIGHT / WORD_WEIGHT, 1)
    weights[:, :1] *= batch.weights[:, :1].sum((0, 2)) / weights[:, :1].sum((0, 2))
    return replace(batch, weights=weights.astype(np.float32))


def train(folder: Path, settings: Settings = SETTINGS) -> None:
    """Take the steps that are left."""
    codec, _ = train_codec.load(folder)
    codes = speech_codes.load(folder, codec.eval())
    start, out = folder / WORK / START, folder / WORK / LM_FOLDER
    if not (start / MODEL).exists():
        begin(folder, start, settings.seed)
    checkpoint = Checkpoint.resolve(start)
    speech = persona_speech.load(folder, codec)
    own = {name: answer.codes for name, answer in speech.answers.items()}
    steady = Steady(*steady_codes(load(start, codec="mlx")))
    prompts = Prompts(checkpoint.lm_config, steady, own, codes.said)
    data = PersonaConversations(codes=codes, near=neighbours(codec), speech=speech, prompts=prompts)
    learn(checkpoint, out, "conversations", settings, data)


def begin(folder: Path, start: Path, seed: int) -> None:
    """Write the model that training begins with: this folder's codec, the package's nano-persona.

    Where there is none, the weights of the folder's Nano, and where that has not been trained, of the package's.
    """
    export_all_but_lm(folder, start)
    learned = folder / LM_FOLDER / LEARNED
    if (nano.EMBEDDED[nano.PERSONA_NAME] / MODEL).exists():
        write_learned(start, Checkpoint.resolve(nano.PERSONA_NAME, offline=True), RECIPES[UNQUANTIZED])
    else:
        write_warm_start(start / MODEL, config(), seed, learned if learned.exists() else nano.FOLDER / MODEL)
    write_around(start, config(), tokenizer_model(), OWN_CODEC)


if __name__ == "__main__":
    train(Path(sys.argv[1]), with_steps(SETTINGS, sys.argv[2:3]))
