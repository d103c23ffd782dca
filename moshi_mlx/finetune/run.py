"""A run: windows in, steps taken, what they say, and checkpoints that a run which was ended goes on from."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, DataError, system_errors
from moshi_mlx.finetune.base import load_for_training
from moshi_mlx.finetune.batches import Data, batch_of
from moshi_mlx.finetune.codes import Window
from moshi_mlx.finetune.optimizer import one_cycle
from moshi_mlx.finetune.output import (
    CHECKPOINTS,
    PROGRESS,
    STATE,
    Shelf,
    adapter_config,
    replace_files,
    stored_type,
    write_adapter,
    write_model,
    write_state,
)
from moshi_mlx.finetune.parameters import train_adapter, train_all
from moshi_mlx.finetune.processes import Processes
from moshi_mlx.finetune.report import Report
from moshi_mlx.finetune.sample import SAMPLES, Sampler
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.trainer import Losses, Trainer
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.weights.atomic import AtomicPath


class Run:
    """One training of a model, in a folder of its own.

    folder: prepared by `open_folder`; if it holds checkpoints, the run goes on from the newest.
    advance: told of bytes of weights as they are read. sampler: answers every `settings.sample` steps.
    processes: that train together, of which only the first one touches the folder. Raises ConfigError if they
    differ in data or settings.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        folder: Path,
        settings: Settings,
        data: Data,
        advance: Callable[[int], None] = lambda count: None,
        sampler: Sampler | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.sampler, self._processes = sampler, processes or Processes()
        self.checkpoint, self.folder, self.settings, self.data = checkpoint, folder, settings, data
        self.best = math.inf  # loss of a test, with that of replayed recordings by their share
        self._shelf = Shelf(folder / CHECKPOINTS, settings.keep)
        lm = load_for_training(checkpoint, advance)
        wide = lm.activation_dtype
        trained = (
            train_all(lm)
            if settings.full
            else train_adapter(lm, settings.lora_rank, settings.lora_scaling, settings.seed)
        )
        lm.activation_dtype = wide
        self.trainer = Trainer(lm, trained, settings, processes=processes)
        self._newest_is_best = False
        self._go_on()

    def _go_on(self) -> None:
        """Take up the newest checkpoint, if there is one: in other processes, what the first one read of it."""
        first, trainer = self._processes.first, self.trainer
        if first and (newest := self._shelf.newest()):
            progress = read_json(newest / PROGRESS)
            state: Any = mx.load(str(newest / STATE))
            trainer.resume(state, int(progress["step"]), str(newest))
            self.best = math.inf if progress["best"] is None else float(progress["best"])
            self._newest_is_best = progress.get("is_best", False)
        if self._processes.size == 1:
            return
        if not self._processes.agree(_identity(self.data, self.settings)):
            raise ConfigError("the processes of this training have different data or settings; give all the same")
        step = int(np.array(self._processes.from_first({"step": mx.array(float(trainer.step))})["step"]))
        if step:
            trainer.resume(self._processes.from_first(trainer.state()), step, str(self.folder))

    @property
    def newest(self) -> int | None:
        """The step of the newest checkpoint that is on disk, None before the first."""
        place = self._shelf.newest()
        return int(place.name) if place else None

    @property
    def best_or_none(self) -> float | None:
        """The lowest loss of a test, None before the first."""
        return None if math.isinf(self.best) else self.best

    def train(self) -> Generator[Report, None, None]:
        """Take all steps that are left, and give what each gave.

        Raises DataError, with the step and its windows, for a loss that is no number.
        """
        settings, trainer = self.settings, self.trainer
        if self._processes.first and (newest := self._shelf.newest()):
            if self._newest_is_best:
                self._hand_over(newest)  # the run before may have been killed while it did
            self._shelf.tidy()  # likewise
        batches = self.data.batches(settings, trainer.lm.config, trainer.step)
        begin, first = time.monotonic(), trainer.step
        while trainer.step < settings.steps:
            batch, parts = next(batches)
            losses = trainer.learn(batch)
            if not losses.finite:
                raise DataError(
                    f"the loss is no number at step {trainer.step + 1}: {', '.join(map(str, parts))}; nothing "
                    f"of this step is kept. Start anew with a lower --lr than {settings.lr:g}, or without these"
                )
            done, seconds = trainer.step - first, time.monotonic() - begin
            report = Report(
                "step",
                trainer.step,
                losses,
                one_cycle(trainer.step - 1, settings.steps, settings.lr, settings.warm_up).rate,
                done * batch.tokens[:, :, 1:].size / seconds,
                seconds / done * (settings.steps - trainer.step),
                mx.get_peak_memory(),
            )
            yield report
            last = trainer.step == settings.steps
            if not self._processes.first:
                continue
            if self._tests and (trainer.step % settings.eval_every == 0 or last):
                found = {kind: self._test(windows) for kind, windows in self._tests.items()}
                total = self._together(found)
                improved = total < self.best
                self.best = min(self.best, total)
                self._save(improved)
                for kind, losses in found.items():
                    yield Report(kind, trainer.step, losses)
            elif trainer.step % settings.save_every == 0 or last:
                self._save(not self._tests)
            if self.sampler and settings.sample and (trainer.step % settings.sample == 0 or last):
                self.sampler.answer(trainer.settle(), trainer.step, self.folder / SAMPLES)

    @property
    def _tests(self) -> dict[str, Sequence[Window]]:
        """Windows to test with, by the kind of their report."""
        old = self.data.replay
        every = {"test": self.data.tests, "replay": old.tests if old else ()}
        return {kind: windows for kind, windows in every.items() if windows}

    def _together(self, found: Mapping[str, Losses]) -> float:
        """Return one loss of all tests, in which replayed recordings have their share."""
        if len(found) == 1:
            return next(iter(found.values())).total
        share = self.data.share
        return (1 - share) * found["test"].total + share * found["replay"].total

    def _test(self, windows: Sequence[Window]) -> Losses:
        """Return the mean losses of windows to test with."""
        settings, config = self.settings, self.trainer.lm.config
        every = [batch_of([each], settings, config) for each in windows[: settings.eval_windows]]
        found = [self.trainer.evaluate(batch) for batch in every]
        parts = {name: float(np.mean([each.parts[name] for each in found])) for name in found[0].parts}
        return Losses(float(np.mean([each.total for each in found])), parts)

    def _save(self, as_best: bool) -> None:
        """Write a numbered checkpoint and, if it is the best so far, what a person uses."""
        trainer = self.trainer
        place = self._shelf.place(trainer.step)
        with system_errors(f"cannot write {place}", CheckpointError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with AtomicPath(place, CheckpointError) as part:
                part.mkdir()
                if self.settings.full:
                    write_model(part, trainer.settle(), self.checkpoint)
                else:
                    config = adapter_config(self.checkpoint, self.settings)
                    write_adapter(part, trainer.values, config, stored_type(self.checkpoint))
                progress = {"step": trainer.step, "best": self.best_or_none, "is_best": as_best}
                write_state(part, trainer.state(), progress)
            if as_best:
                self._hand_over(place)
            self._shelf.tidy()

    def _hand_over(self, place: Path) -> None:
        """Let a checkpoint be what a person uses."""
        with system_errors(f"cannot write {self.folder}", CheckpointError):
            replace_files(place, self.folder)


def _identity(data: Data, settings: Settings) -> int:
    """Return a number that differs where windows or settings do."""
    found = zlib.crc32(repr(settings).encode())
    every = [data, data.replay] if data.replay else [data]
    for source in (source for each in every for source in each.sources):
        for window in source:
            found = zlib.crc32(window.codes.tobytes(), found)
    return found
