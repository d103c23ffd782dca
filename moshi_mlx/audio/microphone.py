"""A microphone alone as the source of a conversation in which nobody answers aloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from moshi_mlx.audio.capture import Capture
from moshi_mlx.audio.duplex import LiveSource
from moshi_mlx.audio.watchdog import DeviceEvent, Endpoint

if TYPE_CHECKING:  # at run time this module needs no model
    from moshi_mlx.runtime.reply import Reply


class Microphone(LiveSource):
    """Source of `engine.converse`: frames as they are heard; `write` is to be given every reply.

    input, on_event: as of `Duplex`, whose devices and flow control it shares: where the model cannot keep up,
    frames are left out, silent ones first, and counted. Raises AudioDeviceError, here only.
    """

    def __init__(
        self, input: str | int | None = None, on_event: Callable[[DeviceEvent], None] | None = None
    ) -> None:
        capture = Capture()  # of which nothing is played: that counts as silence
        super().__init__(capture, [Endpoint("input", input, capture.microphone)], on_event)

    def write(self, reply: Reply) -> None:
        """Note that the oldest frame has its answer, so that the pace of the model is known."""
        self._queue.answered()
