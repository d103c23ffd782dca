"""The items of a realtime conversation: who said what, in their order; and those of the user, cut by turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from moshi_mlx.conversation.turns import CAPTION_SECONDS, CAPTION_SLACK
from moshi_mlx.tasks.words import Word
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.realtime_events import Emit, new_id

REMEMBERED = 200  # items that clients may ask for again; of older ones nothing is kept


@dataclass
class Item:
    """One item. seconds: of its audio. text: its transcript, as far as it is known."""

    role: Literal["user", "assistant"]
    kind: str  # of its content
    id: str = field(default_factory=lambda: new_id("item"))
    status: str = "in_progress"
    text: str = ""
    seconds: float = 0.0
    before: str | None = None  # the id of the item before

    def about(self) -> dict[str, Any]:
        """The item as events show it."""
        text = "text" if self.kind == "output_text" else "transcript"
        content = [] if self.status == "in_progress" else [{"type": self.kind, text: self.text or None}]
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "role": self.role,
            "status": self.status,
            "content": content,
        }


class History:
    """The latest items of a conversation."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Item] = OrderedDict()

    def add(self, item: Item) -> None:
        """Add an item behind the others."""
        item.before = next(reversed(self._items), None)
        self._items[item.id] = item
        if len(self._items) > REMEMBERED:
            self._items.popitem(last=False)

    def find(self, id: str) -> Item:
        """Return an item. Raises ApiError."""
        if id not in self._items:
            raise ApiError(400, f"there is no item {id[:100]!r}", "item_id", "item_not_found")
        return self._items[id]


@dataclass
class _Said:
    """What a user says, from its beginning to its transcript. begin, end: seconds; end None while it lasts.

    word_end: seconds at which the last word ended, of what only words have begun and so must end; None else.
    """

    item: Item
    begin: float
    end: float | None = None
    word_end: float | None = None


class UserItems:
    """What the user says, as items: begun and ended by turns or by the client, with words where there are any.

    Times are seconds of the audio as the model heard it. tells: whether turns make items; else only `commit` does.
    captioned: seconds up to which all words were given to `word`; None where there are none.
    """

    def __init__(
        self,
        emit: Emit,
        history: History,
        tells: Callable[[], bool],
        captioned: Callable[[], float] | None = None,
    ) -> None:
        self.captioned = captioned
        self._emit, self._history, self._tells = emit, history, tells
        self._open: _Said | None = None
        self._closed: list[_Said] = []  # whose words may still come
        self._since = 0.0  # the end of the last item

    @property
    def has_words(self) -> bool:
        """Whether words of the item at hand have come."""
        return self._open is not None and bool(self._open.item.text)

    @property
    def unfinished(self) -> bool:
        """Whether an item has not ended, or not all its words have come."""
        return self._open is not None or bool(self._closed)

    def began(self, seconds: float) -> None:
        """Take the beginning of a turn."""
        if self._open:
            self._open.word_end = None  # the turn ends it
        elif self._tells():
            self._begin(seconds)
            assert self._open
            self._emit(
                "input_audio_buffer.speech_started",
                audio_start_ms=round(1000 * seconds),
                item_id=self._open.item.id,
            )

    def ended(self, seconds: float) -> None:
        """Take the end of a turn."""
        if self._tells() and self._open:
            self._emit(
                "input_audio_buffer.speech_stopped",
                audio_end_ms=round(1000 * seconds),
                item_id=self._open.item.id,
            )
            self._close(seconds)

    def commit(self, now: float) -> bool:
        """End an item because the client says so; return whether there was any audio since the last one."""
        if self._open is None and now <= self._since:
            return False
        if self._open is None:
            self._begin(self._since)
        self._close(now)
        return True

    def word(self, word: Word) -> None:
        """Take a word; it belongs to the item in whose time it begins, the next one or one of its own else."""
        here = [one for one in self._closed if one.end is None or word.start < one.end + CAPTION_SLACK]
        said = next(iter(here), self._open)
        if said is None:
            # Words that the sound alone told nothing of: nothing that is said is lost.
            self._begin(word.start if self._tells() else self._since)
            said = self._open
            assert said
            if self._tells():
                said.word_end = word.end
                self._emit(
                    "input_audio_buffer.speech_started",
                    audio_start_ms=round(1000 * word.start),
                    item_id=said.item.id,
                )
        if said.word_end is not None:
            said.word_end = word.end
        delta = f" {word.text}" if said.item.text else word.text
        said.item.text += delta
        self._emit(
            "conversation.item.input_audio_transcription.delta",
            item_id=said.item.id,
            content_index=0,
            delta=delta,
        )

    def advance(self, now: float) -> None:
        """Complete what all words are known of; those that are too late are not waited for. now: seconds."""
        if self._open and self._open.word_end is not None and now - self._open.word_end > CAPTION_SECONDS:
            self.ended(self._open.word_end)
        while self._closed:
            said = self._closed[0]
            assert said.end is not None
            known = self.captioned is None or self.captioned() >= said.end + CAPTION_SLACK
            if not (known or now - said.end > CAPTION_SECONDS):
                return
            self._closed.pop(0)
            if self.captioned:
                self._emit(
                    "conversation.item.input_audio_transcription.completed",
                    item_id=said.item.id,
                    content_index=0,
                    transcript=said.item.text,
                    usage={"type": "duration", "seconds": round(said.item.seconds, 3)},
                )

    def _begin(self, seconds: float) -> None:
        self._open = _Said(Item("user", "input_audio"), seconds)

    def _close(self, seconds: float) -> None:
        said, self._open = self._open, None
        assert said
        said.end = self._since = max(seconds, said.begin)
        item = said.item
        item.status, item.seconds = "completed", said.end - said.begin
        self._history.add(item)
        self._emit("input_audio_buffer.committed", item_id=item.id, previous_item_id=item.before)
        self._emit("conversation.item.added", item=item.about(), previous_item_id=item.before)
        self._emit("conversation.item.done", item=item.about(), previous_item_id=item.before)
        self._closed.append(said)
