"""Cases of whole stacks: the temporal transformer, the depth transformer, the codec's; plain, then compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.doctor.check import closed_form
from moshi_mlx.doctor.check.comparison import NAMES, ROUNDED, Case, Noise, exact, numbers
from moshi_mlx.doctor.check.layers import Made
from moshi_mlx.doctor.check.shapes import Shapes
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import DepthTransformer
from moshi_mlx.models.transformer import Transformer

STEPS = 4
DEEP = 2 * ROUNDED
"""Of stacks in bfloat16: every layer rounds what it adds."""


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them."""
    noise = Noise(3)
    mimi = replace(shapes.mimi.transformer, num_layers=2)
    stacks = [
        ("temporal transformer", shapes.temporal, mx.bfloat16, 1),
        ("depth transformer's stack", shapes.depth.transformer, mx.bfloat16, 1),
        ("codec's transformer", mimi, mx.float32, 2),
    ]
    for name, config, dtype, step in stacks:
        detail = f"{NAMES[dtype]}, {config.num_layers} layers of {config.dim}, {STEPS} steps of {step}"
        close = exact() * 5 if dtype == mx.float32 else DEEP
        both = _Stack(config, dtype, step, noise)
        yield Case(name, detail + ", plain", close, both.against_closed_form)
        yield Case(f"compiled {name}", detail + ", against the same not compiled", close, both.against_plain)
    detail = f"f32, 2 steps, {shapes.depth.transformer.num_layers} layers of {shapes.depth.transformer.dim}"
    yield Case("depth transformer", detail, 5 * exact(), partial(_depth, shapes, noise))


class _Stack:
    """A stack with random weights, made when it is first needed and given up after its last case."""

    def __init__(self, config: TransformerConfig, dtype: mx.Dtype, step: int, noise: Noise) -> None:
        self._config, self._dtype, self._step, self._noise = config, dtype, step, noise
        self._made: tuple[Transformer, mx.array] | None = None

    def against_closed_form(self) -> Made:
        stack, x = self._stack()
        with plain(stack):
            got = self._run(stack, x)
        weights = {name: numbers(array) for name, array in parameters(stack).items()}
        return got, closed_form.transformer(weights, self._config, numbers(x))

    def against_plain(self) -> Made:
        stack, x = self._stack()
        self._made = None
        got = self._run(stack, x)
        with plain(stack):
            return got, self._run(stack, x)

    def _stack(self) -> tuple[Transformer, mx.array]:
        if self._made is None:
            stack = Transformer(self._config)
            fill(stack, self._dtype, self._noise)
            x = mx.array(self._noise.normal(1, STEPS * self._step, self._config.dim)).astype(self._dtype)
            self._made = stack, x
        return self._made

    def _run(self, stack: Transformer, x: mx.array) -> np.ndarray:
        state = stack.new_state(1, self._step, self._dtype, context=min(64, self._config.context))
        return np.concatenate([numbers(stack(part, state)) for part in mx.split(x, STEPS, axis=1)], axis=1)


def fill(module: nn.Module, dtype: mx.Dtype, noise: Noise) -> None:
    """Give every parameter random values that keep activations their size: matrices 1 / inputs, norms near 1."""
    made = []
    for name, array in parameters(module).items():
        values = noise.normal(*array.shape)
        if array.ndim > 1:
            values *= array.shape[-1] ** -0.5
        else:
            values = 0.1 * values + (0.0 if name.endswith("bias") else 1.0)
        made.append((name, mx.array(values).astype(dtype)))
        mx.eval(made[-1][1])
    module.update(tree_unflatten(made))


@contextmanager
def plain(stack: Transformer) -> Iterator[None]:
    """Let a stack run the segments that it compiles as they are written."""
    compiled, stack._fused = stack._fused, stack._segments
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()
        stack._fused = compiled


def _depth(shapes: Shapes, noise: Noise) -> Made:
    """Teacher-forced logits of two steps at three positions."""
    config, depth = shapes.lm, shapes.depth
    network = DepthTransformer(config, depth)
    fill(network, mx.float32, noise)
    hidden = noise.normal(1, 3, config.transformer.dim)
    tokens = np.array([[[1, 0, config.text_card], [2, config.card, -1], [0, 0, 0]]], np.int32)
    got = network.logits(mx.array(hidden), mx.array(tokens))
    weights = {name: numbers(array) for name, array in parameters(network).items()}
    inputs = []
    for step in range(2):
        of = {key.removeprefix(f"slices.{step}."): array for key, array in weights.items()}
        ids = tokens[0, step]
        embedded = np.where(ids[:, None] >= 0, of["emb.weight"][ids], 0)
        inputs.append(hidden[0] @ of["linear_in.weight"].T + embedded)
    first = _stack_of(weights, 0, depth.transformer, np.stack(inputs[:1], 1))
    # The second step has weights of its own, but attends to the keys and values of the first.
    both = _two_steps(weights, depth.transformer, inputs)
    outs = [first[:, 0], both]
    heads = [weights[f"slices.{step}.linear_out.weight"] for step in range(2)]
    right = [out @ head.T for out, head in zip(outs, heads, strict=True)]
    return got, np.stack(right)[None]


def _stack_of(weights: dict[str, np.ndarray], step: int, config: TransformerConfig, x: np.ndarray) -> np.ndarray:
    prefix = f"slices.{step}.transformer."
    own = {key.removeprefix(prefix): array for key, array in weights.items() if key.startswith(prefix)}
    return closed_form.transformer(own, config, x)


def _two_steps(weights: dict[str, np.ndarray], config: TransformerConfig, x: list[np.ndarray]) -> np.ndarray:
    """Return the second step's output, (n, dim): both run side by side, layer by layer. x: two of (n, dim)."""
    H, D = config.num_heads, config.head_dim
    for index in range(config.num_layers):
        projected, of = [], []
        for step in range(2):
            prefix = f"slices.{step}.transformer.layers.{index}."
            of.append({key.removeprefix(prefix): one for key, one in weights.items() if key.startswith(prefix)})
            normed = closed_form.rms_norm(x[step], of[step]["norm1.weight"])
            projected.append((normed @ of[step]["self_attn.in_proj.weight"].T).reshape(-1, 3, H, 1, D))
        for step in range(2):
            queries = projected[step][:, 0]
            keys, values = (np.concatenate([one[:, part] for one in projected[: step + 1]], 2) for part in (1, 2))
            attended = closed_form.attend(queries, keys, values).reshape(len(queries), -1)
            x[step] = x[step] + attended @ of[step]["self_attn.out_proj.weight"].T
            hidden = closed_form.rms_norm(x[step], of[step]["norm2.weight"])
            gate, value = np.split(hidden @ of[step]["gating.linear_in.weight"].T, 2, -1)
            x[step] = x[step] + (closed_form.silu(gate) * value) @ of[step]["gating.linear_out.weight"].T
    return x[1]
