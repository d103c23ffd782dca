"""Writes moshi_mlx/doctor/check/golden.json: Nano's tokens in its recorded conversation, for `doctor --check`.

    python scripts/make_check_golden.py

To be run again when Nano changes, on a machine where all tests pass: they compare the same networks with PyTorch.
"""

import json

import mlx.core as mx
import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.doctor.check.conversation import DRAWS, GOLDEN, NOISE, SEED, nano, run
from moshi_mlx.doctor.check.shapes import MOSHI
from moshi_mlx.frames import split_frames
from moshi_mlx.runtime.sampling import frame_keys, gumbel
from moshi_mlx.sampling_config import GREEDY


def main() -> None:
    """Hear the recording and write what was said."""
    lm, checkpoint = nano()
    stream, n = checkpoint.load_codec("mlx").stream(), MOSHI.frames
    frames = list(split_frames(read_audio(RECORDING).pcm))[: n - 1]
    heard = np.stack([np.zeros(8, np.int32), *(stream.encode(frame) for frame in frames)])
    greedy = run(lm, heard, GREEDY, [None] * n)
    size, rows = NOISE
    golden = {
        "heard": heard.tolist(),
        "greedy": greedy.tolist(),
        "sampled": run(lm, heard, DRAWS, greedy).tolist(),
        "noise": np.array(gumbel(mx.array(frame_keys([(SEED, row) for row in range(rows)])), size)).tolist(),
    }
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
