"""Cases of positions and of attention: rotation, the window in its ring, masks, int8, the depth transformer's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np

from moshi_mlx.doctor.check import closed_form
from moshi_mlx.doctor.check.comparison import NAMES, ROUNDED, Case, Noise, exact, numbers, on_gpu, tolerance
from moshi_mlx.doctor.check.layers import TYPES, Made, Same
from moshi_mlx.doctor.check.shapes import Shapes
from moshi_mlx.models import cache as cache_module
from moshi_mlx.models.cache import BITS, Chunk, KVCache, Quantized, QuantizedRing
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.lm import DepthWindow
from moshi_mlx.models.transformer import Attention, _rope_positions

FILL = 509  # positions written at once while a window fills
INT8 = 2e-2  # of the largest output: 8 bits are right to some 0.8 %
LATE = 5999  # the last position before a window of 3000 is rebased, if it is not full of gaps


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them."""
    noise = Noise(2)
    yield from _rotations(shapes, noise)
    yield from _attentions(shapes, noise)
    yield from _windows(shapes, noise)


def _rotations(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    temporal = shapes.temporal
    shared = replace(
        temporal, num_heads=max(2, temporal.num_heads // 2), dim=max(256, temporal.dim // 2), kv_repeat=2
    )
    for config, kind in ((temporal, "rope"), (temporal, "rope_concat"), (shared, "rope_concat")):
        for dtype in TYPES:
            for batch, count, position in ((1, 1, 1), (2, 1, 40), (1, 5, 7), (1, 1, LATE)):
                # Late angles are float32: known to 1/4000, and a GPU's cosine adds as much.
                close = max(tolerance(dtype), 5e-3 if position > 1000 else 0.0)
                detail = (
                    f"{kind}, {NAMES[dtype]}, {config.num_heads} heads of {config.head_dim}, "
                    f"{config.num_kv_heads} of keys, batch {batch}, {count} from position {position}"
                )
                run = partial(_rotation, replace(config, rope=kind), dtype, batch, count, position, noise)
                yield Case("rotary positions", detail, close, run)


def _rotation(
    config: TransformerConfig, dtype: mx.Dtype, batch: int, count: int, position: int, noise: Noise
) -> Made:
    attention = Attention(config)
    attention.in_proj = Same()  # the projections are given
    H, Hkv, D = config.num_heads, config.num_kv_heads, config.head_dim
    given = noise.normal(batch, count, (H + 2 * Hkv) * D)
    x = mx.array(given).astype(dtype)
    where = _rope_positions(Chunk(position, count, count, None), batch, config)
    made = attention.project(x[:, 0] if count == 1 else x, where)
    queries, keys, values = made if len(made) == 3 else (made[0], *mx.split(made[1], 2))
    heads = numbers(x).reshape(batch, count, H + 2 * Hkv, D).swapaxes(1, 2)
    q, k, v = np.split(heads, [H, H + Hkv], axis=1)
    at = position + np.arange(count)
    q, k = (closed_form.rotate(part, at, config.rope, config.max_period) for part in (q, k))
    return numbers(mx.concatenate([queries, keys, values], axis=1)), np.concatenate([q, k, v], axis=1)


def _attentions(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    temporal, mimi = shapes.temporal, shapes.mimi.transformer
    for dtype in TYPES:
        for H, Hkv, D, T, n in (
            (temporal.num_heads, temporal.num_heads, temporal.head_dim, 1, 3),
            (temporal.num_heads, temporal.num_heads, temporal.head_dim, 1, 1),
            (temporal.num_heads, temporal.num_heads // 2, temporal.head_dim, 1, temporal.context),
            (mimi.num_heads, mimi.num_heads, mimi.head_dim, 2, mimi.context + 1),
        ):
            for masked in (False, True):
                if masked and n == 1:
                    continue
                detail = (
                    f"{NAMES[dtype]}, {H} heads of {D}, {Hkv} of keys, {T} to {n}{', masked' if masked else ''}"
                )
                run = partial(_attention, (H, Hkv, D, T, n), dtype, masked, noise)
                yield Case("attention", detail, spread(dtype), run)
    dtype = mx.bfloat16 if on_gpu() else mx.float32
    for n in (3, temporal.context):
        heads = (temporal.num_heads, temporal.num_heads, temporal.head_dim, 1, n)
        detail = f"int8, {NAMES[dtype]} activations, {heads[0]} heads of {heads[2]}, 1 to {n}, masked"
        yield Case("int8 attention", detail, INT8, partial(_attention, heads, dtype, True, noise, int8=True))


def _attention(
    heads: tuple[int, int, int, int, int], dtype: mx.Dtype, masked: bool, noise: Noise, int8: bool = False
) -> Made:
    H, Hkv, D, T, n = heads
    q, k, v = (mx.array(noise.normal(2, *shape)).astype(dtype) for shape in ((H, T, D), (Hkv, n, D), (Hkv, n, D)))
    allowed = noise.normal(2, T, n) > 0
    allowed[..., 0] = True
    mask = mx.array(allowed[:, None].tolist()) if masked else None
    right = closed_form.attend(numbers(q), numbers(k), numbers(v), allowed if masked else None)
    if int8:
        group = QuantizedRing(1, 1, 1, D, dtype).group
        return _int8(q, k, v, mask, group), right
    return cache_module.attend(q, k, v, mask), right


def _int8(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None, group: int) -> mx.array:
    keys, values = (Quantized(*mx.quantize(part, group, BITS)) for part in (k, v))
    return cache_module.attend(q, keys, values, mask)


def _windows(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    temporal, mimi, depth = shapes.temporal, shapes.mimi.transformer, shapes.depth.transformer
    narrow = mx.bfloat16 if on_gpu() else mx.float32
    full, heads = temporal.context, f"{temporal.num_heads} heads of {temporal.head_dim}"
    kinds: list[tuple[str, mx.Dtype, int | None]] = [("window", dtype, None) for dtype in TYPES]
    kinds += [("int8 window", dtype, 8) for dtype in dict.fromkeys([narrow, mx.bfloat16])]
    for name, dtype, bits in kinds:
        often = (dtype == mx.bfloat16 and not bits) or (dtype == narrow and bits)
        for batch, count in shapes.windows if often else [one for one in shapes.windows if one[0] == 1]:
            wrapped = ", wrapped" if count > full else ""
            detail = f"{NAMES[dtype]}, {heads}, batch {batch}, {count} positions in {full}{wrapped}"
            run = partial(_window, temporal, dtype, bits, batch, filling(count), noise)
            yield Case(name, detail, INT8 if bits else spread(dtype), run)
    short = replace(temporal, context=min(full, 60))
    for dtype in TYPES:
        run = partial(_window, short, dtype, None, 4, [1] * 80, noise, gaps=True)
        yield Case("masked window", f"{NAMES[dtype]}, {heads}, batch 4, rows come and go", spread(dtype), run)
        run = partial(_window, short, dtype, None, 1, [70, 31], noise)
        detail = f"{NAMES[dtype]}, {heads}, a chunk of 31 after 70 in {short.context}"
        yield Case("masked window", detail, spread(dtype), run)
    run = partial(_window, replace(short, kv_repeat=2), mx.float32, None, 2, filling(70), noise)
    yield Case("window", f"f32, {heads}, two to each of keys, batch 2, 70 in {short.context}", exact(), run)
    for count in (2, mimi.context, 3 * mimi.context):
        run = partial(_window, mimi, mx.float32, None, 2, [2] * (count // 2), noise, step=2)
        detail = f"f32, {mimi.num_heads} heads of {mimi.head_dim}, 2 at a time, {count} in {mimi.context}"
        yield Case("codec's window", detail, exact(), run)
    for dtype, bits in ((mx.float32, None), (mx.bfloat16, None), (narrow, 8)):
        run = partial(_rebased, replace(temporal, context=30), dtype, bits, noise)
        detail = f"{NAMES[dtype]}{', int8' if bits else ''}, {heads}, 75 positions in 30"
        yield Case("rebased window", detail, INT8 if bits else max(1e-3, spread(dtype)), run)
    for dtype in TYPES:
        detail = f"{NAMES[dtype]}, {depth.num_heads} heads of {depth.head_dim}, batch 2, 8 steps"
        yield Case("depth window", detail, spread(dtype), partial(_depth, depth, dtype, noise))


def spread(dtype: mx.Dtype) -> float:
    """Return the tolerance of an attention: scores and weights may be rounded on the way, as MLX does on a CPU."""
    return exact() if dtype == mx.float32 else 2 * ROUNDED


def filling(count: int) -> list[int]:
    """Return chunks of `count` positions, the last one a single position."""
    return [*(min(FILL, count - 1 - start) for start in range(0, count - 1, FILL)), 1]


def _window(
    config: TransformerConfig,
    dtype: mx.Dtype,
    bits: int | None,
    batch: int,
    chunks: Sequence[int],
    noise: Noise,
    step: int = 1,
    gaps: bool = False,
) -> Made:
    """Fill a window chunk by chunk; the last one attends. gaps: rows do not always run, but for the first."""
    cache = KVCache(config, batch, step, dtype, bits)
    held, running, made, queries = [], [], np.zeros(0), np.zeros(0)
    for index, size in enumerate(chunks):
        last = index == len(chunks) - 1
        rows = np.array([not gaps or last or (index + row) % (3 * row + 2) >= row for row in range(batch)])
        chunk = cache.begin(size, rows)
        both = mx.array(noise.normal(2 * batch, config.num_kv_heads, size, config.head_dim)).astype(dtype)
        keys, values = cache.extend(0, [both], chunk)
        if last:
            asked = mx.array(noise.normal(batch, config.num_heads, size, config.head_dim)).astype(dtype)
            made, queries = numbers(cache_module.attend(asked, keys, values, chunk.mask)), numbers(asked)
        del keys, values  # or the ring would be copied when the next chunk is written
        cache.end(chunk)
        mx.eval(cache.arrays())
        held.append(numbers(both))
        running.append(np.repeat(rows[:, None], size, 1))
    first = max(0, sum(chunks) - config.context - chunks[-1])  # what is older cannot be seen
    keys_values, ran = np.concatenate(held, 2)[:, :, first:], np.concatenate(running, 1)[:, first:]
    seen = closed_form.window(ran.shape[1], config.context, chunks[-1], ran)
    one_by_one = [  # for the memory
        closed_form.attend(
            queries[row : row + 1],
            keys_values[row : row + 1],
            keys_values[batch + row : batch + row + 1],
            seen[row : row + 1],
        )
        for row in range(batch)
    ]
    return made, np.concatenate(one_by_one)


def _rebased(config: TransformerConfig, dtype: mx.Dtype, bits: int | None, noise: Noise) -> Made:
    """Let a window count its positions anew; keys and queries are rotated by what it counts."""
    cache = KVCache(config, 1, 1, dtype, bits)
    cache.rebase_at = 2 * cache.slots
    out, queries, held = None, np.zeros(0), []
    for position in range(5 * config.context // 2):  # half of the window was stored before the new count
        chunk = cache.begin(1)
        both, queries = (
            noise.normal(2, config.num_kv_heads, 1, config.head_dim),
            noise.normal(1, config.num_heads, 1, config.head_dim),
        )
        held.append(both.copy())
        held[-1][:1] = closed_form.rotate(both[:1], np.array([position]), config.rope, config.max_period)
        at = np.array([chunk.position])
        both[:1] = closed_form.rotate(both[:1], at, config.rope, config.max_period)
        turned = closed_form.rotate(queries, at, config.rope, config.max_period)
        keys, values = cache.extend(0, [mx.array(both).astype(dtype)], chunk)
        out = cache_module.attend(mx.array(turned).astype(dtype), keys, values, chunk.mask)
        cache.end(chunk)
        mx.eval(out, cache.arrays())
        queries = closed_form.rotate(queries, np.array([position]), config.rope, config.max_period)
    assert out is not None
    both = np.concatenate(held[-config.context :], axis=2)
    return out, closed_form.attend(queries, both[:1], both[1:])


def _depth(config: TransformerConfig, dtype: mx.Dtype, noise: Noise) -> Made:
    steps, shape = 8, (config.num_kv_heads, 1, config.head_dim)
    buffers = [mx.zeros((4, config.num_kv_heads, steps, config.head_dim), dtype)]
    window, got, right, held = DepthWindow(buffers), [], [], []
    for _ in range(steps):
        chunk = window.begin(1)
        both, queries = (mx.array(noise.normal(rows, *shape)).astype(dtype) for rows in (4, 2))
        got.append(numbers(cache_module.attend(queries, *window.extend(0, [both], chunk), chunk.mask)))
        window.end(chunk)
        held.append(numbers(both))
        keys, values = np.split(np.concatenate(held, axis=2), 2)
        right.append(closed_form.attend(numbers(queries), keys, values))
    return np.concatenate(got, 2), np.concatenate(right, 2)
