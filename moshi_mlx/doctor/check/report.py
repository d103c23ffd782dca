"""What a check has found: lines for people, JSON for an issue. No MLX: the check runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from moshi_mlx.doctor.probe import ending
from moshi_mlx.doctor.report import Finding

TESTED = "0.32.4"
"""The version of MLX that the tests of this package ran with."""

SECONDS = {"full": 60.0, "quick": 10.0}
"""After which a check leaves out what it has not reached."""

HANGS = 3
"""After so many times that, a check is taken to hang."""

_CODEC = ("convolution", "transposed convolution", "residual block", "downsampling", "upsampling", "codebook")
_CODEC += ("ELU", "GELU", "layer norm", "codec's window", "codec's transformer", "compiled codec's transformer")
_INSTEAD = {
    **dict.fromkeys((*_CODEC, "Nano's codes"), "take --codec rust, which computes the codec without MLX"),
    "quantized matrix product": "take a model in bf16",
    **dict.fromkeys(("int8 attention", "int8 window"), "leave --kv-bits out"),
}


@dataclass(frozen=True)
class CheckReport:
    """outcomes: a mapping a case, see `comparison.Outcome`. left_out: operations that there was no time for.

    died: how the process ended before its end, "" if it did not.
    """

    kind: str
    mlx: str | None
    device: str | None
    outcomes: Sequence[Mapping[str, Any]]
    left_out: Sequence[str] = field(default=())
    died: str = ""

    @property
    def wrong(self) -> list[Mapping[str, Any]]:
        """The cases that are wrong, the simplest operation first: operations came in that order at first."""
        order = [*dict.fromkeys(one["operation"] for one in self.outcomes)]
        wrong = [one for one in self.outcomes if one["status"] == "wrong"]
        return sorted(wrong, key=lambda one: order.index(one["operation"]))

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not self.died

    @property
    def problem(self) -> str:
        """The first thing that is wrong and what to do, in one line; "" if nothing is."""
        if self.ok:
            return ""
        where = f"MLX {self.mlx or '?'} on {self.device or 'this machine'}"
        if not self.wrong:
            return f"{where}: the check did not end, {self.died}; {self._remedy('')}"
        first = self.wrong[0]
        return (
            f"{where} computes wrongly: {first['operation']} ({_off(first)}); {self._remedy(first['operation'])}"
        )

    def findings(self) -> list[Finding]:
        """A line for each operation, and one for what it comes to."""
        title, found = f"Check ({self.device or 'no device'})", []
        for operation in dict.fromkeys(one["operation"] for one in self.outcomes):
            found += self._about(operation, title)
        if self.left_out:
            names, count = ", ".join(dict.fromkeys(self.left_out)), len(self.left_out)
            found.append(Finding("warn", title, "left out", f"{count} cases for want of time: {names}"))
        if self.problem:
            found.append(Finding("bad", title, "wrong", self.problem))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {"ok": self.ok, "problem": self.problem or None, **asdict(self)}

    def _about(self, operation: str, title: str) -> list[Finding]:
        own = [one for one in self.outcomes if one["operation"] == operation]
        wrong = [one for one in own if one["status"] == "wrong"]
        known = [one for one in own if one["status"] == "known"]
        found = []
        if wrong:
            more = f", and {len(wrong) - 1} more of {len(own)}" if len(wrong) > 1 else f", 1 of {len(own)}"
            found.append(Finding("bad", title, operation, _off(wrong[0]) + more))
        elif right := [one for one in own if one["status"] == "right" and not one["known"]]:
            worst = max(right, key=lambda one: (one["error"] or 0) / (one["tolerance"] or 1))
            allowed = f"off by {worst['error']:.1e} at most, {worst['tolerance']:.0e} allowed"
            found.append(Finding("ok", title, operation, f"{len(right)} cases, {allowed}"))
        if known:
            worst = max(known, key=lambda one: one["error"] or 0)
            found.append(Finding("note", title, operation, f"{_off(worst)}: expected. {worst['known']}"))
        return found

    def _remedy(self, operation: str) -> str:
        other = "an older MLX" if self.mlx == TESTED else f"pip install mlx=={TESTED}, which was tested"
        instead = _INSTEAD.get(operation)
        report = "attach the file of `moshi-mlx doctor --report FILE` to an issue"
        return f"{f'{instead}, or ' if instead else ''}try {other}, and {report}"


def _off(one: Mapping[str, Any]) -> str:
    if one["problem"]:
        return f"{one['detail']}: {one['problem']}"
    return f"{one['detail']}: off by {one['error']:.1e} of the peak, {one['tolerance']:.0e} allowed"


def run_check(
    kind: str, advance: Callable[[int, int], None] = lambda done, of: None, python: str = sys.executable
) -> CheckReport:
    """Run it in a process of its own. kind: "full" or "quick". advance: is told of cases done, and of how many."""
    head: dict[str, Any] = {}
    outcomes: list[dict[str, Any]] = []
    left_out: list[str] = []
    at = ""
    command = [python, "-m", "moshi_mlx.doctor.check.worker", kind, str(SECONDS[kind])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        watch = threading.Timer(HANGS * SECONDS[kind], process.kill)
        watch.daemon = True
        watch.start()
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "cases" in said:
                    head = said
                elif "begin" in said:
                    at = f" at {said['begin']} ({said['detail']})"
                elif "left_out" in said:
                    left_out.append(said["left_out"])
                else:
                    outcomes.append(said)
                    advance(len(outcomes) + len(left_out), head["cases"])
            complaint = process.stderr.read()
            code = process.wait()
        finally:
            watch.cancel()
            process.kill()  # after Ctrl-C; one that has ended does not mind
    died = ""
    if code:
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        died = f"{lines[-1] if lines and code > 0 else ending(code)}{at}"
    return CheckReport(kind, head.get("mlx"), head.get("device"), outcomes, left_out, died)
