"""Quantizing a loaded model."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import (
    ROW_ARRAYS,
    Embedding,
    Linear,
    QuantizedEmbedding,
    dequantized,
    parameter_bytes,
    parameters,
    recast,
)
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.weights.quantization import NAMED, SCHEMES, Scheme, check_against_block, schemes_from_shapes
from moshi_mlx.weights.safetensors import TensorInfo

Q4 = SCHEMES["q4"]


@pytest.fixture
def lm() -> Lm:
    mx.random.seed(0)
    return Lm(LmConfig.from_dict(TINY))


def test_every_layer_is_quantized_embeddings_included(lm: Lm) -> None:
    block = quantize_lm(lm, Q4)
    assert block == {"bits": 4, "group_size": 32, "mode": "affine"}
    dense = [name for name, array in parameters(lm).items() if array.dtype == mx.float32]
    assert all(
        name.endswith((".scales", ".biases", "norm1.weight", "norm2.weight", "out_norm.weight")) for name in dense
    )
    assert isinstance(lm.text_emb, QuantizedEmbedding)
    assert isinstance(lm.depformer.slices[3].emb, QuantizedEmbedding)


def test_the_layers_are_near_what_they_were(lm: Lm) -> None:
    tokens = mx.array(np.random.default_rng(0).integers(-1, 64, (1, 17, 4)))
    before = lm.temporal(tokens, lm.new_state())
    quantize_lm(lm, SCHEMES["q8"])
    after = lm.temporal(tokens, lm.new_state())
    assert 0 < np.abs(np.array(after - before)).max() < 0.1


LUT = {"n_bins": 4, "dim": 64, "tokenizer": "noop", "possible_values": ["low", "high"]}
CONDITIONED = {
    "conditioners": {"voice": {"type": "lut", "lut": LUT}},
    "fuser": {"sum": ["voice"], "cross": [], "prepend": []},
}


def dequantize_layers(lm: Lm) -> None:
    """Replace every quantized layer by a dense one of the float32 weights that it stands for."""
    layers = []
    for path, layer in lm.named_modules():
        if "scales" in layer:
            arrays = [layer[name] for name in ROW_ARRAYS if name in layer]
            dense = Embedding(1, 1) if isinstance(layer, QuantizedEmbedding) else Linear(1, 1)
            dense.weight = dequantized(arrays, layer.group_size, layer.bits, layer.mode)
            layers.append((path, dense))
    lm.update_modules(tree_unflatten(layers))
    recast(lm, mx.float32, (mx.bfloat16,))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("more", [{}, {"depformer_low_rank_embeddings": 32}, CONDITIONED])
@pytest.mark.parametrize("kind", ["q4", "q8", "mxfp4", "nvfp4"])
def test_logits_are_those_of_the_weights_that_the_file_stands_for(kind: str, more: dict, fused: bool) -> None:
    models = []
    for dense in (False, True):
        mx.random.seed(0)
        lm = Lm(LmConfig.from_dict({**TINY, **more}))
        recast(lm, mx.bfloat16, (mx.float32,))  # as in a file; activations are float32
        quantize_lm(lm, NAMED[kind])
        if dense:
            dequantize_layers(lm)
        if fused:
            lm.fuse()
        models.append(lm)
    tokens = mx.array(np.random.default_rng(0).integers(-1, 64, (1, 17, 4)))
    ours, theirs = (_logits(lm, tokens) for lm in models)
    for logits, expected in zip(ours, theirs, strict=True):
        assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


def _logits(lm: Lm, tokens: mx.array) -> list[np.ndarray]:
    condition = lm.condition({"voice": "high"}) if lm.config.conditioners else None
    hidden = lm.temporal(tokens, lm.new_state(), condition)
    return [np.array(lm.text_linear(hidden)), np.array(lm.depformer.logits(hidden, tokens[:, :9]))]


def test_minus_one_still_embeds_to_exactly_zero(lm: Lm) -> None:
    quantize_lm(lm, Q4)
    for table in (lm.text_emb, lm.audio_embs[15], lm.depformer.slices[0].emb, lm.depformer.slices[7].emb):
        rows = table(mx.array([[-1, 5]]), mx.float32)
        assert np.abs(np.array(rows[0, 0])).max() == 0
        assert np.abs(np.array(rows[0, 1])).max() > 0


def test_shared_arrays_stay_shared(lm: Lm) -> None:
    for step in (5, 6, 7):
        lm.depformer.slices[step].linear_in.weight = lm.depformer.slices[4].linear_in.weight
    quantize_lm(lm, Q4)
    for name in ("weight", "scales", "biases"):
        assert len({id(lm.depformer.slices[step].linear_in[name]) for step in (4, 5, 6, 7)}) == 1
        assert len({id(lm.depformer.slices[step].linear_in[name]) for step in range(8)}) == 5
    arrays = parameters(lm).values()
    saved = 3 * sum(lm.depformer.slices[4].linear_in[name].nbytes for name in ("weight", "scales", "biases"))
    assert parameter_bytes(lm) == sum(array.nbytes for array in arrays) - saved


def test_layers_too_narrow_for_a_group_stay_dense_and_the_block_says_so(lm: Lm) -> None:
    block = quantize_lm(lm, Scheme(4, 128))  # only the depth steps' feed-forward is 128 wide
    assert block["text_linear"] is False
    assert lm.text_linear.weight.dtype == mx.float32
    assert lm.depformer.slices[0].transformer.layers[0].gating.linear_out.weight.dtype == mx.uint32


def test_a_predicate_chooses_layers_and_how(lm: Lm) -> None:
    def predicate(path: str, layer: object) -> bool | dict:
        if path == "text_linear":
            return False
        return {"bits": 8} if path.startswith("depformer.") else True

    block = quantize_lm(lm, Q4, predicate)
    assert block["text_linear"] is False
    assert block["depformer.slices.2.linear_in"] == {"bits": 8, "group_size": 32, "mode": "affine"}
    names = {mx.uint32: "U32", mx.float32: "F32"}
    tensors = {name: TensorInfo(names[array.dtype], array.shape) for name, array in parameters(lm).items()}
    schemes = schemes_from_shapes(tensors, {"text_emb": 64, "text_linear": 64, "depformer.slices.2.linear_in": 64})
    assert schemes == {"text_emb": Q4, "depformer.slices.2.linear_in": Scheme(8, 32)}
    check_against_block(schemes, block)


def test_what_mlx_cannot_quantize_is_said(lm: Lm) -> None:
    with pytest.raises(QuantizationError, match=r"MLX cannot quantize with 7 bits, group 32"):
        quantize_lm(lm, Scheme(7, 32))
