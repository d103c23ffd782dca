"""One side of `loop_vs_before.py`: reads a number of frames a line, answers the time of a frame of the loop in ms.

Only public names are used, so that it runs with any build of the package (the one on PYTHONPATH).
"""

import hashlib
import json
import sys
import time

import numpy as np

import moshi_mlx


class Noise:
    """So many frames of the same noise, as a source; and the sink of the replies."""

    def __init__(self, frames: int) -> None:
        random = np.random.RandomState(0)
        self._frames = [(0.1 * random.standard_normal(1920)).astype(np.float32) for _ in range(frames)]
        self.heard = hashlib.sha256()

    def __iter__(self):
        return iter(self._frames)

    def close(self) -> None:
        pass

    def write(self, reply: moshi_mlx.Reply) -> None:
        self.heard.update(reply.text.encode())
        if reply.audio is not None:
            self.heard.update(reply.audio.tobytes())


def main() -> None:
    moshi = moshi_mlx.load(sys.argv[1], codec="mlx")
    moshi.warm_up()
    for line in sys.stdin:
        noise = Noise(int(line))
        with moshi.session(seed=1) as session:
            start = time.perf_counter()
            moshi_mlx.converse(session, noise, noise)
            seconds = time.perf_counter() - start
        print(json.dumps({"frame": [1000 * seconds / int(line)], noise.heard.hexdigest(): [0.0]}), flush=True)


main()
