"""People come to and leave a batch at random; each talk is compared with the same talk alone: words and audio.

    scripts/with_blas.sh python benchmarks/random_company.py [--model nano] [--ticks 10000] [--places 16]

Greedy, float32. Equal are equal text tokens; a talk that is not is printed with its first different tick, and what
follows in it is not looked at. Fails if there are more such talks than one in 10,000 tokens, or if memory grows.
Talking alone what was said in company takes several times as long as the company: --share says how much of it.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY

LET_IN_ANEW = 1 / 200  # how likely it is in a tick that another number of people is let in from then on
ALLOWED = 1e-4  # share of tokens that are the first different ones of their talk


class Talk:
    """What somebody says and hears."""

    def __init__(self, who: int, length: int) -> None:
        self.who = who
        random = np.random.RandomState(who)
        self.frames = (0.1 * random.standard_normal((length, FRAME_SAMPLES))).astype(np.float32)
        self.replies: list[tuple[int | None, np.ndarray | None]] = []

    @property
    def over(self) -> bool:
        return len(self.replies) == len(self.frames)

    def write(self, reply: moshi_mlx.Reply) -> None:
        self.replies.append((reply.text_id, reply.audio))

    def again(self, moshi: Moshi) -> tuple[int | None, float]:
        """Talk alone. Returns the first tick that differs, and how far audio is off before it, of its peak."""
        peak, off = 0.0, 0.0
        with moshi.session(self.who, GREEDY) as session:
            for tick, (frame, (token, audio)) in enumerate(zip(self.frames, self.replies, strict=False)):
                reply = session.step(frame)
                if reply.text_id != token:
                    return tick, off
                if audio is not None and reply.audio is not None:
                    peak = max(peak, float(np.abs(reply.audio).max()))
                    off = max(off, float(np.abs(reply.audio - audio).max()) / peak)
        return None, off


def company(
    moshi: Moshi, ticks: int, places: int, seed: int, shortest: int, longest: int, share: float
) -> dict[str, Any]:
    """Run a company of so many ticks, and compare a share of its talks. shortest, longest: of a talk, in ticks."""
    random, crowd, batch = np.random.RandomState(seed), np.random.RandomState(seed), moshi.batch(places)
    here: dict[moshi_mlx.Session, Talk] = {}
    ended: list[Talk] = []
    most, came, times, joined, counts, room = 0, 0, [], [], [], places
    active, resident, rows = [0] * 10, [0] * 10, set()
    for tick in range(ticks):
        for session in [session for session, talk in here.items() if talk.over]:
            ended.append(here.pop(session))
            session.close()
            if random.rand() >= share:
                ended.pop()
        # In the first tenth of the time all places are taken; then many or few are let in for a while.
        if tick > ticks // 10 and crowd.rand() < LET_IN_ANEW:
            room = crowd.randint(1, places + 1)
        new = len(here) < room and (random.rand() < 0.5 or tick < places)
        if new:
            here[batch.join(came, GREEDY)] = Talk(came, random.randint(shortest, longest + 1))
            came += 1
        most = max(most, len(here))
        start = time.perf_counter()
        replies = batch.step({session: talk.frames[len(talk.replies)] for session, talk in here.items()})
        times.append(time.perf_counter() - start)
        joined.append(new)
        counts.append(len(here))
        for session, talk in here.items():
            talk.write(replies[session])
        rows.add(len(batch._rows))
        tenth = 10 * tick // ticks
        active[tenth] = max(active[tenth], mx.get_active_memory())
        resident[tenth] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for session in here:
        session.close()
    ended += [talk for talk in here.values() if random.rand() < share]
    found = {talk.who: talk.again(moshi) for talk in ended}
    different = [(who, tick) for who, (tick, _) in found.items() if tick is not None]
    usual = {
        count: np.median([time for time, n in zip(times, counts, strict=True) if n == count]) for count in counts
    }
    first = [time / usual[n] for time, n, new in zip(times, counts, joined, strict=True) if new]
    return {
        "talks": came,
        "most_at_once": most,
        "talks_compared": len(ended),
        "compared": sum(len(talk.replies) for talk in ended),
        "different": different,
        "audio": max((off for _, off in found.values()), default=0.0),
        "tick_ms": round(1000 * float(np.median(times)), 2),
        "tick_p99_ms": round(1000 * float(np.percentile(times, 99)), 2),
        "first_tick_after_a_join_over_median": round(float(np.median(first)), 2),  # of as many people
        "rows": sorted(rows),  # that the model's state had
        "active_bytes": active,  # the most in each tenth of the time
        "resident_peak_kB": resident,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="nano", help="tiny: random weights and the published Mimi, for rustymimi"
    )
    parser.add_argument("--codec", default="mlx", choices=["mlx", "rust"])
    parser.add_argument("--ticks", type=int, default=10_000)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--longest", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        name = options.model
        if name == "tiny":
            name = str(write_random_checkpoint(Path(folder, name), {**TINY, "card": MIMI.bins}, None))
        moshi = moshi_mlx.load(name, codec=options.codec)
        moshi.warm_up(options.places)
        found = company(moshi, options.ticks, options.places, options.seed, 2, options.longest, options.share)
    print(json.dumps(found))
    if len(found["different"]) > ALLOWED * found["compared"]:
        sys.exit("error: talks in company differ from talks alone")
    active = found["active_bytes"]
    if max(active[5:]) > 1.05 * max(active[:5]) + 2**20:
        sys.exit("error: memory grows")


if __name__ == "__main__":
    main()
