"""What `moshi-mlx finetune` says while it teaches: to a person, and to a program."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moshi_mlx.cli.words import say, tell

if TYPE_CHECKING:
    from moshi_mlx.cli.words import JsonLines
    from moshi_mlx.finetune.batches import Data
    from moshi_mlx.finetune.estimate import Estimate
    from moshi_mlx.finetune.report import Report, Sample
    from moshi_mlx.finetune.settings import Settings

BETWEEN = 5.0  # seconds between two lines of progress


class TrainingTalk:
    """What a person and a program are told. events: where programs read, None for people alone.

    silent: whether nobody is told anything, not even of what is not as they may think.
    """

    def __init__(self, events: JsonLines | None, quiet: bool, silent: bool = False) -> None:
        self._events, self._quiet, self._silent = None if silent else events, quiet or silent, silent
        self._last = 0.0

    @property
    def bar(self) -> bool | None:
        """Whether bars are drawn, as `progress.Progress`."""
        return False if self._quiet else None

    def note(self, text: str) -> None:
        """Say what is not as the person may think, however quiet it should be."""
        if self._silent:
            return
        tell(text, self._events)

    def say(self, text: str) -> None:
        """Tell a person."""
        say(text, self._quiet)

    def event(self, kind: str, **values: object) -> None:
        """Tell a program."""
        if self._events:
            self._events.emit(kind, **values)

    def answer(self, sample: Sample, steps: int) -> None:
        """Tell what the model answered."""
        self.event(sample.kind, **{name: value for name, value in sample.as_dict().items() if name != "event"})
        self.say(f"answer {sample.step}/{steps}, {sample.file}: {sample.text or '(not a word)'}")

    def report(self, report: Report, steps: int) -> None:
        """Tell of a step, or of a test; people every few seconds."""
        self.event(report.kind, **{name: value for name, value in report.as_dict().items() if name != "event"})
        now = time.monotonic()
        if report.kind == "step" and report.step not in (1, steps) and now - self._last < BETWEEN:
            return
        self._last = now
        parts = ", ".join(f"{name} {value:.3f}" for name, value in report.losses.parts.items())
        line = f"{report.kind} {report.step}/{steps}: loss {report.losses.total:.4f} ({parts})"
        if report.kind == "step":
            line += (
                f", {report.tokens_per_second:,.0f} tokens/s, {_clock(report.left)} left, "
                f"{report.memory / 1e9:.2f} GB"
            )
        self.say(line)

    def begin(self, data: Data, settings: Settings, trained: int, before: int, processes: int) -> None:
        """Tell a person what is learned from.

        trained: numbers. before: steps that were taken already. processes: that train together.
        """
        count, after = sum(map(len, data.sources)), f"; going on after step {before}" if before else ""
        old = sum(map(len, data.replay.sources)) if data.replay else 0
        mixed = f", {old} to replay ({data.share:.0%})" if data.replay else ""
        tests = len(data.tests) + (len(data.replay.tests) if data.replay else 0)
        self.say(
            f"{count} windows of {settings.seconds:g} s to learn from{mixed}, {tests} to test with; "
            f"{trained:,} numbers are trained{f' by {processes} processes' if processes > 1 else ''}{after}"
        )

    def need(self, need: Estimate, settings: Settings) -> None:
        """Tell what a training would take."""
        from moshi_mlx.finetune.estimate import step_seconds

        seconds = step_seconds(need)
        self.event("estimate", **need.as_dict(), step_seconds=seconds, steps=settings.steps)
        rows = [
            ("model", need.weights),
            (f"optimizer ({need.trained:,} numbers are trained)", need.optimizer),
            ("windows in memory", need.activations),
            ("in all", need.memory),
        ]
        for name, size in rows:
            self.say(f"{name}: {size / 1e9:.2f} GB")
        self.say(f"about {seconds:.2g} s a step, {_clock(seconds * settings.steps)} for {settings.steps} steps")


def _clock(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"
