"""What a checkup comes to, in one line: to which models a person can talk here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moshi_mlx.doctor.report import FRAMES_PER_SECOND, Checkup, Finding
from moshi_mlx.planning.planner import Plan, verdict

NANO = "nano"  # part of the package; as small as it is, it runs wherever anything does


@dataclass(frozen=True)
class Measured:
    """What frames of a model took here. ms: half of them, the slower window. p99_ms: 99 of a hundred."""

    model: str
    ms: float
    p99_ms: float
    passed: bool

    @classmethod
    def of(cls, model: str, report: Mapping[str, Any]) -> Measured:
        """Take it from a report of bench."""
        worst = max((run["frame"] for run in report["runs"]), key=lambda frame: frame["p99_ms"])
        return cls(model, worst["p50_ms"], worst["p99_ms"], report["passed"])

    def finding(self) -> Finding:
        """A line of the report."""
        mark = ("ok" if verdict(self.p99_ms) == "good" else "thin") if self.passed else "no"
        text = f"{self.ms:.0f} ms a frame, 99 % within {self.p99_ms:.0f} of 80 ms"
        return Finding(mark, "Measured", self.model, f"{text}: {'keeps time' if self.passed else 'too slow'}")


def talk_to(plan: Plan, measured: Iterable[Measured], alone: bool) -> list[str]:
    """Name the models that keep a conversation going, the best first, with what is to be known of it.

    What was measured counts more than what was planned. alone: no other model is meant, not even Nano.
    """
    known = {one.model: one.passed for one in measured}
    names = [plan.recommended.model] if plan.recommended else []
    names += [entry.model for entry in plan.entries] + ([] if alone else [NANO])
    found = []
    for name in dict.fromkeys(names):
        entries = [entry for entry in plan.entries if entry.model == name]
        possible = [entry for entry in entries if entry.possible]
        if not known.get(name, bool(possible) or name == NANO):
            continue
        full = max((entry.context for entry in entries), default=0)
        reach = max((entry.context for entry in possible), default=full)
        if name in known or reach == full:
            unknown = name not in known and any(entry.verdict == "unknown" for entry in possible)
            found.append(f"{name} (if it is fast enough: --measure)" if unknown else name)
        else:
            found.append(f"{name} (for {reach / FRAMES_PER_SECOND:.0f} s)")
    return found


def verdict_line(checkup: Checkup, names: Sequence[str], found: Sequence[Finding], model: str | None) -> str:
    """Say the most important thing. names: of the models to talk to. model: the one that was asked about."""
    bad = next((finding.text for finding in found if finding.mark == "bad"), "")
    if bad or not names:
        what = f"You cannot talk to {model} here" if model else "Nothing runs here yet"
        return f"{what}: {bad}" if bad else what
    devices = checkup.audio.found.get("devices", [])
    deaf = not any(one["inputs"] for one in devices) or not any(one["outputs"] for one in devices)
    where = "No microphone and speaker here, but in a browser or with recordings y" if deaf else "Y"
    return f"{where}ou can talk to: {', '.join(names)}"
