"""A client of /v1/realtime: what it is heard saying, as items of its conversation, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moshi_mlx.conversation.turns import Speaker, Turn, TurnTracker
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.event_client import EventClient, Mark
from moshi_mlx.web.api.realtime_audio import AudioReader
from moshi_mlx.web.api.realtime_events import event_id, field
from moshi_mlx.web.api.realtime_items import History, UserItems
from moshi_mlx.web.api.realtime_session import Settings
from moshi_mlx.web.seat import Asked, Seat

if TYPE_CHECKING:
    import numpy as np


class HearingClient(EventClient):
    """One conversation in events of /v1/realtime. Times are seconds of the audio as the model heard it.

    settings: of the session, until it is created. quiet: seconds of silence that the model gets after a commit.
    """

    def __init__(self, asked: Asked, seat: Seat, model: str, settings: Settings, quiet: float) -> None:
        super().__init__(asked, seat, model)
        self._settings, self._quiet_seconds = settings, quiet
        self._history = History()
        self._reader = AudioReader(settings.input)
        self._items = UserItems(self.emit, self._history, lambda: self._settings.detection is not None)
        self._tracker = TurnTracker(began=self._began, ended=self._turn_ended)
        self._committed = True  # no frame came since
        self.handlers = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear_input,
            "conversation.item.retrieve": self._retrieve,
        }

    async def _update(self, event: dict[str, Any]) -> None:
        after = self._settings.updated(field(event, "session", dict))
        await self._apply(after)
        if after.input != self._settings.input:
            self._reader = AudioReader(after.input)
        if after.detection:
            self._tracker.wait("user", after.detection.silence)
        self._settings = after
        self.emit("session.updated", session=after.about(self.id))

    async def _apply(self, after: Settings) -> None:
        """Do what other settings need. Raises ApiError where they cannot be had."""

    async def _append(self, event: dict[str, Any]) -> None:
        await self._take_all(self._reader.read(field(event, "audio", str)))

    def _hear(self, frame: np.ndarray) -> None:
        super()._hear(frame)
        self._committed = False

    async def _commit(self, event: dict[str, Any]) -> None:
        self._flush()
        if self._committed:
            raise _nothing_came()
        self._committed = True
        self._mark(Mark(event_id(event)))
        self._be_quiet(self._quiet_seconds)

    def _reached(self, mark: Mark) -> None:
        if not self._items.commit(self._tracker.seconds):
            self._refuse(_nothing_came(), mark.event_id)

    async def _clear_input(self, event: dict[str, Any]) -> None:
        self._intake.clear()
        self.emit("input_audio_buffer.cleared")

    async def _retrieve(self, event: dict[str, Any]) -> None:
        self.emit("conversation.item.retrieved", item=self._history.find(field(event, "item_id", str)).about())

    def _began(self, speaker: Speaker, seconds: float) -> None:
        if speaker == "user":
            self._items.began(seconds)

    def _turn_ended(self, turn: Turn) -> None:
        if turn.speaker == "user":
            self._items.ended(turn.end)


def _nothing_came() -> ApiError:
    return ApiError(400, "no audio came since the last commit", code="input_audio_buffer_commit_empty")
