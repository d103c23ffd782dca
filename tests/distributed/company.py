"""Conversations that come and go on one model, in one process or in several.

`python -m tests.distributed.company FOLDER ...`: the first process prints what was said with each model, as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.distributed.follower import follow
from moshi_mlx.distributed.group import join_group
from moshi_mlx.distributed.leader import leading
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.session import Reply, Session
from moshi_mlx.sampling_config import GREEDY
from tests.numbers_codec import Numbers

KNOWN = 9  # frames that a conversation is prefilled with


def said(checkpoint: Checkpoint, lm: Lm) -> list[list[float]]:
    """Return what two people hear: one begins, the other joins with a past, one starts over, one leaves."""
    config, random = lm.config, np.random.RandomState(1)

    def frame() -> np.ndarray:
        return (0.1 * random.standard_normal(1920)).astype(np.float32)

    heard: list[list[float]] = []

    def step(*sessions: Session) -> None:
        replies = batch.step({session: frame() for session in sessions})
        heard.extend(_as_numbers(replies[session]) for session in sessions)

    moshi = Moshi(lm, Numbers(config.card), checkpoint.load_tokenizer(), GREEDY)
    batch = moshi.batch(2)
    first = batch.join(0)
    for _ in range(3):
        step(first)
    second = batch.join(1)
    texts = random.randint(config.text_card, size=KNOWN)
    codes = random.randint(config.card, size=(KNOWN, config.n_q))
    batch.prefill(second, texts, codes[:, : config.dep_q], codes[:, config.dep_q :])
    for _ in range(3):
        step(first, second)
    first.reset()
    for _ in range(3):
        step(second, first)
    second.close()
    for _ in range(2):
        step(first)
    del batch
    batch = moshi.batch(1)  # a window more, one fewer
    only = batch.join(2)
    for _ in range(2):
        step(only)
    return heard


def alone(folder: str) -> list[list[float]]:
    """Return what is said in one process."""
    checkpoint = Checkpoint.resolve(folder)
    lm = checkpoint.load_lm()
    widen_on_cpu(lm)
    return said(checkpoint, lm)


def _as_numbers(reply: Reply) -> list[float]:
    codes = [] if reply.audio is None else reply.audio[:8].tolist()
    return [*map(float, map(ord, reply.text)), *codes]


def main() -> None:
    group = join_group()
    if group.rank():
        follow(group)
    with leading(group) as leader:
        found = [Checkpoint.resolve(folder) for folder in sys.argv[1:]]
        print(json.dumps([said(checkpoint, leader.load_lm(checkpoint)) for checkpoint in found]))


if __name__ == "__main__":
    main()
