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
from typing import Any

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY

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
    random, batch = np.random.RandomState(seed), moshi.batch(places)
    here: dict[moshi_mlx.Session, Talk] = {}
    ended: list[Talk] = []
    most, came, times, joined, memory = 0, 0, [], [], []
    for tick in range(ticks):
        for session in [session for session, talk in here.items() if talk.over]:
            ended.append(here.pop(session))
            session.close()
            if random.rand() >= share:
                ended.pop()
        # Everyone's place is mostly taken, in the first tenth of the time by more and more people.
        new = len(here) < places and (random.rand() < 0.5 or tick < places)
        if new:
            here[batch.join(came, GREEDY)] = Talk(came, random.randint(shortest, longest + 1))
            came += 1
        most = max(most, len(here))
        start = time.perf_counter()
        replies = batch.step({session: talk.frames[len(talk.replies)] for session, talk in here.items()})
        times.append(time.perf_counter() - start)
        joined.append(new)
        for session, talk in here.items():
            talk.write(replies[session])
        if tick % max(1, ticks // 10) == ticks // 10 // 2:
            memory.append((mx.get_active_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    for session in here:
        session.close()
    ended += [talk for talk in here.values() if random.rand() < share]
    found = {talk.who: talk.again(moshi) for talk in ended}
    different = [(who, tick) for who, (tick, _) in found.items() if tick is not None]
    first = np.array(times)[np.array(joined)]
    return {
        "talks": came,
        "most_at_once": most,
        "talks_compared": len(ended),
        "compared": sum(len(talk.replies) for talk in ended),
        "different": different,
        "audio": max((off for _, off in found.values()), default=0.0),
        "tick_ms": round(1000 * float(np.median(times)), 2),
        "tick_p99_ms": round(1000 * float(np.percentile(times, 99)), 2),
        "first_tick_after_a_join_over_median": round(float(np.median(first) / np.median(times)), 2),
        "active_bytes": [active for active, _ in memory],
        "resident_peak_kB": [resident for _, resident in memory],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--codec", default="mlx", choices=["mlx", "rust"])
    parser.add_argument("--ticks", type=int, default=10_000)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--longest", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moshi = moshi_mlx.load(options.model, codec=options.codec)
    moshi.warm_up(options.places)
    found = company(moshi, options.ticks, options.places, options.seed, 2, options.longest, options.share)
    print(json.dumps(found))
    if len(found["different"]) > ALLOWED * found["compared"]:
        sys.exit("error: talks in company differ from talks alone")
    if found["active_bytes"][-1] > 1.05 * found["active_bytes"][0] + 2**20:
        sys.exit("error: memory grows")


if __name__ == "__main__":
    main()
