"""How much of the machine other programs took while something was measured: such a measurement is taken again."""

import contextlib
import os
import time
from pathlib import Path

PROC = Path("/proc")


class Others:
    """Counts from its making on. Linux only; elsewhere nobody else is ever seen.

    What belongs to our process group, workers of ours included, is not others.
    """

    def __init__(self) -> None:
        self._total, self._busy, self._own = _ticks()

    def share(self) -> float:
        """Processor time of other programs, as a share of all cores."""
        total, busy, own = _ticks()
        passed = total - self._total
        return max(0.0, (busy - self._busy - own + self._own) / passed) if passed else 0.0


def wait_until_quiet(share: float, seconds: float = 0.15) -> None:
    """Return when other programs have taken no more than this share of the machine for some time."""
    while True:
        others = Others()
        time.sleep(seconds)
        if others.share() <= share:
            return


def _ticks() -> tuple[int, int, int]:
    """Clock ticks of all cores since the machine started: all, those not idle, those of our process group."""
    if not (PROC / "stat").exists():
        return 0, 0, 0
    user, nice, system, idle, waiting, *rest = map(int, (PROC / "stat").read_text().splitlines()[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    own = 0
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # from the third field of proc(5) on
            if int(fields[2]) == os.getpgrp():
                own += int(fields[11]) + int(fields[12])
    return busy + idle + waiting, busy, own
