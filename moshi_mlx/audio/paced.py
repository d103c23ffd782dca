"""Keeping a queue short whose frames are answered at the pace of the audio, as those of a server are."""

from __future__ import annotations

from collections.abc import Sequence

from moshi_mlx.audio.lag import HeardFrame, LagGovernor
from moshi_mlx.frames import FRAME_SECONDS

_AHEAD = 2  # frames on their way through the stages, at most
_BEHIND = 12  # frames, a second, during which one too many waits, before that is taken for lasting


class PacedGovernor(LagGovernor):
    """For frames that are answered at the pace of the audio, however fast the model is: no queue empties itself.

    So delay that once came up (a network that stalled) stays, unless frames are dropped: silent ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self._behind = 0  # frames that came while another waited

    def answered(self, now: float) -> float:
        since = super().answered(now)
        self.pace = max(self.pace, FRAME_SECONDS)
        return since

    def may_take(self, frame: HeardFrame, now: float) -> bool:
        # What is too late is dropped from the queue; a frame held back would count as missing.
        return super().may_take(frame, now) or len(self._unanswered) < _AHEAD

    def drop(self, waiting: Sequence[HeardFrame], now: float) -> int | None:
        too_late = super().drop(waiting, now)
        if too_late is not None:
            return too_late
        self._behind = self._behind + 1 if len(waiting) > 1 else 0
        if len(waiting) > 2 or self._behind > _BEHIND:
            return next((index for index, frame in enumerate(waiting) if frame.silent), None)
        return None
