"""Kyutai's quantized files: the tensors and answers of Kyutai's own MLX program (make_peer_golden.py)."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import lm_tensors
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.quantization import SCHEMES
from tests.golden import ASSETS
from tests.random_weights import random_tensor

TYPES = {"mlx.core.float32": "F32", "mlx.core.uint32": "U32"}


@pytest.mark.parametrize("kind", SCHEMES)
def test_kyutais_quantized_files_answer_as_in_kyutais_program(tmp_path: Path, kind: str) -> None:
    with np.load(ASSETS / f"peer_{kind}.npz") as file:
        golden = dict(file)
    config, scheme = LmConfig.from_dict(json.loads(str(golden["config"]))), SCHEMES[kind]
    tensors = json.loads(str(golden["tensors"]))
    theirs = {name: (TYPES[dtype], tuple(shape)) for name, (shape, dtype) in tensors.items()}
    arrays = {}
    for name, array in parameters(Lm(config)).items():
        dense, layer = mx.array(random_tensor(name, array.shape)), name.rpartition(".")[0]
        if f"{layer}.scales" in theirs:
            parts = mx.quantize(dense, scheme.group_size, scheme.bits)
            arrays |= {f"{layer}.{part}": a for part, a in zip(("weight", "scales", "biases"), parts, strict=True)}
        else:
            arrays[name] = dense
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays)
    weights = LmWeights(tmp_path / "model.safetensors", config)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in weights.tensors.items()} == theirs
    made = lm_tensors(config, "mlx", scheme, "F32")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in made.items()} == theirs
    assert weights.scheme == scheme

    lm = weights.load(mx.float32)
    tokens = mx.array(golden["tokens"])
    hidden = lm.temporal(tokens, lm.new_state())
    ours = {
        "text_logits": lm.text_linear(hidden)[0],
        "audio_logits": lm.depformer.logits(hidden, tokens[:, :4])[0],
    }
    for name, logits in ours.items():
        error = np.abs(np.array(logits) - golden[name]).max() / np.abs(golden[name]).max()
        assert error < 1e-5, f"{name}: {error:.1e} of the largest"
