"""Our side of `mimi_vs_peer.py`.

python worker_mimi_ours.py FILE
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from moshi_mlx.codec.load import load_codec
from moshi_mlx.models.mimi_config import MIMI


def main() -> None:
    stream = load_codec(Path(sys.argv[1]), MIMI, 8, "mlx").stream()
    random = np.random.default_rng(1)
    for line in sys.stdin:
        times = {"encode": [], "decode": []}
        for frame in (0.1 * random.standard_normal((int(line), 1920))).astype(np.float32):
            start = time.perf_counter()
            codes = stream.encode(frame)
            between = time.perf_counter()
            stream.decode(codes)
            times["encode"].append(1000 * (between - start))
            times["decode"].append(1000 * (time.perf_counter() - between))
        print(json.dumps(times), flush=True)


main()
