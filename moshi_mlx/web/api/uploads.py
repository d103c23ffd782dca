"""Requests that bring a recording: its file goes to disk as it comes, and is decoded off the event loop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from aiohttp import BodyPartReader, ClientPayloadError, web

from moshi_mlx.errors import AudioFileError
from moshi_mlx.web.api.errors import ApiError

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.web.connections import Link

MAX_FIELD = 64 * 1024  # bytes of a field that is no file
MAX_FIELDS = 100
MIN_BYTES = 25_000_000  # that a file may have, however short it has to be
BYTES_A_SECOND = 192_000  # of two channels of 16 bits at 48 kHz: what is allowed beside that
AT_ONCE = 8  # uploads
DRAIN = 10.0  # seconds in which the rest of a refused one may come


@dataclass
class Form:
    """What a request brought. fields: by name, without "[]". pcm: (samples,) float32 at 24 kHz."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    pcm: np.ndarray | None = None

    def one(self, name: str, default: str = "") -> str:
        """Return the only value of a field. Raises ApiError."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise ApiError(400, f"{name} was given {len(values)} times, one value expected", name)
        return values[0] if values else default

    def choice(self, name: str, known: Collection[str], default: str) -> str:
        """Return the value of a field that is one of several. Raises ApiError."""
        value = self.one(name, default)
        if value not in known:
            raise ApiError(400, f"{name} is {value[:40]!r}: one of {', '.join(known)} expected", name)
        return value

    def refuse(self, **why: str) -> None:
        """Raise ApiError for a field that asks for what cannot be done, name -> why; an empty one does not."""
        for name, words in why.items():
            if any(self.fields.get(name, [])):
                raise ApiError(400, words, name, "unsupported_parameter")


class Uploads:
    """Reads forms. max_seconds: of a recording. seconds: in which an upload has to be complete."""

    def __init__(self, max_seconds: float, seconds: float) -> None:
        self._max_seconds, self._seconds = max_seconds, seconds
        self._max_bytes = int(max(MIN_BYTES, max_seconds * BYTES_A_SECOND))
        self._decoders = ThreadPoolExecutor(2, "moshi-decoder")
        self.coming = 0

    def close(self) -> None:
        """Decode no more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: web.Request, link: Link) -> Form:
        """Read the form of a request, and decode its file. Raises ApiError."""
        if request.content_type != "multipart/form-data":
            raise ApiError(415, "a form with a file is expected: send it as multipart/form-data")
        if self.coming >= AT_ONCE:
            raise ApiError(
                503,
                "too many recordings are coming in; try again later",
                code="busy",
                headers={"Retry-After": "2"},
            )
        self.coming += 1
        link.allow(self._seconds)
        most = self._max_bytes + MAX_FIELDS * MAX_FIELD
        link.expect(2 * most)
        try:
            if (request.content_length or 0) > most:
                raise self._too_large()
            with tempfile.NamedTemporaryFile("wb", prefix="moshi-upload-") as file:
                form, name = await self._parts(request, cast(BinaryIO, file))
                if name is None:
                    raise ApiError(400, "the form has no file", "file")
                file.flush()
                form.pcm = await asyncio.get_running_loop().run_in_executor(
                    self._decoders, self._decoded, file.name, name
                )
        except ApiError:
            await _drain(request)
            raise
        finally:
            self.coming -= 1
            link.expect(0)
        return form

    async def _parts(self, request: web.Request, file: BinaryIO) -> tuple[Form, str | None]:
        form, name, size = Form(), None, 0
        try:
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise ApiError(400, "the form has a part without a name")
                if part.name == "file" and name is None:
                    name = PurePath((part.filename or "the file").replace("\\", "/")).name[:100]
                    while chunk := await part.read_chunk(1 << 16):
                        size += len(chunk)
                        if size > self._max_bytes:
                            raise self._too_large()
                        file.write(chunk)
                    continue
                value = b""
                while chunk := await part.read_chunk(1 << 13):
                    value += chunk
                    if len(value) > MAX_FIELD:
                        raise ApiError(413, f"the field {part.name[:40]} has more than {MAX_FIELD} bytes")
                values = form.fields.setdefault(part.name.removesuffix("[]"), [])
                values.append(value.decode(errors="replace").strip())
                if sum(map(len, form.fields.values())) > MAX_FIELDS:
                    raise ApiError(400, f"the form has more than {MAX_FIELDS} fields")
        except (ValueError, AssertionError) as error:  # a form that is cut off, or none
            raise ApiError(400, f"the form cannot be read: {str(error)[:100] or 'it is damaged'}") from error
        return form, name

    def _decoded(self, path: str, name: str) -> Any:
        from moshi_mlx.audio.files import read_upload

        try:
            return read_upload(path, name, self._max_seconds).pcm
        except AudioFileError as error:
            longer = "" if "longer than" not in str(error) else f" ({self._max_seconds:g} s; --max-seconds)"
            raise ApiError(400, f"{error}{longer}", "file", "invalid_audio") from error

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the file has more than {self._max_bytes / 1e6:.0f} MB; send it in parts", "file")


async def _drain(request: web.Request) -> None:
    """Take the rest of a request that is refused: many clients read the answer only when all they have is sent.

    No longer than a moment: who sends more is cut off, which they see as an error, too.
    """
    with suppress(asyncio.TimeoutError, ConnectionError, ClientPayloadError):
        await asyncio.wait_for(_rest(request), DRAIN)


async def _rest(request: web.Request) -> None:
    async for _ in request.content.iter_any():
        pass
