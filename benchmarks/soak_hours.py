"""A day of frames through a server's scheduler, on a clock of its own: whether memory and a step's time stay.

    python benchmarks/soak_hours.py [--hours 24] [--company] [--piece 6] [--out FILE]

As fast as the model goes, which is small and of random weights, with our own codec. Alone: one conversation. In
company: four more come and go all the time, some begin anew, some are trimmed, some stall. Every hour of audio one
row is taken down. A run may be ended at any time, and the next one goes on with the hour after the last that FILE
has; `--piece` ends it by itself after so many hours, and the process with it. So what a later piece says of memory
begins anew, and the bar (1 % from the second hour of a piece on) is for each piece by itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import numpy as np
from soak import resident

from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from moshi_mlx.errors import MoshiError
from moshi_mlx.frames import FRAME_RATE, FRAME_SECONDS
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.runtime.moshi import load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.scheduler import QueuedSlot, Scheduler
from moshi_mlx.runtime.stages import Tick
from moshi_mlx.sampling_config import SamplingConfig

HOUR = round(3600 * FRAME_RATE)  # ticks
OTHERS = 4
MOMENT = 0.02  # seconds that pass where nothing is due
WITHIN = 0.01  # of what the second hour of a piece had
SOUNDS = (0.1 * np.random.default_rng(0).standard_normal((64, 1920))).astype(np.float32)


class Someone:
    """Who talks, as a listener and as a program that is asked again and again what it does."""

    def __init__(self, server: Hours, number: int) -> None:
        self.replies = 0
        self._server, self._stays, self._chance = server, not number, random.Random(number)
        self._joined = False

    def acts(self) -> Iterator[None]:
        """Talk; who does not stay leaves after a while and comes again."""
        server, chance = self._server, self._chance
        while True:
            self._joined = False
            slot = server.scheduler.join(self, None, SamplingConfig())
            while not self._joined:
                yield
            yield from self._talk(slot, 1e12 if self._stays else server.now + chance.uniform(5, 300))
            slot.leave()
            until = server.now + chance.uniform(0.1, 20)
            while server.now < until:
                yield

    def _talk(self, slot: QueuedSlot, until: float) -> Iterator[None]:
        server, chance, begin = self._server, self._chance, self._server.now
        slot.talking.remember(25)
        for index in range(10**9):
            while server.now < begin + index * FRAME_SECONDS:
                yield
            if server.now > until:
                return
            if not self._stays and chance.random() < 0.005:
                chance.choice([slot.reset, slot.trim])()
            if self._stays or chance.random() > 0.01:  # else the network has lost it
                slot.hear(HeardFrame(SOUNDS[index % len(SOUNDS)], server.now, False))

    def joined(self) -> None:
        self._joined = True

    def align(self) -> None: ...

    def write(self, reply: Reply) -> None:
        self.replies += 1

    def began_anew(self) -> None: ...

    def failed(self, error: MoshiError) -> None:
        raise error


class Hours:
    """A scheduler whose clock goes on when nothing is due."""

    def __init__(self, model: Path, company: bool) -> None:
        self.now = 0.0
        moshi = load(str(model), codec="mlx")
        moshi.warm_up(1 + OTHERS * company, moshi.sampling)
        self.scheduler = Scheduler(moshi.batch(1 + OTHERS * company), clock=lambda: self.now)
        self._people = [Someone(self, number) for number in range(1 + OTHERS * company)]
        self._acts = [person.acts() for person in self._people]

    def hour(self) -> dict[str, Any]:
        """Live through an hour; return its row."""
        stages, ticks, before = self.scheduler.stages, 0, [person.replies for person in self._people]
        began, spent = time.perf_counter(), time.process_time()
        while ticks < HOUR:
            for person in self._acts:
                next(person)
            item = self.scheduler.next_item()
            if item is None:
                self.now += MOMENT
                continue
            ticks += isinstance(item, Tick)
            stages.decode(stages.generate(stages.encode(item)()))()
        cpu = time.process_time() - spent
        gc.collect()
        return {
            "wall_s": round(time.perf_counter() - began, 1),
            "frames_of_who_stays": self._people[0].replies - before[0],
            "frames_of_others": sum(person.replies for person in self._people[1:]) - sum(before[1:]),
            "resident_MB": resident(),
            "mlx_active_MB": round(mx.get_active_memory() / 1e6, 3),
            "mlx_cache_MB": round(mx.get_cache_memory() / 1e6, 2),
            "python_blocks": sys.getallocatedblocks(),
            "cpu_ms_a_tick": round(1000 * cpu / HOUR, 3),
            "generate_p50_ms": round(1000 * statistics.median(self.scheduler.stats.generate.recent), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--company", action="store_true")
    parser.add_argument("--piece", type=int, default=10**9, help="hours, after which the program ends")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path(".bench") / f"soak_hours_{'company' if options.company else 'alone'}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    report = json.loads(out.read_text()) if out.exists() else {"company": options.company, "pieces": []}
    if report["company"] != options.company:
        sys.exit(f"error: {out} is of another kind; choose another file with --out")
    done = sum(len(piece["hours"]) for piece in report["pieces"])
    with TemporaryDirectory() as folder:
        server = Hours(Path(write_random_checkpoint(Path(folder, "tiny"))), options.company)
        rows: list[dict[str, Any]] = []
        report["pieces"].append({"scene": scene(), "hours": rows})
        for number in range(done + 1, min(options.hours, done + options.piece) + 1):
            rows.append({"hour": number, **server.hour()})
            out.write_text(json.dumps(report, indent=1))
            print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), file=sys.stderr, flush=True)
    print(table(report))
    if grown := [line for piece in report["pieces"] for line in growth(piece["hours"])]:
        sys.exit("\n".join(grown))


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """Say what grew in a piece from its second hour on."""
    if len(rows) < 3:
        return []
    second, last = rows[1], rows[-1]
    names = ("resident_MB", "mlx_active_MB", "python_blocks", "cpu_ms_a_tick")
    grown = {name: last[name] / second[name] - 1 for name in names}
    hours = f"from hour {second['hour']} to {last['hour']}"
    return [f"{name} grew by {share:.1%} {hours}" for name, share in grown.items() if share > WITHIN]


def table(report: dict[str, Any]) -> str:
    """The rows of RESULTS.md."""
    pieces = [piece for piece in report["pieces"] if piece["hours"]]
    names = [name for name in pieces[0]["hours"][0] if name != "hour"]
    lines = [f"| hour | {' | '.join(name.replace('_', ' ') for name in names)} |", f"|{'---|' * (len(names) + 1)}"]
    for piece in pieces:
        rows = piece["hours"]
        for row in [rows[0], *rows[1:2], *rows[-1:]] if len(rows) > 2 else rows:
            lines.append(f"| {row['hour']} | {' | '.join(str(row[name]) for name in names)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
