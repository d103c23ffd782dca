"""A live conversation on a rough day: devices go, come and stop, the clock is set, the machine sleeps.

    python benchmarks/rough.py [--minutes 60] [--every 12] [--seed 0] [--out FILE]

`chat` runs between the microphone and the speaker of a sound card made of software (scripts/system_packages.sh),
with a small model of random weights, which says something all the time. Every so many seconds one of the troubles
below is made, and ended; within 2 s from then on the conversation has to go on, with the devices that were lost.
The clock on the wall is moved for the program alone, by libfaketime (Debian's `faketime`); without that it is left
alone, which is said. Asleep, the program is stopped. Prints a table, and fails where something took longer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live_audio import software_card

sys.path.insert(0, str(Path(__file__).parents[1]))

from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from tests.sound_card import SoundCard, missing

WITHIN = 2.0  # seconds in which the conversation goes on
PATIENCE = 30.0  # seconds after which it never will
HOUR = 3600


class Chat:
    """A running conversation, and when it last said something."""

    def __init__(self, model: Path, folder: Path, clock: Path) -> None:
        words = ["chat", "--model", str(model), "--json", "--input", "virtmic", "--output", "virtspk"]
        program = [sys.executable, "-m", "moshi_mlx", *words, "--save", str(folder)]
        self.faked = faketime()
        environment = {**os.environ, "MPLBACKEND": "agg"}
        if self.faked:
            clock.write_text("+0")
            environment |= {
                "LD_PRELOAD": ":".join(filter(None, [self.faked, os.environ.get("LD_PRELOAD", "")])),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.process = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.events: list[dict[str, Any]] = []
        self.last = 0.0  # when it said something
        self.errors: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.process.stderr
        threading.Thread(target=self.errors.extend, args=(self.process.stderr,), daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == "text":
                    self.last = time.monotonic()
                self._changed.notify_all()

    def goes_on(self, since: float) -> float:
        """Wait until it says something, with all devices; return the seconds, `PATIENCE` if it never does."""
        with self._changed:
            again = self._changed.wait_for(lambda: self.last > since and not self.lost, PATIENCE)
        return time.monotonic() - since if again else PATIENCE

    @property
    def lost(self) -> int:
        """How many devices are lost."""
        kinds = [event["kind"] for event in self.events if event["event"] == "device"]
        return kinds.count("lost") - kinds.count("back")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=12, help="seconds between two troubles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if reason := missing():
        sys.exit(f"error: {reason}")
    chance = random.Random(options.seed)
    took: dict[str, list[float]] = defaultdict(list)
    with software_card() as card, tempfile.TemporaryDirectory() as folder:
        clock = Path(folder, "clock")
        model = Path(write_random_checkpoint(Path(folder, "tiny")))
        chat = Chat(model, Path(folder, "talk"), clock)
        if chat.goes_on(0.0) == PATIENCE:
            sys.exit(f"error: it says nothing: {chat.errors}")
        troubles = all_troubles(card, chat, clock)
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end and chat.process.poll() is None:
            name = chance.choice(list(troubles))
            troubles[name](chance.uniform(1.0, 4.0))
            took[name].append(chat.goes_on(time.monotonic()))
            print(f"{name}: {took[name][-1]:.2f} s", file=sys.stderr, flush=True)
            time.sleep(options.every * chance.uniform(0.5, 1.5))
        code = chat.process.poll()
        if code is None:
            chat.process.send_signal(signal.SIGINT)
            code = chat.process.wait(30)
        told = chat.events[-1]
        lines = summary(took, told, chat)
    print("\n".join(lines))
    if options.out:
        options.out.write_text(json.dumps({"took": took, "end": told}, indent=1))
    late = {name: max(times) for name, times in took.items() if max(times) > WITHIN}
    if late or code != 130 or told["event"] != "end":
        sys.exit(f"missed: {late or ''} exit code {code} {chat.errors[-3:]}")


def all_troubles(card: SoundCard, chat: Chat, clock: Path) -> dict[str, Callable[[float], None]]:
    """Each makes its trouble for so many seconds, and ends it."""

    def unplug(name: str) -> Callable[[float], None]:
        def trouble(seconds: float) -> None:
            card.unload(name)
            time.sleep(seconds)
            card.load(name)

        return trouble

    def stop(name: str) -> Callable[[float], None]:
        def trouble(seconds: float) -> None:
            card.suspend(name)
            time.sleep(seconds)
            card.suspend(name, on=False)

        return trouble

    def another_rate(seconds: float) -> None:
        card.kill()
        time.sleep(seconds)
        card.rate = {48_000: 44_100, 44_100: 16_000}.get(card.rate, 48_000)
        card.start()

    def sleep(seconds: float) -> None:
        chat.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        chat.process.send_signal(signal.SIGCONT)

    def set_clock(seconds: float) -> None:
        clock.write_text("+0" if clock.read_text() != "+0" else f"{HOUR if seconds > 2.5 else -HOUR:+d}")

    troubles: dict[str, Callable[[float], None]] = {
        "microphone goes and comes": unplug("mic"),
        "speaker goes and comes": unplug("spk"),
        "microphone stops": stop("mic"),
        "speaker stops": stop("spk"),
        "sound server ends, comes with another rate": another_rate,
        "program is stopped": sleep,
    }
    return troubles | ({"clock is moved by an hour": set_clock} if chat.faked else {})


def summary(took: dict[str, list[float]], end: dict[str, Any], chat: Chat) -> list[str]:
    lines = ["| trouble | times | goes on after, median | at most |", "|---|---|---|---|"]
    for name, times in took.items():
        middle = sorted(times)[len(times) // 2]
        lines.append(f"| {name} | {len(times)} | {middle:.2f} s | {max(times):.2f} s |")
    lost = {key: end[key] for key in ("frames", "dropped", "underruns", "xruns", "overrun") if key in end}
    lines.append(f"\ncounted at the end: {json.dumps(lost)}")
    if not chat.faked:
        lines.append("the clock was left alone: libfaketime is not installed (apt install faketime)")
    return lines


def faketime() -> str:
    """Return where libfaketime lies, "" if it is not here."""
    return next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")


if __name__ == "__main__":
    main()
