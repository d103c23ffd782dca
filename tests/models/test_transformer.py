"""The streaming transformer: chunking, windows, rows, and mlx-lm's Helium as the oracle of the temporal stack."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.errors import ConfigError
from moshi_mlx.models import rope as rope_module
from moshi_mlx.models.cache import Quantized, attend
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.transformer import Transformer
from tests.memory import active_memory

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


def run(transformer: Transformer, x: mx.array, chunks: list[int], step: int = 1) -> np.ndarray:
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


@pytest.fixture(params=[True, False], ids=["angles from a table", "angles from the kernel"])
def rope_source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to rotate queries and keys, whatever this machine prefers."""
    monkeypatch.setattr(rope_module, "use_table", lambda: request.param)


@pytest.mark.usefixtures("rope_source")
@pytest.mark.parametrize("rope", ["rope", "rope_concat"])
def test_single_steps_equal_one_long_chunk(x: mx.array, rope: str) -> None:
    mx.random.seed(6)
    transformer = Transformer(replace(CONFIG, kv_repeat=1, rope=rope, max_period=50.0))
    assert np.abs(run(transformer, x, [1] * LENGTH) - run(transformer, x, [LENGTH])).max() < 1e-5


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("chunks", [[1] * 40, [2] * 20, [3, 1, 2, 9, 25], [40], [13, 27], [7, 7, 7, 7, 7, 5]])
def test_any_chunking_equals_full_masked_attention(
    transformer: Transformer, x: mx.array, chunks: list[int], step: int
) -> None:
    assert np.abs(run(transformer, x, chunks, step) - full_attention(transformer, x)).max() < 1e-5


WIDE = replace(CONFIG, dim=128, num_heads=4)  # int8 needs heads of 32 channels


def int8_error(chunks: list[int], config: TransformerConfig = WIDE, rebase_at: int | None = None) -> float:
    """How far outputs with an int8 window are from those with a float32 one, of the largest."""
    mx.random.seed(4)
    transformer, x = Transformer(config), mx.random.normal((2, LENGTH, config.dim))
    states = [transformer.new_state(2, kv_bits=bits) for bits in (None, 8)]
    if rebase_at:
        states[1].rebase_at = rebase_at
    pieces = mx.split(x, np.cumsum(chunks)[:-1].tolist(), axis=1)
    dense, int8 = (np.array(mx.concatenate([transformer(piece, s) for piece in pieces], axis=1)) for s in states)
    return float(np.abs(int8 - dense).max() / np.abs(dense).max())


@pytest.mark.parametrize("chunks", [[1] * 40, [3, 1, 2, 9, 25], [40]], ids=str)
@pytest.mark.parametrize("kv_repeat", [1, 2])
def test_an_int8_window_is_within_one_percent(chunks: list[int], kv_repeat: int) -> None:
    error = int8_error(chunks, replace(WIDE, kv_repeat=kv_repeat))
    assert error < 0.01
    assert error > 0 or chunks == [LENGTH], "nothing was quantized"


def test_an_int8_window_survives_rebasing() -> None:
    assert int8_error([1] * LENGTH, rebase_at=2 * WIDE.context) < 0.01


def test_an_int8_window_of_late_rows_hears_nothing_from_before() -> None:
    mx.random.seed(5)
    transformer, x = Transformer(WIDE), mx.random.normal((2, LENGTH, WIDE.dim))
    late, alone = transformer.new_state(2, kv_bits=8), transformer.new_state(1, kv_bits=8)
    for t in range(5):
        transformer(x[:, t : t + 1], late)
    late.reset_row(1)
    for t in range(5, 15):
        together, single = transformer(x[:, t : t + 1], late)[1], transformer(x[1:, t : t + 1], alone)[0]
        assert np.abs(np.array(together) - np.array(single)).max() < 0.02


def test_an_int8_window_has_at_most_54_percent_of_the_bytes() -> None:
    transformer = Transformer(replace(WIDE, dim=512))  # heads of 128 channels, as Moshi's
    dense, int8 = (
        sum(a.nbytes for a in transformer.new_state(1, dtype=mx.bfloat16, kv_bits=b).arrays()) for b in (None, 8)
    )
    assert int8 <= 0.54 * dense


def test_an_int8_window_refuses_heads_it_cannot_group() -> None:
    with pytest.raises(ConfigError, match="multiple of 32 channels; this model's heads have 8"):
        Transformer(CONFIG).new_state(1, kv_bits=8)


