"""Work of requests on the thread that owns MLX: ended when the client has gone, refused when it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from moshi_mlx.errors import CheckpointError, MoshiError
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.headers import RETRY
from moshi_mlx.web.jobs import Job, Jobs, QueueFull
from moshi_mlx.web.log import event
from moshi_mlx.web.model_pool import ModelPool, NoRoom, ServedModel

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.web.connections import Link

T = TypeVar("T")


class Work:
    """Lets models of a pool do what requests ask for.

    link_of: the connection of a request. stuck: seconds in which a client has to take a piece of its answer.
    problem: why no work is done at all now, "" where it is.
    """

    def __init__(
        self,
        jobs: Jobs,
        pool: ModelPool,
        link_of: Callable[[web.Request], Link],
        stuck: float,
        problem: Callable[[], str],
    ) -> None:
        self.link_of, self.stuck = link_of, stuck
        self._jobs, self._pool, self._problem = jobs, pool, problem
        self._tidying: asyncio.TimerHandle | None = None
        self._tidy: Job[None] | None = None  # the latest, which nobody waits for

    def close(self) -> None:
        """Unload nothing any more."""
        if self._tidying:
            self._tidying.cancel()

    def _tidy_later(self) -> None:
        """Unload what nobody uses, when it has not been used for long enough."""
        self.close()
        loop = asyncio.get_running_loop()
        self._tidying = loop.call_later(self._pool.idle + 0.1, self._tidy_now)

    def _tidy_now(self) -> None:
        with suppress(QueueFull):  # then somebody uses them
            self._tidy = self._jobs.add(self._pool.tidy(), lambda: "tidy")
        if self._pool.loaded:  # until there is nothing left to unload
            self._tidy_later()

    @asynccontextmanager
    async def running(
        self,
        request: web.Request,
        model: ServedModel,
        work: Callable[[Moshi], Iterator[T | None]],
        ready: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[Job[T]]:
        """Let a model do something for a request, up to the end of the block, or of the client's connection.

        ready: as of `Job`.
        Iterating over the job gives what `work` yields, but for None. What is raised for people becomes ApiError.
        """
        if problem := self._problem():
            raise ApiError(503, f"the server has not come up: {problem}", code="missing", headers=RETRY)
        link = self.link_of(request)
        link.allow(None)

        def kind() -> str:
            return f"{model.name} {request.path}" if model.moshi else f"load {model.name}"

        try:
            job = self._jobs.add(self._pool.using(model, work), kind, link.source, ready=ready)
        except QueueFull as full:
            words = "of this address " if full.of_one else ""
            raise ApiError(
                429 if full.of_one else 503,
                f"too many requests {words}are being worked on; try again later",
                code="busy",
                headers=RETRY,
            ) from full
        link.lost = job.cancel
        try:
            with model.visit():
                yield job
            if job.cancelled:  # what it has given is not all
                raise (
                    ConnectionResetError("lost")
                    if link.ended
                    else ApiError(503, "the server has ended", code="busy")
                )
        except NoRoom as error:
            raise ApiError(503, str(error), "model", "no_room", RETRY) from error
        except CheckpointError as error:
            raise ApiError(503, str(error), "model", "not_loadable") from error
        except MoshiError as error:
            raise ApiError(400, str(error)) from error
        finally:
            link.lost = None
            job.cancel()
            self._tidy_later()
            event("request", path=request.path, model=model.name, slices=job.slices)
