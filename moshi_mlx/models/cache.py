"""The window of past positions that a streaming transformer attends to.

Keys and values live in a ring of `context + step - 1` slots per layer, written in place; position p sits in
slot p modulo the ring's size. Up to `step` positions at once are written first and attended to where they lie
(with step 1 the ring is exactly the window and nothing is masked); longer pushes attend to the old ring and the
new positions side by side and are written afterwards. Masks come from positions alone, so how a stream is cut
into pushes cannot change its result.

Rows of a batch share the position counter, which is harmless because RoPE is relative; a position at which
a row was not running is masked for that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np

from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.ring import QuantizedRing, Ring, Stored
from moshi_mlx.models.rope import angles, turn

TURN_BACK_AT = 4096  # positions: up to here float32 angles are exact to 1/4000


@dataclass(frozen=True)
class Push:
    """What all layers share about the positions being pushed."""

    position: int  # of the first new one
    count: int
    filled: int  # slots of the ring to read
    mask: mx.array | None  # (1 | B, 1, count, keys) bool, True = attend; None = attend to everything


class KVCache:
    """Keys and values of all layers of one transformer, for all rows of a batch.

    bits: 8 keeps them in int8, which halves the bytes read and costs some kernels.
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
        self.position = 0
        self.turn_back_at = max(2 * self.slots, TURN_BACK_AT)
        self._config = config
        kind = QuantizedRing if bits else Ring
        shape = (batch, config.num_kv_heads, self.slots, config.head_dim)
        self.rings = [kind(*shape, dtype) for _ in range(config.num_layers)]
        self.running = np.zeros((batch, self.slots), dtype=bool)  # was the row running at that slot's position?

    def arrays(self) -> list[mx.array]:
        """Every array held, to be evaluated together with what a step returns."""
        return [array for ring in self.rings for array in ring.arrays()]

    def rewind(self) -> None:
        """Start over for all rows, as if new; what the slots hold is never read again."""
        self.position = 0
        self.running[:] = False

    def reset_row(self, row: int) -> None:
        """Make one row forget, without touching the others."""
        self.running[row] = False

    @property
    def batch(self) -> int:
        """How many rows there are."""
        return len(self.running)

    def copy_row(self, row: int, other: KVCache) -> None:
        """Let one row hold what the only row of another cache of this shape and position does."""
        assert (other.batch, other.slots, other.position) == (1, self.slots, self.position)
        for ring, source in zip(self.rings, other.rings, strict=True):
            for held, new in zip(ring.arrays(), source.arrays(), strict=True):
                held[row], held[self.batch + row] = new[0], new[1]
        self.running[row] = other.running[0]

    def begin(self, count: int, rows: np.ndarray | None = None) -> Push:
        """Prepare for `count` new positions; `rows` (B,) bool tells which rows run, all unless given."""
        if self.position >= self.turn_back_at:
            self._turn_back()
        start, slots = self.position, self.slots
        in_place = count <= self.step
        if in_place:
            self._mark_running(count, rows)
            filled = min(start + count, slots)
            running = self.running[:, :filled]
        else:
            filled = min(start, slots)
            new = np.repeat(
                np.ones((len(self.running), 1), bool) if rows is None else rows[:, None], count, axis=1
            )
            running = np.concatenate([self.running[:, :filled], new], axis=1)
            self._mark_running(count, rows)
        mask = None
        everyone_runs = bool(running.all() if rows is None else running[rows].all())
        if not (count == 1 and self.step == 1 and everyone_runs):
            pushed = np.arange(start, start + count)
            held = _slot_positions(start + count if in_place else start, slots)[:filled]
            held = held if in_place else np.concatenate([held, pushed])
            age = pushed[:, None] - held[None, :]  # (count, keys)
            allowed = ((age >= 0) & (age < self.context))[None]
            if not everyone_runs:
                # A row always sees itself: a row that is not running would otherwise divide zero by zero.
                allowed = (allowed & running[:, None, :]) | (age == 0)[None]
            mask = mx.array(cast(Any, allowed[:, None]))  # its stubs do not know numpy
        return Push(start, count, filled, mask)

    def extend(self, layer: int, keys_values: Sequence[mx.array], push: Push) -> tuple[Stored, Stored]:
        """Store the new positions of one layer; returns what its queries attend to, in the mask's order.

        keys_values: keys (rotated) and values, (B, kv heads, push.count, head dim) each, or both in one array,
        (2 B, ...), the keys of all rows first.
        """
        ring = self.rings[layer]
        if push.count <= self.step:
            self._write(layer, keys_values, push)
            return ring.read(push.filled)
        keys, values = keys_values if len(keys_values) == 2 else mx.split(keys_values[0], 2)
        if push.filled:
            held_keys, held_values = ring.read_dense(push.filled)
            keys = mx.concatenate([held_keys, keys], axis=2)
            values = mx.concatenate([held_values, values], axis=2)
        self._write(layer, keys_values, push)
        return keys, values

    def end(self, push: Push) -> None:
        """Count the pushed positions as past."""
        self.position += push.count

    def _turn_back(self) -> None:
        """Count positions from the first one held again: only their differences matter.

        Rotation angles are float32, which knows position 1,000,000 to 1/16 of a turn's radian only. The counter
        goes back by whole rings, so slots keep their meaning, and the stored keys are turned back by as much.
        """
        shift = (self.position // self.slots - 1) * self.slots
        self.position -= shift
        if self._config.rope == "none":
            return
        table = angles(self._config, [-shift])
        for ring in self.rings:
            keys, _ = ring.read_dense(self.slots)
            keys = turn(keys.astype(mx.float32), table, self._config).astype(keys.dtype)
            ring.write(slice(0, len(keys)), slice(0, self.slots), keys)
            mx.eval(ring.arrays())  # one layer at a time: the copies do not add up

    def _write(self, layer: int, keys_values: Sequence[mx.array], push: Push) -> None:
        first = 0
        for part in keys_values:
            rows = slice(first, first + part.shape[0])
            for source, target in _segments(push.position, push.count, self.slots):
                self.rings[layer].write(rows, target, part if push.count == 1 else part[:, :, source])
            first = rows.stop

    def _mark_running(self, count: int, rows: np.ndarray | None) -> None:
        for _, target in _segments(self.position, count, self.slots):
            self.running[:, target] = True if rows is None else rows[:, None]


def _slot_positions(end: int, slots: int) -> np.ndarray:
    """The position that each slot holds once positions 0..end-1 were written; negative = none yet."""
    last = end - 1
    return last - (last - np.arange(slots)) % slots


def _segments(start: int, count: int, slots: int) -> list[tuple[slice, slice]]:
    """(source, target) slices that write positions start..start+count-1 into the ring, newest `slots` only."""
    skip = max(0, count - slots)
    first = (start + skip) % slots
    head = min(count - skip, slots - first)
    segments = [(slice(skip, skip + head), slice(first, first + head))]
    if skip + head < count:
        segments.append((slice(skip + head, count), slice(0, count - skip - head)))
    return segments
