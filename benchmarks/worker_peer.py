"""The peer's side of `step_vs_peer.py` (moshi_mlx 0.3.0, unmodified, in its own environment).

python worker_peer.py WIDTH dense|q4 TEXT_CARD CARD cpu|gpu
"""

import dataclasses
import json
import sys
import time

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gpu_graph import build_gpu_graph
from waits import Waits

from moshi_mlx import models, utils


def main() -> None:
    width, kind, text_card, card = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if sys.argv[5] == "gpu":
        build_gpu_graph()
    full = models.config_v0_1()
    narrow = {"d_model": width, "num_heads": 4, "dim_feedforward": 4 * width}
    config = dataclasses.replace(
        full,
        transformer=dataclasses.replace(full.transformer, **narrow),
        depformer=dataclasses.replace(
            full.depformer, transformer=dataclasses.replace(full.depformer.transformer, **narrow)
        ),
        text_in_vocab_size=text_card + 1,
        text_out_vocab_size=text_card,
        audio_vocab_size=card + 1,
    )
    mx.random.seed(0)
    model = models.Lm(config)
    if kind == "q4":
        nn.quantize(model, bits=4, group_size=32)
    mx.eval(model.parameters())
    model.warmup()
    generator = models.LmGen(
        model=model, max_steps=4000, text_sampler=utils.Sampler(), audio_sampler=utils.Sampler(), check=False
    )
    random = np.random.RandomState(0)
    waits = Waits()
    for line in sys.stdin:
        times, host = [], []
        for codes in random.randint(0, card, (int(line), 8)):
            start, before = time.perf_counter(), waits.seconds
            # What the peer's live loop does with a frame (local.py): step, then read text and audio tokens.
            text = generator.step(mx.array(codes, dtype=mx.int32)[None])
            text[0].item()
            audio = generator.last_audio_tokens()
            if audio is not None:
                mx.eval(audio)
                np.array(audio)
            times.append(1000 * (time.perf_counter() - start))
            host.append(times[-1] - 1000 * (waits.seconds - before))
        print(json.dumps({"step": times, "host": host}), flush=True)


main()
