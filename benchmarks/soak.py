"""An hour of conversation: whether memory and the time of a frame stay what they were.

    python benchmarks/soak.py [--minutes 60] [--real-time] [--model nano|tiny] [--refresh 20] [--out FILE]

Minutes of audio: as fast as the model goes, or in real time between the microphone and the speaker of a sound card
made of software (Linux with PulseAudio, scripts/system_packages.sh). The user asks the questions of the demo over
and over. Every minute of audio memory and times are taken down. The report is written every minute, so that a run
may be ended at any time. Model "tiny" is made on the spot, of random weights.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.frames import FRAME_RATE, FRAME_SAMPLES, split_frames
from moshi_mlx.runtime.moshi import load
from moshi_mlx.runtime.reply import Reply

MINUTE = round(60 * FRAME_RATE)  # frames
SETTLED = 2  # minutes after which memory should stay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--real-time", action="store_true")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--refresh", type=float, help="refresh at pauses, keeping so many seconds")
    parser.add_argument("--out", type=Path, default=Path(".bench/soak.json"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        audio = stack.enter_context(RealTime()) if options.real_time else Fast()
        name = options.model
        if name == "tiny":
            name = str(write_random_checkpoint(Path(stack.enter_context(TemporaryDirectory()), "tiny")))
        moshi = load(name)
        moshi.warm_up()
        session = stack.enter_context(moshi.session(seed=1))
        trimmer = ContextTrimmer(session, options.refresh or 20, automatic=options.refresh is not None)
        audio.open()
        log = Log(options, audio)
        frames = options.minutes * MINUTE
        conversation = Conversation(session, audio, [log], frames=frames, trimmer=trimmer)
        log.stats = conversation.stats
        conversation.run()
        log.report["refresh"] = {"frames": trimmer.kept, "ms": timed(session.trim)}
        log.write_report()
    print(table(log.report))


class Fast:
    """The user's frames as fast as they are taken, and nobody who listens."""

    muted = False

    def open(self) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from cycle(list(split_frames(read_audio(RECORDING).pcm)))

    def write(self, reply: Reply) -> None:
        pass

    def close(self) -> None:
        pass

    def figures(self) -> dict[str, Any]:
        return {}


class RealTime:
    """Microphone and speaker of a software sound card, and somebody who speaks into the one."""

    muted = False

    def __enter__(self):
        from live_audio import software_card

        from tests.sound_card import missing

        if reason := missing():
            sys.exit(f"error: {reason}")
        self._stack = ExitStack()
        self._card = self._stack.enter_context(software_card())
        self._most_lag = 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def open(self) -> None:
        from moshi_mlx.audio.duplex import Duplex
        from moshi_mlx.audio.echo.control import EchoControl

        self._duplex = Duplex("virtmic", "virtspk", EchoControl())
        self._stack.callback(self._duplex.close)

    def __iter__(self) -> Iterator[np.ndarray]:
        recording = read_audio(RECORDING).pcm
        frames = iter(self._duplex)
        while True:
            self._card.speak(recording)
            yield from islice(frames, len(recording) // FRAME_SAMPLES)

    def write(self, reply: Reply) -> None:
        self._duplex.write(reply)
        self._most_lag = max(self._most_lag, self._duplex.status().lag)

    def close(self) -> None:
        self._duplex.close()

    def figures(self) -> dict[str, Any]:
        status, most, self._most_lag = self._duplex.status(), self._most_lag, 0.0
        return {
            "dropped": status.dropped,
            "underruns": status.underruns,
            "xruns": status.xruns,
            "lag_max_ms": round(1000 * most),
        }


class Log:
    """A sink that takes down figures every minute of audio."""

    def __init__(self, options: argparse.Namespace, audio: Any) -> None:
        self.report: dict[str, Any] = {
            "scene": scene(),
            "model": options.model,
            "real_time": options.real_time,
            "minutes": [],
        }
        self.stats: Any = None
        self._audio, self._out = audio, options.out
        self._frames, self._since = 0, time.perf_counter()

    def write(self, reply: Reply) -> None:
        self._frames += 1
        if self._frames % MINUTE:
            return
        now = time.perf_counter()
        row = {
            "minute": self._frames // MINUTE,
            "wall_s": round(now - self._since, 1),
            "resident_MB": resident(),
            "mlx_active_MB": round(mx.get_active_memory() / 1e6, 1),
            "mlx_cache_MB": round(mx.get_cache_memory() / 1e6, 1),
            **{
                f"{name}_p50_ms": round(1000 * float(np.median(stage.recent[-MINUTE:])), 2)
                for name, stage in self.stats.stages.items()
            },
            **self._audio.figures(),
        }
        self._since = now
        self.report["minutes"].append(row)
        self.write_report()
        print(" ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)

    def write_report(self) -> None:
        self._out.write_text(json.dumps(self.report, indent=1))


def resident() -> float:
    """MB of this process and its children, but for PulseAudio's and the like."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,rss=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    mine = [row for row in rows if str(os.getpid()) in row[:2] and "python" in row[3]]
    return round(sum(int(row[2]) for row in mine) / 1024, 1)


def timed(call: Callable[[], None]) -> float:
    """Milliseconds, the median of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(times)), 1)


def table(report: dict[str, Any]) -> str:
    """The rows of RESULTS.md."""
    rows = report["minutes"]
    early, late = rows[min(SETTLED, len(rows)) - 1], rows[-1]
    kind = "real time" if report["real_time"] else "as fast as it goes"
    wall = sum(row["wall_s"] for row in rows)
    lines = [
        f"commit {report['scene']['commit']}, {report['model']}: {late['minute']} minutes of audio in"
        f" {wall / 60:.1f} minutes, {kind}",
        "",
        f"| | minute {early['minute']} | minute {late['minute']} |",
        "|---|---|---|",
    ]
    for key in late:
        if key not in ("minute", "wall_s"):
            lines.append(f"| {key.replace('_', ' ')} | {early[key]} | {late[key]} |")
    if refresh := report.get("refresh"):
        lines.append(f"| a refresh with {refresh['frames']} frames, ms | | {refresh['ms']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
