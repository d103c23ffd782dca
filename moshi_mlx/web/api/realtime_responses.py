"""What the model says, as responses: a turn of its own is one response with one item, whose audio comes as deltas.

The model is never told to begin or to stop, so a response that a client cancels goes on unheard: what is left of
that turn is not sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moshi_mlx.conversation.turns import Turn
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.realtime_audio import AudioWriter
from moshi_mlx.web.api.realtime_events import Emit, new_id
from moshi_mlx.web.api.realtime_items import History, Item
from moshi_mlx.web.api.realtime_session import Settings


@dataclass
class _Response:
    """The response at hand. text_only: as the session was set when it began."""

    item: Item
    writer: AudioWriter
    id: str = field(default_factory=lambda: new_id("resp"))

    @property
    def text_only(self) -> bool:
        return self.item.kind == "output_text"


class Responses:
    """Makes events of the model's replies and turns.

    settings: of the session, as they are now. conversation: its id. unsent: is called for audio that was dropped.
    """

    def __init__(
        self,
        emit: Emit,
        history: History,
        settings: Callable[[], Settings],
        conversation: str,
        unsent: Callable[[], None] = lambda: None,
    ) -> None:
        self._emit, self._history, self._settings = emit, history, settings
        self._conversation, self._unsent = conversation, unsent
        self._current: _Response | None = None
        self._last: str | None = None  # the id of the latest response
        self._muted = False  # until the turn ends
        self._held: np.ndarray | None = None  # the frame before: a turn is certain with its second
        self._pieces: list[str] = []  # of a turn that is not certain

    @property
    def active(self) -> bool:
        """Whether a response is being given."""
        return self._current is not None

    def began(self) -> None:
        """Take the beginning of a turn of the model."""
        if self._muted or self._current:
            return
        self._begin()
        if self._held is not None:
            self._say(self._held)

    def add(self, reply: Reply) -> None:
        """Take the next reply, after the turns that it begins or ends."""
        if self._current:
            if reply.text:
                self._write(reply.text)
            if reply.audio is not None:
                self._say(reply.audio)
            self._held = None
        elif not self._muted:
            self._held = reply.audio
            if reply.text:
                self._pieces.append(reply.text)

    def ended(self, turn: Turn) -> None:
        """Take the end of a turn of the model."""
        if not (self._muted or self._current) and any(piece.strip() for piece in self._pieces):
            self._begin()  # words with hardly a sound
        if self._current and turn.interrupted:
            self._finish("cancelled", "turn_detected")
        elif self._current:
            self._finish("completed")
        self._muted, self._held = False, None
        self._pieces.clear()

    def cancel(self, response: str | None) -> None:
        """Say no more of the response at hand. Raises ApiError where there is none, or not of that id."""
        if self._current is None or response not in (None, self._current.id):
            raise ApiError(400, "no such response is being given", "response_id", "response_cancel_not_active")
        self._mute()

    def clear(self) -> None:
        """Say no more; what waits is the caller's to drop."""
        if self._current:
            self._mute()
        if self._last:
            self._emit("output_audio_buffer.cleared", response_id=self._last)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an item of the model where the client stopped playing it. Raises ApiError for what cannot be."""
        item = self._history.find(item_id)
        if item.role != "assistant":
            raise ApiError(400, "only what the model said can be truncated", "item_id", "invalid_value")
        if content_index != 0:
            raise ApiError(400, "an item has one content: content_index is 0", "content_index", "invalid_value")
        if not 0 <= audio_end_ms <= 1000 * item.seconds + 1:
            most = round(1000 * item.seconds)
            raise ApiError(400, f"that item has {most} ms of audio", "audio_end_ms", "invalid_value")
        if self._current and self._current.item is item:
            self._mute()
        item.seconds, item.text, item.status = audio_end_ms / 1000, "", "incomplete"
        self._emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=content_index,
            audio_end_ms=audio_end_ms,
        )

    def close(self) -> None:
        """End the response at hand: the conversation is over."""
        if self._current:
            self._finish("incomplete")

    def _mute(self) -> None:
        self._finish("cancelled", "client_cancelled")
        self._muted = True

    def _begin(self) -> None:
        settings = self._settings()
        kind = "output_text" if settings.text_only else "output_audio"
        self._current = now = _Response(Item("assistant", kind), AudioWriter(settings.output))
        self._last = now.id
        self._history.add(now.item)
        self._emit("response.created", response=self._about(now, "in_progress"))
        self._emit("response.output_item.added", response_id=now.id, output_index=0, item=now.item.about())
        self._emit("conversation.item.added", item=now.item.about(), previous_item_id=now.item.before)
        self._part(now, "response.content_part.added", None)
        for piece in self._pieces:
            self._write(piece)
        self._pieces.clear()

    def _write(self, text: str) -> None:
        now = self._current
        assert now
        text = text if now.item.text else text.lstrip()
        if not text:
            return
        now.item.text += text
        kind = "response.output_text.delta" if now.text_only else "response.output_audio_transcript.delta"
        self._emit(kind, delta=text, **self._place(now))

    def _say(self, pcm: np.ndarray) -> None:
        now = self._current
        assert now
        if now.text_only:
            return
        self._send_audio(now, now.writer.write(pcm))
        now.item.seconds += FRAME_SECONDS

    def _send_audio(self, now: _Response, delta: str) -> None:
        place = self._place(now)
        if delta and not self._emit("response.output_audio.delta", is_audio=True, delta=delta, **place):
            self._unsent()

    def _finish(self, status: str, reason: str | None = None) -> None:
        now, self._current = self._current, None
        assert now
        now.item.status = "completed" if status == "completed" else "incomplete"
        if now.text_only:
            self._emit("response.output_text.done", text=now.item.text, **self._place(now))
        else:
            if status == "completed":
                self._send_audio(now, now.writer.end())
            self._emit("response.output_audio.done", **self._place(now))
            text = now.item.text
            self._emit("response.output_audio_transcript.done", transcript=text, **self._place(now))
        self._part(now, "response.content_part.done", now.item.text)
        self._emit("conversation.item.done", item=now.item.about(), previous_item_id=now.item.before)
        self._emit("response.output_item.done", response_id=now.id, output_index=0, item=now.item.about())
        self._emit("response.done", response=self._about(now, status, reason))

    def _part(self, now: _Response, type: str, text: str | None) -> None:
        part = (
            {"type": "text", "text": text or ""} if now.text_only else {"type": "audio", "transcript": text or ""}
        )
        self._emit(type, part=part, **self._place(now))

    def _place(self, now: _Response) -> dict[str, Any]:
        return {"response_id": now.id, "item_id": now.item.id, "output_index": 0, "content_index": 0}

    def _about(self, now: _Response, status: str, reason: str | None = None) -> dict[str, Any]:
        settings = self._settings()
        details = None if status == "in_progress" else {"type": status} | ({"reason": reason} if reason else {})
        return {
            "id": now.id,
            "object": "realtime.response",
            "conversation_id": self._conversation,
            "status": status,
            "status_details": details,
            "output": [] if status == "in_progress" else [now.item.about()],
            "output_modalities": ["text"] if now.text_only else ["audio"],
            "audio": {"output": {"format": now.writer.format.about(), "voice": settings.voice or None}},
            "max_output_tokens": "inf",
            "usage": None,
            "metadata": None,
        }
