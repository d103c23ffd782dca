"""The live audio path on a sound card made of software: how long sound takes through it, and whether it ever gaps.

    python benchmarks/live_audio.py [--seconds 60] [--out .bench/live_audio.json]

Linux with PulseAudio (scripts/system_packages.sh). A model that repeats what it hears stands in for Moshi, so
that only the path counts: microphone, frame, echo canceller, queues, cushion, speaker. Clicks are played and heard
again for the round trip; for the gaps the model keeps a core busy through most of every frame. Times need a
machine that does nothing else.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.audio.echo.control import EchoControl
from moshi_mlx.bench.scene import scene
from moshi_mlx.conversation.latency import EchoBypass, LatencyProbe
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stats import Stats
from tests.repeating import Repeating
from tests.sound_card import SoundCard, missing

CLICKS = 40
BUSY = 0.06  # seconds of every frame's 0.08 that the model takes in the second part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(".bench/live_audio.json"))
    options = parser.parse_args()
    if reason := missing():
        sys.exit(f"error: {reason}")
    with software_card():
        report = {
            "scene": scene(),
            "round_trip": round_trip(CLICKS),
            "busy": {kind: busy(options.seconds, kind) for kind in ("python", "numpy")},
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1))
    print(table(report))


@contextmanager
def software_card() -> Iterator[SoundCard]:
    """A software sound card that PortAudio in this process sees."""
    from moshi_mlx.audio.portaudio import look_again

    with tempfile.TemporaryDirectory() as folder:
        card = SoundCard(Path(folder))
        os.environ.update(card.environment)
        try:
            card.start()
            look_again()
            yield card
        finally:
            card.close()


def round_trip(clicks: int) -> dict[str, Any]:
    """Clicks from the speaker into the microphone, through the whole loop with the echo canceller at work."""
    echo, stats = EchoBypass(EchoControl("linear")), Stats()
    duplex = Duplex("loopmic", "virtspk", echo=echo)
    probe = LatencyProbe(duplex, clicks)
    converse(Repeating(), probe, probe, stats)  # pyright: ignore[reportArgumentType]
    ms = [1000 * seconds for seconds in probe.times]
    return {
        "played": probe.played,
        "heard": len(ms),
        "median_ms": round(statistics.median(ms), 1),
        "least_ms": round(min(ms), 1),
        "most_ms": round(max(ms), 1),
        "ladder": probe.breakdown(stats, echo, 0).as_dict(),
    }


def busy(seconds: float, kind: str) -> dict[str, Any]:
    """A model that works through most of every frame, in Python (holding the interpreter) or in numpy (not)."""
    matrix = np.ones((256, 256), np.float32)

    def work() -> None:
        until = time.perf_counter() + BUSY
        while time.perf_counter() < until:
            if kind == "numpy":
                np.matmul(matrix, matrix)

    duplex = Duplex("virtmic", "virtspk", echo=EchoControl("linear"))
    writes: list[float] = []

    class Ends:
        """The duplex, for so long."""

        def __iter__(self) -> Iterator[np.ndarray]:
            end = time.perf_counter() + seconds
            for frame in duplex:
                yield frame
                if time.perf_counter() > end:
                    return

        def write(self, reply: Reply) -> None:
            writes.append(time.perf_counter())
            duplex.write(reply)

        def close(self) -> None:
            duplex.close()

    ends = Ends()
    converse(Repeating(work), ends, ends)  # pyright: ignore[reportArgumentType]
    status = duplex.status()
    gaps = np.diff(writes)
    return {
        "seconds": seconds,
        "frames": len(writes),
        "underruns": status.underruns,
        "dropped": status.dropped,
        "xruns": status.xruns,
        "cushion_ms": round(1000 * status.cushion),
        "reply_gap_p99_ms": round(1000 * float(np.percentile(gaps, 99)), 1),
        "reply_gap_max_ms": round(1000 * float(gaps.max()), 1),
    }


def table(report: dict[str, Any]) -> str:
    """The rows of RESULTS.md."""
    there, where = report["round_trip"], report["scene"]
    lines = [
        f"commit {where['commit']}, load average {where['load_average']}",
        "",
        "| | | bar |",
        "|---|---|---|",
        f"| round trip, {there['heard']} of {there['played']} clicks | **{there['median_ms']} ms** "
        f"({there['least_ms']} – {there['most_ms']}) | 220 ms |",
    ]
    for kind, busy in report["busy"].items():
        lines.append(
            f"| underruns in {busy['seconds']:.0f} s, model busy in {kind} | **{busy['underruns']}** "
            f"(dropped {busy['dropped']}; replies at most {busy['reply_gap_max_ms']:.0f} ms apart) | 0 |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
