"""The other sides of `mimi_vs_peer.py`, in the peer's environment.

python worker_mimi_peer.py mlx|rust FILE
"""

import json
import sys
import time

import numpy as np


def load_mlx(file):
    import mlx.core as mx

    from moshi_mlx.models import mimi

    model = mimi.Mimi(mimi.mimi_202407(8))
    model.load_pytorch_weights(file, strict=False)
    mx.eval(model.parameters())

    def encode(frame):
        codes = model.encode_step(mx.array(frame)[None, None])
        mx.eval(codes)
        return codes

    def decode(codes):
        return np.array(model.decode_step(codes))

    return encode, decode


def load_rust(file):
    import rustymimi

    tokenizer = rustymimi.Tokenizer(file, num_codebooks=8)

    def encode(frame):
        return tokenizer.encode_step(frame[None, None])

    def decode(codes):
        return tokenizer.decode_step(codes)

    return encode, decode


def main() -> None:
    encode, decode = (load_mlx if sys.argv[1] == "mlx" else load_rust)(sys.argv[2])
    random = np.random.default_rng(1)
    for line in sys.stdin:
        times = {"encode": [], "decode": []}
        for frame in (0.1 * random.standard_normal((int(line), 1920))).astype(np.float32):
            start = time.perf_counter()
            codes = encode(frame)
            between = time.perf_counter()
            decode(codes)
            times["encode"].append(1000 * (between - start))
            times["decode"].append(1000 * (time.perf_counter() - between))
        print(json.dumps(times), flush=True)


main()
