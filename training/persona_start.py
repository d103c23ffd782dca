"""Where the training of `nano-persona` begins: with its own weights in the package, or Nano's, as far as they fit.

It hears what Nano hears. Rows of text tables go by their words, for the two have different vocabularies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.start import write_start
from moshi_mlx.quantize.quantizer import Conversion, DenseReader, conversion, converted
from moshi_mlx.weights.quantization import Recipe
from moshi_mlx.weights.safetensors import write_tensors
from training import persona_words, text
from training.model_folder import tensors
from training.text import SPECIAL

TABLES = ("text_emb.weight", "text_linear.weight", "depformer_text_emb.weight")  # a row for each token


def write_warm_start(path: Path, config: Mapping[str, Any], seed: int, nano: Path) -> None:
    """Write weights to begin with, as `moshi_mlx.finetune.start.write_start` does. nano: Nano's weights."""
    write_start(path, config, seed)
    started, known = tensors(path), tensors(nano)
    for name, old in known.items():
        new = started.get(name)
        if name in TABLES:
            started[name] = _by_words(started[name], old)
        elif new is not None and new.shape == old.shape:
            started[name] = old
    mx.save_safetensors(str(path), started, {"format": "pt"})


def write_learned(folder: Path, learned: Checkpoint, recipe: Recipe) -> Conversion:
    """Write the weights of a model to a folder, as a recipe wants them; bf16 makes them dense again."""
    wanted = conversion(learned.lm_config, recipe)
    write_tensors(folder, wanted.layout, converted(wanted, DenseReader(learned.weights)))
    return wanted


def _by_words(new: mx.array, old: mx.array) -> mx.array:
    """`new` [tokens, width] with the rows of `old` that stand for the same."""
    ids, before = persona_words.token_ids(), text.token_ids()
    rows = {token: token for token in range(SPECIAL)}
    rows |= {ids[word]: before[word] for word in ids.keys() & before.keys()}
    if len(old) > text.text_card():  # behind all words stands what a stream begins with
        rows[persona_words.text_card()] = text.text_card()
    new[mx.array(list(rows))] = old[mx.array(list(rows.values()))]
    return new
