"""What a server gives to one client that talks: a place, a model, and its limits; and what the client asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from moshi_mlx.models.conditioner_config import Condition
    from moshi_mlx.runtime.flow import HeardFrame
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.runtime.session import Session
    from moshi_mlx.sampling_config import SamplingConfig
    from moshi_mlx.web.admission import Admission, Place
    from moshi_mlx.web.connections import Link
    from moshi_mlx.web.jobs import Job
    from moshi_mlx.web.limits import Limits
    from moshi_mlx.web.live_slot import LiveSlot
    from moshi_mlx.web.model_thread import ModelThread


class Asked(Protocol):
    """What a client asks for when it connects, as `wire.query.ChatQuery`."""

    @property
    def seed(self) -> int | None:
        """None for another one each time."""
        ...

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The model's own where none is given."""
        ...

    @property
    def prompts(self) -> Mapping[str, str]:
        """Of `PROMPTS`, those that it gives."""
        ...

    def sampling(self, default: SamplingConfig, /) -> SamplingConfig:
        """How tokens are sampled."""
        ...


class TalkSlot(Protocol):
    """A place at a model, as `runtime.scheduler.QueuedSlot` or `LiveSlot`."""

    silences: int
    lag: float

    @property
    def heard(self) -> Lost:
        """What counts the frames that were lost on the way to the model."""
        ...

    @property
    def talking(self) -> Session:
        """The session."""
        ...

    def hear(self, frame: HeardFrame, /) -> None:
        """Take one frame for the model."""
        ...

    def mark_end(self) -> None:
        """Let the next frame tell the model that what it hears has ended."""
        ...

    def leave(self) -> None:
        """End the conversation."""
        ...


class Lost(Protocol):
    """Counts frames."""

    @property
    def dropped(self) -> int:
        """How many."""
        ...


@dataclass(frozen=True)
class Beside:
    """A place at a model that stands beside the one that talks, and the job that steps it."""

    slot: LiveSlot
    job: Job[Reply | Session]


@dataclass(frozen=True)
class Seat:
    """What a server gives to one client. place: among those who wait for one.

    offended: called if the client is thrown out for asking too much. beside: None for the model that talks.
    """

    link: Link
    place: Place
    admission: Admission
    model: ModelThread
    limits: Limits
    offended: Callable[[], object]
    beside: Beside | None = None
