"""The words of one client's user, from the frames that came to whoever tells the client."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from moshi_mlx.tasks.words import Pause, Word

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
    from moshi_mlx.tasks.captioner import Captioner


class CaptionFeed:
    """Captions of one conversation after the other, times from the first frame of each; on the event loop.

    send: gets words and pauses, on the model's thread. Until `begin`, and for ever where
    that is never called, frames are let pass.
    """

    def __init__(self, send: Callable[[Word | Pause], None]) -> None:
        self._send = send
        self._scheduler: CaptionScheduler | None = None
        self._captioner: Captioner | None = None
        self._dropped = 0  # by captioners that were given back
        self._conversation = 0  # whose words are sent

    @property
    def complete(self) -> float:
        """Seconds up to which all words were told; infinite where none are written down."""
        return self._captioner.complete if self._captioner else math.inf

    @property
    def dropped(self) -> int:
        """How many frames were left out for want of time."""
        return self._dropped + (self._captioner.dropped if self._captioner else 0)

    def begin(self, scheduler: CaptionScheduler) -> None:
        """Write down what is said from the next frame on."""
        self._scheduler, self._captioner = scheduler, scheduler.begin(self._found())

    def hear(self, frame: np.ndarray) -> None:
        """Take the next frame, (1920,) float32."""
        if self._captioner:
            self._captioner.hear(frame)

    def restart(self) -> None:
        """Forget the conversation, and what was said in it and not told yet."""
        if self._captioner:
            self._dropped += self._captioner.dropped
            self._captioner.start(self._found())

    def end(self) -> None:
        """Write down nothing more."""
        if self._scheduler and self._captioner:
            self._conversation += 1
            self._dropped += self._captioner.dropped
            self._scheduler.end(self._captioner)
            self._captioner = None

    def _found(self) -> Callable[[Word | Pause], None]:
        self._conversation += 1
        return partial(self._tell, self._conversation)

    def _tell(self, conversation: int, found: Word | Pause) -> None:
        if conversation != self._conversation:
            return  # the model was at it when it ended
        self._send(found)