@pytest.mark.parametrize("rope", ["rope", "rope_concat", "none"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_long_stream_is_as_exact_as_a_short_one(x: mx.array, rope: str, step: int) -> None:
    mx.random.seed(3)
    transformer = Transformer(replace(CONFIG, rope=rope))
    short, long = transformer.new_state(2, step), transformer.new_state(2, step)
    long.position = 1_000_003  # as after 22 hours
    long.rebase_at = 3 * long.slots  # and from then on again and again
    highest = 0
    for t in range(0, LENGTH, step):
        piece = x[:, t : t + step]
        assert np.abs(np.array(transformer(piece, short)) - np.array(transformer(piece, long))).max() < 2e-6
        highest = max(highest, long.position)
    assert highest < 4 * long.slots
    assert long.position < LENGTH, "it should have been rebased more than once"


@pytest.mark.parametrize("bits", [None, 8])
def test_keys_are_rotated_a_part_at_a_time_and_in_place(bits: int | None) -> None:
    """Copies in float32 of all keys of a layer would be more than Moshi may hold beside its window."""
    mx.random.seed(5)
    state = Transformer(replace(WIDE, context=2500)).new_state(1, kv_bits=bits)
    for ring in state.rings:
        ring.write(slice(0, 2), slice(0, 2500), mx.random.normal((2, WIDE.num_kv_heads, 2500, WIDE.head_dim)))
    mx.eval(state.arrays())
    before = [np.array(part) for part in state.rings[0].read_dense(2500)]
    held = active_memory()
    mx.reset_peak_memory()
    state.rotate_keys(-4096)
    part = 512 * WIDE.num_kv_heads * WIDE.head_dim * 4
    assert mx.get_peak_memory() - held < 6 * part
    state.rotate_keys(4096)
    assert active_memory() - held < 16_384
    for was, now in zip(before, state.rings[0].read_dense(2500), strict=True):
        np.testing.assert_allclose(np.array(now), was, atol=0.1 if bits else 1e-5)


def test_ring_has_exactly_context_slots(transformer: Transformer) -> None:
    state = transformer.new_state(1)
    shape = (2, CONFIG.num_kv_heads, CONFIG.context, CONFIG.head_dim)  # keys and values
    assert [a.shape for a in state.arrays()] == [shape] * CONFIG.num_layers


def test_ring_is_written_in_place(transformer: Transformer) -> None:
    wide = Transformer(replace(CONFIG, context=4096))
    mx.eval(wide.parameters())
    state = wide.new_state(1)
    mx.eval(state.arrays())
    frame = mx.zeros((1, 1, CONFIG.dim))
    mx.eval(wide(frame, state), state.arrays())
    before = active_memory()
    mx.reset_peak_memory()
    mx.eval(wide(frame, state), state.arrays())
    assert mx.get_peak_memory() - before < state.arrays()[0].nbytes / 2, "a ring was copied"


@pytest.mark.parametrize("count", [3, CONFIG.context])
def test_what_several_rows_attend_to_needs_no_copy(transformer: Transformer, x: mx.array, count: int) -> None:
    state = transformer.new_state(2)
    for t in range(count):
        transformer(x[:, t : t + 1], state)
    for held in state.rings[0].read(count):
        assert isinstance(held, mx.array)
        mx.eval(held)
        rows, heads, _, channels = np.array(held, copy=False).strides  # bytes
        # What MLX's GPU backends ask for where there is one query; else they copy all keys and values.
        assert (rows, channels) == (CONFIG.num_kv_heads * heads, held.itemsize)


def test_a_row_that_joins_late_hears_nothing_from_before(transformer: Transformer, x: mx.array) -> None:
    state = transformer.new_state(2)
    for t in range(10):
        transformer(x[:, t : t + 1], state)
    state.reset_row(1)
    late = [np.array(transformer(x[:, t : t + 1], state)[1]) for t in range(10, LENGTH)]
    alone = run(transformer, x[1:, 10:], [1] * (LENGTH - 10))
    assert np.abs(np.concatenate(late) - alone[0]).max() < 1e-5


def test_rows_that_join_late_have_sinusoidal_positions_of_their_own(x: mx.array) -> None:
    mx.random.seed(0)
    transformer = Transformer(replace(CONFIG, rope="sin"))
    state, alone = transformer.new_state(2), transformer.new_state(1)
    state.rebase_at = 3 * state.slots
    late = 5
    for index in range(late):
        transformer(x[:, index : index + 1], state)
    state.reset_row(1)
    for index in range(late, LENGTH):
        got = transformer(x[:, index : index + 1], state)[1:]
        expected = transformer(x[1:, index : index + 1], alone)
        np.testing.assert_allclose(np.array(got), np.array(expected), atol=1e-5)
    assert state.position < LENGTH, "positions should have been rebased"


def test_sinusoidal_positions_that_are_given_back_come_again(x: mx.array) -> None:
    mx.random.seed(0)
    transformer = Transformer(replace(CONFIG, rope="sin"))
    state = transformer.new_state(2, step=4)
    expected = transformer(x[:, :12], transformer.new_state(2))
    transformer(x[:, :8], state)
    transformer(x[:, 20:24], state)
    state.give_back(4)
    got = transformer(x[:, 8:12], state)  # after four positions too many
    np.testing.assert_allclose(np.array(got), np.array(expected[:, 8:]), atol=1e-5)


def test_a_row_that_stands_still_does_not_disturb_the_others(transformer: Transformer, x: mx.array) -> None:
    alone = run(transformer, x[:1], [1] * LENGTH)
    state = transformer.new_state(2)
    rows = np.array([True, False])
    together = [np.array(transformer(x[:, t : t + 1], state, rows)[0]) for t in range(LENGTH)]
    assert np.abs(np.concatenate(together) - alone[0]).max() < 1e-5


def test_a_row_that_stood_still_does_not_attend_to_the_gap(transformer: Transformer, x: mx.array) -> None:
    state = transformer.new_state(2)
    for t in range(3):  # the second row has not begun
        transformer(x[:, t : t + 1], state, np.array([True, False]))
    out = np.array(transformer(x[:, 3:4], state)[1])
    assert np.abs(out - run(transformer, x[1:, 3:4], [1])[0]).max() < 1e-5


@pytest.mark.slow
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


@pytest.mark.parametrize("step", [1, 2, 5, 12], ids=lambda step: f"chunks of {step}")
@pytest.mark.parametrize("rebase_at", [4096, 30])
def test_positions_that_are_given_back_leave_no_trace(
    transformer: Transformer, x: mx.array, step: int, rebase_at: int
) -> None:
    random, wrong = np.random.RandomState(step), mx.random.normal(x.shape)
    expected = run(transformer, x, [1] * LENGTH)
    state, position = transformer.new_state(x.shape[0], step), 0
    state.rebase_at = rebase_at  # with 30 the counter has gone back by whole rings, several times
    while position < LENGTH:
        right = random.randint(1, min(step, LENGTH - position) + 1)
        count = random.randint(right, min(step, LENGTH - position) + 1)
        end = position + right
        chunk = mx.concatenate([x[:, position:end], wrong[:, end : position + count]], axis=1)
        out = transformer(chunk, state)
        np.testing.assert_allclose(np.array(out[:, :right]), expected[:, position:end], atol=2e-5)
        state.give_back(count - right)
        position = end
    assert step == 12 or rebase_at == 4096 or state.position < LENGTH, "positions should have been rebased"


def test_only_positions_of_the_latest_short_chunk_can_be_given_back(transformer: Transformer, x: mx.array) -> None:
    state = transformer.new_state(x.shape[0], 3)
    transformer(x[:, :3], state)
    state.give_back(2)
    state.give_back(1)
    assert state.position == 0
    with pytest.raises(AssertionError):
        state.give_back(1)
    transformer(x[:, :4], state)  # longer than a step: it has overwritten what may be needed
    with pytest.raises(AssertionError):
        state.give_back(1)


def test_an_int8_window_is_as_good_beside_bfloat16() -> None:
    """On a CPU, MLX adds up quantized products in the type of their first factor: 6 % off after 500 positions."""
    rng = np.random.RandomState(0)
    queries, keys, values = (rng.standard_normal((1, 2, count, 64)).astype(np.float32) for count in (1, 900, 900))
    exact = np.array(attend(mx.array(queries), mx.array(keys), mx.array(values), None))
    narrow = [mx.array(one).astype(mx.bfloat16) for one in (queries, keys, values)]
    held = [Quantized(*mx.quantize(one, 64, 8)) for one in narrow[1:]]
    out = attend(narrow[0], held[0], held[1], None)
    assert out.dtype == mx.bfloat16
    assert np.abs(np.array(out.astype(mx.float32)) - exact).max() < 0.02 * np.abs(exact).max()
