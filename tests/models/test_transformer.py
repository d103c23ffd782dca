"""The streaming transformer: chunking, windows, rows, and mlx-lm's Helium as the oracle of the temporal stack."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.transformer import Transformer

CONFIG = TransformerConfig(dim=32, num_heads=4, num_layers=2, ffn_hidden=48, context=7, kv_repeat=2)
LENGTH = 40


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    mx.random.seed(0)
    return Transformer(CONFIG)


@pytest.fixture(scope="module")
def x() -> mx.array:
    mx.random.seed(1)
    return mx.random.normal((2, LENGTH, CONFIG.dim))


def push(transformer: Transformer, x: mx.array, chunks: list[int], step: int = 1) -> np.ndarray:
    state = transformer.new_state(x.shape[0], step)
    pieces = mx.split(x, np.cumsum(chunks)[:-1].tolist(), axis=1)
    return np.array(mx.concatenate([transformer(piece, state) for piece in pieces], axis=1))


def full_attention(transformer: Transformer, x: mx.array) -> np.ndarray:
    """The same layers over all positions at once, with a mask written down instead of a cache."""
    T, D = x.shape[1], CONFIG.head_dim
    age = np.arange(T)[:, None] - np.arange(T)[None]
    bias = mx.array(np.where((age >= 0) & (age < CONFIG.context), 0.0, -1e9).astype(np.float32))
    for layer in transformer.layers:
        h = layer.norm1(x)
        q, k, v = mx.split(layer.self_attn.in_proj(h), [CONFIG.dim, CONFIG.dim + CONFIG.num_kv_heads * D], axis=-1)
        q = mx.fast.rope(heads(q), D, traditional=True, base=CONFIG.max_period, scale=1.0, offset=0)
        k = mx.fast.rope(heads(k), D, traditional=True, base=CONFIG.max_period, scale=1.0, offset=0)
        k, v = mx.repeat(k, CONFIG.kv_repeat, axis=1), mx.repeat(heads(v), CONFIG.kv_repeat, axis=1)
        weights = mx.softmax(q @ k.transpose(0, 1, 3, 2) * D**-0.5 + bias, axis=-1)
        x = x + layer.self_attn.out_proj((weights @ v).transpose(0, 2, 1, 3).reshape(*x.shape))
        x = x + layer.gating(layer.norm2(x))
    return np.array(x)


def heads(x: mx.array) -> mx.array:
    return x.reshape(*x.shape[:2], -1, CONFIG.head_dim).transpose(0, 2, 1, 3)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("chunks", [[1] * 40, [2] * 20, [3, 1, 2, 9, 25], [40], [13, 27], [7, 7, 7, 7, 7, 5]])
def test_any_chunking_equals_full_masked_attention(
    transformer: Transformer, x: mx.array, chunks: list[int], step: int
) -> None:
    assert np.abs(push(transformer, x, chunks, step) - full_attention(transformer, x)).max() < 1e-5


@pytest.mark.parametrize("rope", ["rope", "rope_concat", "none"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_long_stream_is_as_exact_as_a_short_one(x: mx.array, rope: str, step: int) -> None:
    mx.random.seed(3)
    transformer = Transformer(replace(CONFIG, rope=rope))
    short, long = transformer.new_state(2, step), transformer.new_state(2, step)
    long.position = 1_000_003  # as after 22 hours
    long.turn_back_at = 3 * long.slots  # and from then on again and again
    highest = 0
    for t in range(0, LENGTH, step):
        piece = x[:, t : t + step]
        assert np.abs(np.array(transformer(piece, short)) - np.array(transformer(piece, long))).max() < 2e-6
        highest = max(highest, long.position)
    assert highest < 4 * long.slots
    assert long.position < LENGTH, "it should have turned back more than once"


def test_ring_has_exactly_context_slots(transformer: Transformer) -> None:
    state = transformer.new_state(1)
    shape = (1, 2 * CONFIG.num_kv_heads, CONFIG.context, CONFIG.head_dim)
    assert [a.shape for a in state.arrays()] == [shape] * CONFIG.num_layers


def test_ring_is_written_in_place(transformer: Transformer) -> None:
    wide = Transformer(replace(CONFIG, context=4096))
    mx.eval(wide.parameters())
    state = wide.new_state(1)
    mx.eval(state.arrays())
    frame = mx.zeros((1, 1, CONFIG.dim))
    mx.eval(wide(frame, state), state.arrays())
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(wide(frame, state), state.arrays())
    assert mx.get_peak_memory() - before < state.arrays()[0].nbytes / 2, "a ring was copied"


def test_a_row_that_joins_late_hears_nothing_from_before(transformer: Transformer, x: mx.array) -> None:
    state = transformer.new_state(2)
    for t in range(10):
        transformer(x[:, t : t + 1], state)
    state.reset_row(1)
    late = [np.array(transformer(x[:, t : t + 1], state)[1]) for t in range(10, LENGTH)]
    alone = push(transformer, x[1:, 10:], [1] * (LENGTH - 10))
    assert np.abs(np.concatenate(late) - alone[0]).max() < 1e-5


def test_a_row_that_stands_still_does_not_disturb_the_others(transformer: Transformer, x: mx.array) -> None:
    alone = push(transformer, x[:1], [1] * LENGTH)
    state = transformer.new_state(2)
    rows = np.array([True, False])
    together = [np.array(transformer(x[:, t : t + 1], state, rows)[0]) for t in range(LENGTH)]
    assert np.abs(np.concatenate(together) - alone[0]).max() < 1e-5


def test_a_row_that_stood_still_does_not_attend_to_the_gap(transformer: Transformer, x: mx.array) -> None:
    state = transformer.new_state(2)
    for t in range(3):  # the second row has not begun
        transformer(x[:, t : t + 1], state, np.array([True, False]))
    out = np.array(transformer(x[:, 3:4], state)[1])
    assert np.abs(out - push(transformer, x[1:, 3:4], [1])[0]).max() < 1e-5


def test_temporal_transformer_with_heliums_shape_equals_mlx_lm() -> None:
    from mlx_lm.models import helium

    dim, num_heads, layers, hidden, vocab, length = 64, 4, 3, 176, 50, 30
    mx.random.seed(2)
    oracle = helium.Model(
        helium.ModelArgs(
            hidden_size=dim,
            num_hidden_layers=layers,
            intermediate_size=hidden,
            num_attention_heads=num_heads,
            num_key_value_heads=num_heads,
            rms_norm_eps=1e-8,
            vocab_size=vocab,
            attention_bias=False,
            head_dim=dim // num_heads,
            max_position_embeddings=4096,
            mlp_bias=False,
            model_type="helium",
            rope_theta=100_000.0,
            tie_word_embeddings=False,
        )
    )
    theirs = dict(tree_flatten(oracle.parameters()))
    ours = Transformer(
        TransformerConfig(dim, num_heads, layers, hidden, context=length, max_period=100_000.0, rope="rope")
    )
    weights = []
    for layer in range(layers):
        here, there = f"layers.{layer}.", f"model.layers.{layer}."
        qkv = [theirs[f"{there}self_attn.{p}_proj.weight"] for p in "qkv"]
        gate = [theirs[f"{there}mlp.{p}_proj.weight"] for p in ("gate", "up")]
        weights += [
            (f"{here}self_attn.in_proj.weight", mx.concatenate(qkv)),
            (f"{here}self_attn.out_proj.weight", theirs[f"{there}self_attn.o_proj.weight"]),
            (f"{here}gating.linear_in.weight", mx.concatenate(gate)),
            (f"{here}gating.linear_out.weight", theirs[f"{there}mlp.down_proj.weight"]),
            (f"{here}norm1.weight", theirs[f"{there}input_layernorm.weight"]),
            (f"{here}norm2.weight", theirs[f"{there}post_attention_layernorm.weight"]),
        ]
    ours.load_weights(weights)
    ids = mx.random.randint(0, vocab, (1, length))
    x, state = oracle.model.embed_tokens(ids), ours.new_state(1)
    stepped = mx.concatenate([ours(x[:, t : t + 1], state) for t in range(length)], axis=1)
    logits = oracle.lm_head(oracle.model.norm(stepped))
    reference = oracle(ids)
    assert mx.abs(logits - reference).max() < 1e-4 * mx.abs(reference).max()
