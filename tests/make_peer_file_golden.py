# type: ignore  # moshi_mlx is another package here, the one of Kyutai
"""Makes tests/assets/peer_file_*.npz: the files that Kyutai's own MLX program writes, and its answers.

Needs Kyutai's moshi-mlx 0.3.0 in an environment of its own (it has our import name):

    python tests/make_peer_file_golden.py

Its published files were made so: weights in bfloat16, `mlx.nn.quantize`, `save_weights`. A golden file holds the
config, per tensor its type, shape and the start of the SHA-256 of its bytes, and teacher-forced logits as in
make_peer_golden.py; for these, scales, biases and norms are widened to float32 (bfloat16 activations are wrong on
a CPU), which changes no value.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from make_peer_golden import ASSETS, CONFIG, KINDS, POSITIONS, answers
from mlx.utils import tree_flatten
from random_weights import random_tensor

from moshi_mlx.models.lm import Lm, LmConfig


def main() -> None:
    for name, how in KINDS.items():
        lm = Lm(LmConfig.from_config_dict(CONFIG))
        dense = [(key, mx.array(random_tensor(key, array.shape))) for key, array in tree_flatten(lm.parameters())]
        lm.load_weights(dense)
        lm.set_dtype(mx.bfloat16)
        nn.quantize(lm, **how)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "model.safetensors")
            lm.save_weights(path)
            tensors = {key: described(array) for key, array in mx.load(path).items()}
        lm.set_dtype(mx.float32)
        tokens = np.random.RandomState(1).randint(0, CONFIG["card"], (1, 1 + CONFIG["n_q"], POSITIONS))
        text, audio = answers(lm, tokens.astype(np.int32))
        np.savez_compressed(
            ASSETS / f"peer_file_{name}.npz",
            config=json.dumps(CONFIG),
            tensors=json.dumps(tensors),
            tokens=tokens.astype(np.int32),
            text_logits=text,
            audio_logits=audio,
        )


def described(array: mx.array) -> list:
    bits = np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
    return [str(array.dtype), list(array.shape), hashlib.sha256(bits.tobytes()).hexdigest()[:16]]


if __name__ == "__main__":
    main()
