"""The bars a change must not fall below: `make bench` and the tests fail when one is missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """A figure and its bar: the most it may be or the least it must be; `stretch` is what we would like."""

    name: str
    key: str
    most: float | None = None
    least: float | None = None
    stretch: float | None = None

    def holds(self, value: float) -> bool:
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)

    @property
    def bar(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:.3g}"


COUNT_GATES = (
    Gate("kernels per frame", "kernels", most=900, stretch=850),
    Gate("primitives per frame", "primitives", most=1450, stretch=1400),
    Gate("kernels per frame without our own", "plain_kernels", most=1005, stretch=950),
    Gate("primitives per frame without our own", "plain_primitives", most=1600, stretch=1550),
    Gate("host syncs per frame", "syncs", most=1, stretch=1),
    Gate("traces after warm-up", "traces", most=0, stretch=0),
    # What MLX holds moves by kilobytes, as it reuses buffers of slightly other sizes; an array a frame is more.
    Gate("bytes held more after half of the frames", "growth", most=16_384, stretch=0),
)
"""At Moshi 7B's shape, q4 with quantized embeddings, one conversation."""

SPEED_GATES = (
    Gate("speed against moshi_mlx 0.3.0, 64 wide, dense f32", "dense", least=2.2, stretch=2.8),
    Gate("speed against moshi_mlx 0.3.0, 128 wide, q4", "q4", least=1.6, stretch=2.0),
    Gate("host part of its frame over ours, graph of a GPU", "host", least=3, stretch=4),
)
"""All layers and streams of Moshi 7B, on the CPU with a fast BLAS, alternating in one run."""

LIVE_GATES = (Gate("first live frame over the median", "first_frame", most=1.5),)
"""moshi-tiny, q4, after the warm-up that every conversation has; the median of several conversations."""

BATCH_GATES = (Gate("bytes read by 4 conversations over those of 1, window empty", "batch_bytes", most=1.5),)
"""At Moshi 7B's shape, q4: where a step is bound by bandwidth, its time follows the bytes."""

MIMI_GATES = (
    Gate("Mimi decode against moshi_mlx 0.3.0's in MLX", "decode_peer", least=4, stretch=8),
    Gate("Mimi encode against moshi_mlx 0.3.0's in MLX", "encode_peer", least=1, stretch=2),
    Gate("Mimi decode against rustymimi", "decode_rust", least=1 / 1.5, stretch=1),
    Gate("Mimi encode against rustymimi", "encode_rust", least=1 / 1.5, stretch=1),
)
"""In MLX on the CPU with a fast BLAS, one thread."""


SEVERAL_GATES = (
    Gate("frame of 16 people, Batch.step, against 627c479", "step_16", least=2.5, stretch=3.5),
    Gate("frame of 4 people, Batch.step, against 627c479", "step_4", least=1.6),
    Gate("frame of 1, loop over a recording, against 627c479", "loop_1", least=1.5),
    Gate("frame of 32 people, loop, over 16 people's at 627c479", "loop_32", most=0.69),
    Gate("frame of 16 people without OpenBLAS against 627c479", "plain_16", least=1.3),
    Gate("Mimi's published shape: 4 rows against 4 streams", "mimi_4", least=2.0),
)
"""Nano with its codec in MLX, on the CPU with a fast BLAS, alternating in one run."""


def missed(figures: Mapping[str, Any], gates: Sequence[Gate]) -> list[str]:
    """One line per gate that does not hold."""
    return [
        f"{gate.name}: {figures[gate.key]}, the bar is {gate.bar}"
        for gate in gates
        if not gate.holds(figures[gate.key])
    ]
