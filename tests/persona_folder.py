"""A tiny PersonaPlex with a voice of its own."""

from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint

VOICE = "NATF9"


def write_persona(folder: Path) -> Path:
    """Write a random checkpoint with Moshi's streams, PersonaPlex's depth steps, and one random voice."""
    write_random_checkpoint(folder, {**TINY_PERSONA, "context": 200})
    random = np.random.RandomState(2)
    cache = random.randint(0, TINY_PERSONA["card"], (1, 17, 4))
    (folder / "voices").mkdir()
    mx.save_safetensors(
        str(folder / "voices" / f"{VOICE}.safetensors"),
        {
            "embeddings": mx.array(random.standard_normal((6, 1, 1, 64)).astype(np.float32)),
            "cache": mx.array(cache),
        },
    )
    return folder
