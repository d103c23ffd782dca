"""A model that learns: one step at a time, compiled once.

Not here: where windows come from (`batches`), what is kept on disk and when (`run`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.finetune.lanes import lanes, together
from moshi_mlx.finetune.loss import Batch, losses, parts_of
from moshi_mlx.finetune.optimizer import adamw, one_cycle, scalars
from moshi_mlx.finetune.parameters import Trained
from moshi_mlx.finetune.processes import Processes
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.values import sum_of_squares

Values = dict[str, mx.array]

_TURNS = 8  # in which parameters are moved: fewer need more memory


@dataclass(frozen=True)
class Losses:
    """What a batch gave. total: the loss that is trained; parts: of each of `loss.parts_of`, nats a prediction."""

    total: float
    parts: Mapping[str, float]
    norm: float = 0.0  # of all gradients, before they are clipped

    @property
    def finite(self) -> bool:
        """Whether all of it are numbers."""
        return bool(np.isfinite([self.total, self.norm]).all())


class Trainer:
    """A model, what of it is trained, and the optimizer's state.

    step: how many were taken.
    processes: that train it together.
    compiled: whether steps are compiled; unless given where there is a GPU. A CPU takes many seconds for it, and
    its steps are no faster then.
    """

    def __init__(
        self,
        lm: Lm,
        trained: Trained,
        settings: Settings,
        compiled: bool | None = None,
        processes: Processes | None = None,
    ) -> None:
        self._processes = processes or Processes()
        self._processes.check(settings)
        if lm.config.transformer.cross_attention:
            raise ConfigError("a model with cross attention, such as a text-to-speech one, cannot be trained here")
        mx.eval(lm.parameters())
        self.lm, self.settings = lm, settings
        self.step = 0
        self.traces = 0  # of the step: one if it is compiled, unless windows change their shape
        self.values: Values = dict(trained.start)
        self.trained = replace(trained, start={})  # or where training began would stay in memory
        self.means: Values = {name: mx.zeros_like(value) for name, value in self.values.items()}
        self.squares: Values = {name: mx.zeros_like(value) for name, value in self.values.items()}
        if compiled is None:
            compiled = mx.default_device() == mx.gpu
        compile_: Callable[[Any], Any] = mx.compile if compiled else _as_it_is
        self._lanes = 1 if compiled else lanes()
        self._gradients = compile_(self._trace_gradients)
        self._squares = compile_(_sum_of_squares)
        self._update = compile_(self._trace_update)
        self._forward = compile_(self._trace_forward)

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(array.size for array in self.values.values())

    def learn(self, batch: Batch) -> Losses:
        """Take one step. A loss that is no number leaves everything as it was: see `Losses.finite`."""
        settings, sums = self.settings, None
        batch = self._processes.share(batch)
        for part in _split(batch, settings.rows or settings.batch):
            mx.eval(self.values, self.means, self.squares)
            for found in together(self._compute, _split(part, -(-len(part.tokens) // self._lanes))):
                sums = found if sums is None else tree_map(mx.add, sums, found)
            mx.eval(sums)  # rows at once are all that is in memory
        assert sums is not None, "a batch has windows"
        total, parts, gradients = self._processes.sum(sums)
        del sums
        norm = self._norm(gradients)
        found = self._as_losses(total, parts, norm)
        if found.finite:
            self._move(gradients, norm)
            self.step += 1
        return found

    def _compute(self, part: Batch) -> tuple[mx.array, mx.array, Values]:
        return self._gradients(self.values, part.arrays())

    def _norm(self, gradients: Values) -> mx.array:
        groups = _groups(gradients, self._lanes)
        squares = together(lambda names: self._squares([gradients[name] for name in names]), groups)
        return mx.sqrt(mx.sum(mx.stack(squares)))

    def _move(self, gradients: Values, norm: mx.array) -> None:
        """Take a step, some parameters after the others, and let go of what each was; `gradients` are used up."""
        settings = self.settings
        # As `clip_grad_norm` of MLX and PyTorch.
        clipping = mx.minimum(settings.clip / (norm + 1e-6), 1.0)
        pace = one_cycle(self.step, settings.steps, settings.lr, settings.warm_up)
        numbers = mx.concatenate([scalars(pace, self.step), clipping[None]])
        mx.eval(numbers)
        held = (self.values, self.means, self.squares)

        def move(names: Sequence[str]) -> tuple[Values, Values, Values]:
            values, means, squares = ({name: each[name] for name in names} for each in held)
            given = {name: gradients.pop(name) for name in names}
            return self._update(values, given, means, squares, numbers)

        groups = _groups(self.values, self._lanes * _TURNS)
        for first in range(0, len(groups), self._lanes):
            for moved in together(move, groups[first : first + self._lanes]):
                for each, new in zip(held, moved, strict=True):
                    each.update(new)
            mx.eval(held)

    def evaluate(self, batch: Batch) -> Losses:
        """Return the losses of a batch without learning from it."""
        return self._as_losses(*self._forward(self.values, batch.arrays()))

    def settle(self) -> Lm:
        """Return the model as it is trained so far, to be used."""
        self.trained.put(self.lm, self.values)
        mx.eval(self.lm.parameters())
        return self.lm

    def state(self) -> Values:
        """Return everything that changes from step to step, ready to be saved."""
        groups = {"value": self.values, "mean": self.means, "square": self.squares}
        return {f"{group}/{name}": array for group, held in groups.items() for name, array in held.items()}

    def resume(self, state: Mapping[str, mx.array], step: int, where: str) -> None:
        """Go on from what `state` gave after `step` steps. Raises CheckpointError if it is of another model."""
        shapes = {name: array.shape for name, array in self.state().items()}
        if {name: array.shape for name, array in state.items()} != shapes:
            raise CheckpointError(f"{where} is of another model or adapter; choose another place, or start anew")
        for group, held in (("value", self.values), ("mean", self.means), ("square", self.squares)):
            held.update({name: state[f"{group}/{name}"] for name in held})
        self.step = step

    def _as_losses(self, total: mx.array, parts: mx.array, norm: mx.array | None = None) -> Losses:
        names = parts_of(self.lm.config)
        by_name: dict[str, float] = dict(zip(names, map(float, np.array(parts)), strict=True))
        return Losses(float(np.array(total)), by_name, 0.0 if norm is None else float(np.array(norm)))

    def _trace_gradients(self, values: Values, batch: Values) -> tuple[mx.array, mx.array, Values]:
        self.traces += 1

        def compute(values: Values) -> tuple[mx.array, mx.array]:
            self.trained.put(self.lm, values)
            return losses(self.lm, batch, self.settings.checkpointing)

        (total, parts), gradients = mx.value_and_grad(compute)(values)
        return total, parts, gradients

    def _trace_forward(self, values: Values, batch: Values) -> tuple[mx.array, mx.array]:
        self.trained.put(self.lm, values)
        return losses(self.lm, batch)

    def _trace_update(
        self, values: Values, gradients: Values, means: Values, squares: Values, numbers: mx.array
    ) -> tuple[Values, Values, Values]:
        pace, clipping = numbers[:-1], numbers[-1]
        decay = self.settings.weight_decay
        moved: Any = {
            name: adamw(value, clipping * gradients[name], means[name], squares[name], pace, decay)
            for name, value in values.items()
        }
        one, two, three = ({name: each[index] for name, each in moved.items()} for index in range(3))
        return one, two, three


def _sum_of_squares(arrays: Sequence[mx.array]) -> mx.array:
    return mx.sum(mx.stack([sum_of_squares(array) for array in arrays]))


def _groups(values: Values, count: int) -> list[list[str]]:
    """Part parameters into at most so many groups of about the same size."""
    groups: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for name, array in sorted(values.items(), key=lambda item: -item[1].size):
        least = sizes.index(min(sizes))
        groups[least].append(name)
        sizes[least] += array.size
    return [group for group in groups if group]


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _split(batch: Batch, rows: int) -> Sequence[Batch]:
    """Cut a batch into parts of so many windows."""
    return [batch.rows(begin, begin + rows) for begin in range(0, len(batch.tokens), rows)]
