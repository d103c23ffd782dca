"""A client of /v1/realtime/translations: audio in and out without an end, words as they come, no turns.

Made for models that translate. A model that talks can be had in the same way: it answers where others translate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE
from moshi_mlx.models.config import END_OF_TEXT
from moshi_mlx.tasks.words import Word
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.event_client import EventClient, Mark
from moshi_mlx.web.api.realtime_audio import PCM, AudioReader, AudioWriter
from moshi_mlx.web.api.realtime_events import event_id, field
from moshi_mlx.web.seat import Seat

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.tasks.words import Pause
    from moshi_mlx.wire.query import ChatQuery

LANGUAGE = "en"  # into which the models that there are translate


class TranslationClient(EventClient):
    """One session. translates: whether the model is one that translates, once it is there."""

    def __init__(self, query: ChatQuery, seat: Seat, model: str, translates: Callable[[], bool]) -> None:
        super().__init__(query, seat, model)
        self._translates = translates
        self._reader, self._writer = AudioReader(PCM), AudioWriter(PCM)
        self._transcribes = False
        self._captions_from = 0.0  # seconds at which they began
        self._spoken = 0  # frames of the model's audio
        self._sent = 0  # frames to the model
        self._ending = False  # the model has been told that what it hears has ended
        self._last: int | None = None  # the reply with which all is said, once that is known
        self.handlers = {
            "session.update": self._update,
            "session.input_audio_buffer.append": self._append,
            "session.close": self._close,
        }

    def _greet(self, seed: int) -> None:
        self.emit("session.created", session=self._about())

    def _about(self) -> dict[str, Any]:
        captions = self._model.captions
        transcription = {"model": captions.name} if captions and self._transcribes else None
        return {
            "id": self.id,
            "type": "translation",
            "model": self._model_name,
            "expires_at": 0,  # it does not
            "audio": {
                "input": {"transcription": transcription, "noise_reduction": None},
                "output": {"language": LANGUAGE if self._translates() else None},
            },
        }

    async def _update(self, event: dict[str, Any]) -> None:
        transcribes = self._transcribes
        for path, value in _fields(field(event, "session", dict)):
            if path == "audio.output.language":
                self._check_language(value)
            elif path == "audio.input.transcription":
                transcribes = self._check_transcription(value)
            elif path == "audio.input.noise_reduction" and value is None:
                continue
            elif path == "audio.input.noise_reduction":
                raise _refused(path, "this server reduces no noise: let the microphone do it")
            else:
                raise ApiError(400, f"this session has no field {path}", f"session.{path}", "unknown_parameter")
        if transcribes and not self._transcribes:
            assert self._model.captions
            self._captions.begin(self._model.captions)
            self._captions_from = self._sent * FRAME_SECONDS
        elif self._transcribes and not transcribes:
            self._captions.end()
        self._transcribes = transcribes
        self.emit("session.updated", session=self._about())

    def _check_language(self, value: Any) -> None:
        if value is not None and not self._translates():
            raise _refused("audio.output.language", "this model answers, it does not translate")
        if value not in (None, LANGUAGE):
            raise _refused("audio.output.language", f"this model translates into {LANGUAGE}")

    def _check_transcription(self, value: Any) -> bool:
        path = "audio.input.transcription"
        if value is None:
            return False
        if not isinstance(value, dict):
            raise _refused(path, "an object expected")
        if self._model.captions is None:
            raise _refused(
                path, "this server writes down only what its model says; start it with --captions MODEL"
            )
        if value.get("model") not in (None, self._model.captions.name):
            raise _refused(f"{path}.model", f"this session transcribes with {self._model.captions.name}")
        return True

    async def _append(self, event: dict[str, Any]) -> None:
        if self._ending:
            raise ApiError(400, "the session is being closed", code="session_closing")
        await self._take_all(self._reader.read(field(event, "audio", str)))

    def _hear(self, frame: np.ndarray) -> None:
        super()._hear(frame)
        self._sent += 1

    async def _close(self, event: dict[str, Any]) -> None:
        if self._ending:
            raise ApiError(400, "the session is being closed", code="session_closing")
        self._flush()
        self._ending = True
        self._mark(Mark(event_id(event)))

    def _reached(self, mark: Mark) -> None:
        """All that came is answered: let the model say the rest."""
        assert self.slot
        if not self._frames:  # it has heard nothing
            self._finish()
        elif self._translates():
            self.slot.mark_end()
            self._be_quiet(self._limits.tail)
        else:
            self._last = self._frames + self._delay
            self._be_quiet(self._delay * FRAME_SECONDS)

    @property
    def _delay(self) -> int:
        """Frames by which the model's audio comes after its text."""
        assert self.slot
        return max(self.slot.talking.batch.moshi.lm.config.delays)

    def _answer(self, reply: Reply) -> None:
        ending = self._ending and not self._waiting_marks
        self._say(reply)
        self._answered()
        self._pass_marks()
        if ending and self._last is None and self._translates() and reply.text_id == END_OF_TEXT:
            self._last = self._frames + self._delay
        if (self._last is not None and self._frames >= self._last) or (
            ending and not (self._quiet or self._waiting)
        ):
            self._finish()
        else:
            self._give_silence()

    @property
    def _waiting_marks(self) -> bool:
        return any(isinstance(one, Mark) for one in self._waiting)

    def _say(self, reply: Reply) -> None:
        if reply.audio is not None:
            elapsed = round(1000 * self._spoken * FRAME_SECONDS)
            self._spoken += 1
            sent = self.emit(
                "session.output_audio.delta",
                is_audio=True,
                delta=self._writer.write(reply.audio),
                format="pcm16",
                sample_rate=SAMPLE_RATE,
                channels=1,
                elapsed_ms=elapsed,
            )
            self._unsent += not sent
        # Words after the end, while the audio of the last frames still comes, are not of this translation.
        if reply.text and self._last is None:
            self.emit("session.output_transcript.delta", delta=reply.text, elapsed_ms=round(1000 * reply.time))

    def _finish(self) -> None:
        self.talking = False
        self.emit("session.closed")
        self.end()

    def _captioned(self, found: Word | Pause) -> None:
        if self.talking and self._transcribes and isinstance(found, Word):
            elapsed = round(1000 * (self._captions_from + found.start))
            self.emit("session.input_transcript.delta", delta=f" {found.text}", elapsed_ms=elapsed)


def _fields(session: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields of a session, two levels down."""
    found: list[tuple[str, Any]] = []
    for key, value in session.items():
        if key != "audio" or not isinstance(value, dict):
            found.append((key[:100], value))
            continue
        for side, fields in value.items():
            if isinstance(fields, dict):
                found += [(f"audio.{side[:40]}.{name[:40]}", one) for name, one in fields.items()]
            elif fields is not None:
                found.append((f"audio.{side[:40]}", fields))
    return found


def _refused(path: str, words: str) -> ApiError:
    return ApiError(400, f"session.{path}: {words}", f"session.{path}", "unsupported_value")
