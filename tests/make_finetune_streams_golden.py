"""Makes tests/assets/finetune_streams.npz: the text rows that Kyutai's trainer makes of made-up alignments.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own, and a checkout of kyutai-labs/moshi-finetune:

    PYTHONPATH=. python tests/make_finetune_streams_golden.py path/to/moshi-finetune
"""

import importlib.util
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.finetune.made_up import CASES, Pieces, case

ASSETS = Path(__file__).parent / "assets"


class FakeMimi:
    """As many frames as Mimi would give, all of code 0."""

    frame_rate = 12.5

    def encode(self, pcm: torch.Tensor) -> torch.Tensor:
        return torch.zeros(pcm.shape[0], 8, math.ceil(pcm.shape[-1] / 1920), dtype=torch.long)


def main(checkout: Path) -> None:
    spec = importlib.util.spec_from_file_location("interleaver", checkout / "finetune/data/interleaver.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    torch.Tensor.cuda = lambda self: self  # it names the device it was written for
    interleaver = theirs.Interleaver(Pieces(), 12.5, 3, 0, -1, keep_main_only=True, device="cpu")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(CASES):
            alignments, start, window, there = case(number)
            wav = Path(folder) / "one.wav"
            wav.with_suffix(".json").write_text(json.dumps({"alignments": alignments}))
            tokenizer = theirs.InterleavedTokenizer(FakeMimi(), interleaver, window)
            pcm = np.zeros((2, max(1, round(there * 24_000))), np.float32)
            rows[f"{number}"] = tokenizer(pcm, start, str(wav)).codes[0, 0].numpy().astype(np.int16)
    path = ASSETS / "finetune_streams.npz"
    lengths = [len(row) for row in rows.values()]
    np.savez_compressed(path, rows=np.concatenate(list(rows.values())), lengths=np.array(lengths, np.int16))
    print(path.name, path.stat().st_size, "bytes,", sum(lengths), "frames")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
