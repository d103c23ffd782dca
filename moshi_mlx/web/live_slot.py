"""A conversation with a model that stands beside the one that talks: a job of which each slice is one frame.

For its client it is what a slot of the scheduler is. Nobody shares its steps, so frames are taken as they come:
where audio comes faster than it is spoken, the client is answered faster.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moshi_mlx.frames import silence
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stages import MARK_END, Control
from moshi_mlx.web.jobs import Job

if TYPE_CHECKING:
    from moshi_mlx.models.conditioner_config import Condition
    from moshi_mlx.runtime.flow import HeardFrame
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.sampling_config import SamplingConfig

MOST = 25  # frames that wait, before more audio is read from the client
LATE = 125  # frames that wait, before the oldest is dropped: two messages may come after the most


@dataclass
class Dropped:
    """What was lost on the way to the model."""

    dropped: int = 0


class LiveSlot:
    """A conversation. `steps` is stepped on the thread that owns MLX; all else is of the event loop.

    sampling, settling: of the model, once it is loaded: how tokens are drawn, and how many frames of silence it is
    to hear first.
    """

    def __init__(
        self,
        seed: int | None,
        sampling: Callable[[Moshi], SamplingConfig],
        settling: Callable[[Moshi], int] = lambda moshi: 0,
        conditions: Mapping[str, Condition] | None = None,
    ) -> None:
        self.heard = Dropped()
        self.silences = 0  # it is never given what nobody sent
        self.lag = 0.0  # seconds from the end of the last answered frame to its reply
        self.session: Session | None = None
        self._seed, self._sampling, self._settling, self._conditions = seed, sampling, settling, conditions
        self._waiting: deque[HeardFrame | Control] = deque()
        self._job: Job[Reply | Session] | None = None

    @property
    def talking(self) -> Session:
        """The session, once it has begun."""
        assert self.session, "asked before it has begun"
        return self.session

    @property
    def waiting(self) -> int:
        """Frames that the model has not taken."""
        return len(self._waiting)

    def ready(self) -> bool:
        """Whether there is something to do: the model is to be loaded, or a frame waits."""
        return self.session is None or bool(self._waiting)

    def steps(self, moshi: Moshi) -> Iterator[Reply | Session | None]:
        """Yield the replies to silence, the session when it can be talked with, and the reply to every frame."""
        with moshi.session(self._seed, self._sampling(moshi), self._conditions) as session:
            for _ in range(self._settling(moshi)):
                yield session.step(silence())
            self.session = session
            yield session
            while True:
                item = self._waiting.popleft() if self._waiting else None
                if item is None:
                    yield None
                elif item is MARK_END:
                    session.mark_end()
                else:
                    assert not isinstance(item, Control)
                    reply = session.step(item.pcm)
                    self.lag = time.perf_counter() - item.captured
                    yield reply

    def begin(self, job: Job[Reply | Session]) -> None:
        """Take the job that steps it."""
        self._job = job

    def hear(self, frame: HeardFrame) -> None:
        """Take one frame for the model."""
        if len(self._waiting) >= LATE:
            self._waiting.popleft()
            self.heard.dropped += 1
        self._add(frame)

    def mark_end(self) -> None:
        """Let the next frame tell the model that what it hears has ended."""
        self._add(MARK_END)

    def leave(self) -> None:
        """End the conversation."""
        if self._job:
            self._job.cancel()

    def _add(self, item: HeardFrame | Control) -> None:
        self._waiting.append(item)
        if self._job:
            self._job.wake()
