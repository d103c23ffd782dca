"""From recordings that were found to the windows of a training: encoded, and some of them held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from moshi_mlx.errors import DataError, MoshiError
from moshi_mlx.finetune.batches import Data, held_out
from moshi_mlx.finetune.codes import Encoder, Window
from moshi_mlx.finetune.data import Source
from moshi_mlx.finetune.settings import Settings


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
