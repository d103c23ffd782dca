"""The windows of a training, and which of them a step learns from.

Every one comes once before any comes again, each time in another order. Old data may be mixed in by a share, so
that a model does not forget what it knew. What is drawn follows from the seed and the number of the step alone, so
a run that goes on draws what it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from moshi_mlx.errors import DataError, MoshiError
from moshi_mlx.finetune.codes import Encoder, Window
from moshi_mlx.finetune.data import Source
from moshi_mlx.finetune.loss import Batch, make_batch
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config import LmConfig

_OTHER = 0x9E3779B9  # what the seed of replayed windows differs by, so that equal sets have unequal orders


@dataclass(frozen=True)
class Data:
    """Windows to learn from, by their source, and some to test with.

    weights: how often each source is drawn from. replay: what the model was taught before, mixed in.
    share: of the windows that are drawn from it, at least 0 and less than 1.
    """

    sources: Sequence[Sequence[Window]]
    weights: Sequence[float]
    tests: Sequence[Window] = ()
    replay: Data | None = None
    share: float = 0.0

    def batches(self, settings: Settings, config: LmConfig, step: int) -> Iterator[tuple[Batch, Sequence[object]]]:
        """Make batches for ever, from that of step `step` on, and say what each is made of.

        Data that is no recordings overrides this.
        """
        order = self.draw(settings.seed, step * settings.batch)
        while True:
            windows = list(islice(order, settings.batch))
            yield batch_of(windows, settings, config), windows

    def draw(self, seed: int, skip: int = 0) -> Iterator[Window]:
        """Draw windows for ever. skip: how many were drawn before."""
        old = self.replay
        if not old:
            yield from self._alone(seed, skip)
            return
        replayed = math.floor(skip * self.share)
        new_ones = self._alone(seed, skip - replayed)
        old_ones = old._alone((seed + _OTHER) % 2**32, replayed)
        for number in range(skip, 1 << 62):
            # Not by chance, so that every batch has its share.
            is_old = math.floor((number + 1) * self.share) > math.floor(number * self.share)
            yield next(old_ones if is_old else new_ones)

    def _alone(self, seed: int, skip: int) -> Iterator[Window]:
        for source, index in draws([len(windows) for windows in self.sources], self.weights, seed, skip):
            yield self.sources[source][index]


def read_windows(
    encoder: Encoder,
    sources: Sequence[Source],
    settings: Settings,
    replay: Sequence[Source] = (),
    test_share: float = 0.05,
    skip: Callable[[MoshiError], None] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Data:
    """Encode recordings into windows.

    replay: from `find_replay`; their weights are shares. test_share: of each source's recordings, to test with.
    skip: told of each recording that cannot be used; unless given the first one raises. advance: told of each
    recording.
    """

    def encoded(sources: Sequence[Source]) -> Data:
        learned: list[list[Window]] = []
        tests: list[Window] = []
        for source in sources:
            chosen = held_out(len(source.recordings), test_share, settings.seed)
            learned.append([])
            for number, recording in enumerate(source.recordings):
                try:
                    found = encoder.windows(recording)
                except MoshiError as error:
                    if not skip:
                        raise
                    skip(error)
                else:
                    (tests if number in chosen else learned[-1]).extend(found)
                advance(1)
            if not learned[-1]:
                raise DataError(f"nothing is left of {source.place} to learn from")
        return Data(learned, [source.weight for source in sources], tests)

    data = encoded(sources)
    if not replay:
        return data
    return replace(data, replay=encoded(replay), share=sum(source.weight for source in replay))


def batch_of(windows: Sequence[Window], settings: Settings, config: LmConfig) -> Batch:
    """Prepare windows of one length."""
    codes = np.stack([window.codes for window in windows])
    conditions = [window.conditions for window in windows]
    return make_batch(codes, config, settings.padding_weight, settings.semantic_weight, conditions)


def draws(sizes: Sequence[int], weights: Sequence[float], seed: int, skip: int = 0) -> Iterator[tuple[int, int]]:
    """Draw windows for ever, as (source, window).

    sizes: windows of each source. weights: how often each source is drawn from, beside the others.
    skip: how many draws were taken before.
    """
    random = np.random.RandomState([seed, len(sizes)])
    shares = np.array(weights) / np.sum(weights)
    orders = [_shuffled(size, seed + index) for index, size in enumerate(sizes)]
    for number in range(1 << 62):
        source = int(random.choice(len(sizes), p=shares)) if len(sizes) > 1 else 0
        window = next(orders[source])
        if number >= skip:
            yield source, window


def _shuffled(size: int, seed: int) -> Iterator[int]:
    random = np.random.RandomState(seed % 2**32)
    while True:
        yield from random.permutation(size).tolist()


def held_out(count: int, share: float, seed: int) -> set[int]:
    """Choose recordings that are not learned from but tested with; at least one of several, none of one."""
    if count < 2 or not share:
        return set()
    chosen = np.random.RandomState(seed).permutation(count)[: max(1, round(count * share))]
    return set(chosen.tolist())
