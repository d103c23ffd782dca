"""The window of past positions that a streaming transformer attends to, and the attention itself.

Keys and values live in a ring of `context + step - 1` slots per layer, written in place; position p sits in
slot p modulo the size of the ring. A chunk of up to `step` positions is written first and attended to where it
lies (with step 1 the ring is exactly the window and nothing is masked). A longer chunk attends to the old ring and
to itself side by side and is written afterwards. Masks follow from positions alone, so how a stream is cut into
chunks cannot change the result.

Rows of a batch share the position counter, which is harmless because RoPE is relative. A position at which a row
was not running is masked for that row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np

from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.ring import BITS, Quantized, QuantizedRing, Ring, Stored
from moshi_mlx.models.rope import angles, rotate
from moshi_mlx.models.window import check_window

ROTATED_AT_ONCE = 512  # slots; the copies, in float32, of a whole layer were 2.7 % of Moshi 7B's memory
REBASE_AT = 4096  # positions: up to here float32 angles are exact to 1/4000


@dataclass(frozen=True)
class Chunk:
    """What all layers share about the positions that are being added."""

    position: int  # of the first new one
    count: int
    filled: int  # slots of the ring to read
    mask: mx.array | None  # (1 | B, 1, count, keys) bool, True = attend; None = attend to everything
    lived: np.ndarray | None = None  # (B,) positions that each row has run before; None: all since position 0


class KVCache:
    """Keys and values of all layers of one transformer, for all rows of a batch.

    step: the longest chunk that is written before it is attended to.
    bits: 8 keeps keys and values in int8, which halves the bytes read and costs some kernels.
    Raises ConfigError if int8 does not suit the width of a head, or the window is larger than the memory.
    """

    def __init__(
        self,
        config: TransformerConfig,
        batch: int,
        step: int = 1,
        dtype: mx.Dtype = mx.float32,
        bits: int | None = None,
    ) -> None:
        self.context = config.context
        self.step = step
        self.slots = config.context + step - 1
        check_window(config, self.slots, bits or 8 * dtype.size, batch)
        self.position = 0  # of the next chunk
        self._latest = 0  # positions that can be given back
        self.from_before = False  # whether there may be something at positions below 0
        self.rebase_at = max(2 * self.slots, REBASE_AT)
        self._config = config
        kind = QuantizedRing if bits else Ring
        shape = (batch, config.num_kv_heads, self.slots, config.head_dim)
        self.rings = [kind(*shape, dtype) for _ in range(config.num_layers)]
        self.running = np.zeros((batch, self.slots), dtype=bool)  # was the row running at that slot's position?
        self.lived = np.zeros(batch, dtype=int)  # positions that each row has run since it began
        self._latest_rows = np.ones(batch, dtype=bool)  # that ran them

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return [array for ring in self.rings for array in ring.arrays()]

    @property
    def batch(self) -> int:
        """The number of rows."""
        return len(self.running)

    def rewind(self, position: int = 0) -> None:
        """Start over for all rows, as if new, at a position; what the slots hold is never read again."""
        self.position, self._latest = position, 0
        self.from_before = position < 0
        self.running[:] = False
        self.lived[:] = 0

    def reset_row(self, row: int) -> None:
        """Make one row forget its past, without touching the others."""
        self.running[row] = False
        self.lived[row] = 0

    def copy_row(self, row: int, other: KVCache) -> None:
        """Replace the past of one row by what `other`, a full cache of one row, holds: the positions just passed.

        Where the caches count positions differently, the keys of `other` are rotated.
        """
        assert other.batch == 1, other.batch
        assert other.running.all(), "a cache that is not full"
        count = other.slots
        if shift := self.position - other.position:
            other.rotate_keys(shift)
        order = (other.position + np.arange(count)) % count  # slots of `other`, oldest position first
        slices = _ring_slices(self.position - count, count, self.slots)
        for ring, source in zip(self.rings, other.rings, strict=True):
            for held, new in zip(ring.arrays(), source.arrays(), strict=True):
                keys, values = new[:, :, mx.array(order)]
                for part, target in slices:
                    held[row, :, target], held[self.batch + row, :, target] = keys[:, part], values[:, part]
        self.running[row] = False
        self.lived[row] = other.lived[0]
        for _, target in slices:
            self.running[row, target] = True
        self.from_before |= self.position < count

    def keep_rows(self, rows: Sequence[int | None]) -> mx.array:
        """Hold these rows of its own, in this order, and one without a past for each None.

        One layer is copied at a time. Returns what to take of other arrays that are twice as long as the batch.
        """
        places, made = self._places(rows), self._picked(rows)
        for ring, picked in zip(self.rings, made.rings, strict=True):
            ring.hold(picked.arrays())
            mx.eval(ring.arrays())
        self.running, self.lived = made.running, made.lived
        self._latest, self._latest_rows = 0, np.ones(self.batch, dtype=bool)
        return places

    @staticmethod
    def joined(parts: Sequence[tuple[KVCache, Sequence[int]]]) -> KVCache:
        """Return a cache of its own that holds rows of others, all of one transformer: parts of (cache, its rows).

        It counts positions as most of the rows with a past do; where others count differently, keys are rotated.
        """
        counts: Counter[int] = Counter()
        for cache, rows in parts:
            counts[cache.position] += sum(cache.lived[row] > 0 for row in rows)
        position = max(counts, key=lambda position: (counts[position], position))
        caches = [cache._picked(rows) for cache, rows in parts]
        for cache in caches:
            cache._count_from(position)
        made = caches[0]
        if len(caches) > 1:
            halves = [[[mx.split(each, 2) for each in ring.arrays()] for ring in cache.rings] for cache in caches]
            for index, ring in enumerate(made.rings):
                of_parts = zip(*(half[index] for half in halves), strict=True)
                ring.hold([mx.concatenate([*(k for k, _ in each), *(v for _, v in each)]) for each in of_parts])
            made.running = np.concatenate([cache.running for cache in caches])
            made.lived = np.concatenate([cache.lived for cache in caches])
        made._latest, made._latest_rows = 0, np.ones(made.batch, dtype=bool)
        held = _slot_positions(position, made.slots)[made.running.any(axis=0)]
        made.from_before = bool((held < 0).any())
        return made

    def _picked(self, rows: Sequence[int | None]) -> KVCache:
        """Return a cache of its own that holds some rows, in their order, and a new one for each None."""
        made, places = copy(self), self._places(rows)
        made.rings = [copy(ring) for ring in self.rings]
        old = np.array([row is not None for row in rows])
        known = [row or 0 for row in rows]
        made.running, made.lived = self.running[known] & old[:, None], self.lived[known] * old
        for ring in made.rings:
            ring.hold([each[places] for each in ring.arrays()])
        return made

    def _places(self, rows: Sequence[int | None]) -> mx.array:
        """Return where keys, then values, of some rows are; those of a new row are any: they are not read."""
        known = [row or 0 for row in rows]
        return mx.array([*known, *(self.batch + row for row in known)])

    def _count_from(self, position: int) -> None:
        """Let the next position be called `position`; what is held moves along, keys are rotated."""
        shift, self.position = position - self.position, position
        if not shift or not self.lived.any():
            return
        self.rotate_keys(shift)
        self.running = np.roll(self.running, shift, axis=1)
        for ring in self.rings:
            ring.hold([mx.roll(each, shift, 2) for each in ring.arrays()])

    def begin(self, count: int, rows: np.ndarray | None = None) -> Chunk:
        """Prepare a chunk of `count` positions. rows: (B,) bool, the rows that run; all unless given."""
        if self.position >= self.rebase_at:
            self._rebase()
        rows = np.ones(self.batch, bool) if rows is None else rows
        lived = self.lived.copy()
        self.lived[rows] += count
        self._latest_rows = rows
        in_place = count <= self.step
        if in_place:
            self._mark_running(count, rows)
            filled = self._filled(self.position + count)
            running = self.running[:, :filled]
        else:
            filled = self._filled(self.position)
            running = np.concatenate([self.running[:, :filled], np.repeat(rows[:, None], count, axis=1)], axis=1)
            self._mark_running(count, rows)
        gaps = not running[rows].all()
        mask = None
        if gaps or count > 1 or self.step > 1:
            new = np.arange(self.position, self.position + count)
            held = _slot_positions(self.position + (count if in_place else 0), self.slots)[:filled]
            keys = held if in_place else np.concatenate([held, new])
            mask = self._mask(new, keys, running if gaps else None)
        return Chunk(self.position, count, filled, mask, lived)

    def extend(self, layer: int, keys_values: Sequence[mx.array], chunk: Chunk) -> tuple[Stored, Stored]:
        """Store the chunk of one layer. Returns the keys and values that its queries attend to, as masked.

        keys_values: keys (rotated) and values, (B, kv heads, chunk.count, head dim) each, or both in one array,
        (2 B, ...), the keys of all rows first.
        """
        ring = self.rings[layer]
        if chunk.count <= self.step:
            self._write(ring, keys_values, chunk)
            return ring.read(chunk.filled)
        keys, values = keys_values if len(keys_values) == 2 else mx.split(keys_values[0], 2)
        if chunk.filled:
            held_keys, held_values = ring.read_dense(chunk.filled)
            keys = mx.concatenate([held_keys, keys], axis=2)
            values = mx.concatenate([held_values, values], axis=2)
        self._write(ring, keys_values, chunk)
        return keys, values

    def end(self, chunk: Chunk) -> None:
        """Count the positions of the chunk as past."""
        self.position += chunk.count
        self._latest = chunk.count if chunk.count <= self.step else 0

    def give_back(self, count: int) -> None:
        """Make the last `count` positions of the latest chunk, one of at most `step`, as if they had not been.

        Only the counter goes back, to P say. The slot of a position p that is given back, P <= p < P + count,
        keeps what was written, and what it held before, position p - slots, is lost. Neither matters: until p
        comes again and overwrites it, masks take what the slot holds for position p - slots, and any query q >= P
        comes at least P - (P + count - 1 - slots) = context + step - count >= context positions later: that is
        out of its window.
        """
        assert 0 <= count <= self._latest, (count, self._latest)
        self._latest -= count
        self.position -= count
        self.lived[self._latest_rows] -= count

    def rotate_keys(self, shift: int) -> None:
        """Rotate all keys as if they stood `shift` positions later."""
        if not self._config.rotates:
            return
        table = angles(self._config, [shift])
        for ring in self.rings:
            for start in range(0, self.slots, ROTATED_AT_ONCE):
                part = slice(start, min(start + ROTATED_AT_ONCE, self.slots))
                keys = ring.keys(part)
                keys = rotate(keys.astype(mx.float32), table, self._config).astype(keys.dtype)
                mx.eval(keys)  # nothing else holds the ring any more: it is written in place
                ring.write(slice(0, len(keys)), part, keys)
                mx.eval(ring.arrays())  # one part at a time: the copies do not add up

    def _filled(self, end: int) -> int:
        """Return how many slots are to be read once positions up to `end` were written."""
        return self.slots if self.from_before else min(end, self.slots)

    def _mask(self, new: np.ndarray, keys: np.ndarray, running: np.ndarray | None) -> mx.array:
        """new, keys: positions of queries and keys. running: (B, keys) bool, for which rows each key counts."""
        age = new[:, None] - keys[None, :]  # (count, keys)
        allowed = ((age >= 0) & (age < self.context))[None]
        if running is not None:
            # A row always sees itself: a row that is not running would otherwise divide zero by zero.
            allowed = (allowed & running[:, None, :]) | (age == 0)[None]
        return mx.array(cast(Any, allowed[:, None]))  # its stubs do not know numpy

    def _mark_running(self, count: int, rows: np.ndarray) -> None:
        for _, target in _ring_slices(self.position, count, self.slots):
            self.running[:, target] = rows[:, None]

    def _write(self, ring: Ring | QuantizedRing, keys_values: Sequence[mx.array], chunk: Chunk) -> None:
        first = 0
        for part in keys_values:
            rows = slice(first, first + part.shape[0])
            for source, target in _ring_slices(chunk.position, chunk.count, self.slots):
                ring.write(rows, target, part if chunk.count == 1 else part[:, :, source])
            first = rows.stop

    def _rebase(self) -> None:
        """Count positions from the first one held again: only their differences matter.

        Rotation angles are float32, which knows position 1,000,000 to 1/16 of a radian only. The counter
        goes back by whole rings, so slots keep their meaning, and the stored keys are rotated back by as much.
        """
        shift = (self.position // self.slots - 1) * self.slots
        self.position -= shift
        self.rotate_keys(-shift)


def _slot_positions(end: int, slots: int) -> np.ndarray:
    """Return the position that each slot holds once all up to end-1 were written; below 0 usually nothing."""
    last = end - 1
    return last - (last - np.arange(slots)) % slots


def _ring_slices(start: int, count: int, slots: int) -> list[tuple[slice, slice]]:
    """Return (source, target) slices that write positions start..start+count-1 into a ring, the newest `slots`."""
    skip = max(0, count - slots)
    first = (start + skip) % slots
    head = min(count - skip, slots - first)
    slices = [(slice(skip, skip + head), slice(first, first + head))]
    if skip + head < count:
        slices.append((slice(skip + head, count), slice(0, count - skip - head)))
    return slices


def attend(queries: mx.array, keys: Stored, values: Stored, mask: mx.array | None) -> mx.array:
    """Return what queries (B, H, T, D) attend to, (B, H, T, D).

    keys, values: (B, Hkv, n, D), as `KVCache.extend` returns them. mask: (1 | B, 1, T, n) or None, as in `Chunk`.
    """
    if isinstance(keys, Quantized):
        assert isinstance(values, Quantized)
        return _attend_quantized(queries, keys, values, mask)
    assert not isinstance(values, Quantized)
    if keys.shape[2] == 1 and mask is None and queries.shape[1] == keys.shape[1]:
        return values  # whatever its score, the only key gets all the weight
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=queries.shape[-1] ** -0.5, mask=mask)


def _attend_quantized(queries: mx.array, keys: Quantized, values: Quantized, mask: mx.array | None) -> mx.array:
    B, H, T, D = queries.shape
    dtype = queries.dtype
    if mx.default_device() == mx.cpu:  # where MLX adds up a quantized product in the type of its first factor
        queries = queries.astype(mx.float32)
    Hkv = keys.weight.shape[1]
    group = D // keys.scales.shape[-1]
    # Query heads that share a key head become more queries of that head.
    queries = (queries * D**-0.5).reshape(B, Hkv, H // Hkv * T, D)
    scores = mx.quantized_matmul(queries, *keys, transpose=True, group_size=group, bits=BITS)
    scores = scores.reshape(B, Hkv, H // Hkv, T, -1)
    if mask is not None:
        scores = mx.where(mask[:, :, None], scores, mx.finfo(scores.dtype).min)
    weights = mx.softmax(scores, axis=-1, precise=True).reshape(B, Hkv, H // Hkv * T, -1)
    out = mx.quantized_matmul(weights, *values, transpose=False, group_size=group, bits=BITS)
    return out.reshape(B, H, T, D).astype(dtype)
