"""The server: the page, conversations at /api/chat, /api/info, /health and /metrics for programs, OpenAI's API."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, web

from moshi_mlx.checkpoint import nano
from moshi_mlx.errors import ProtocolError, ServerError
from moshi_mlx.version import __version__
from moshi_mlx.web.access import Access
from moshi_mlx.web.admission import Admission
from moshi_mlx.web.api.errors import Handle, api_errors
from moshi_mlx.web.api.realtime import Realtime
from moshi_mlx.web.api.routes import Api
from moshi_mlx.web.budget import Budgets
from moshi_mlx.web.chat_client import ChatClient
from moshi_mlx.web.client import Client
from moshi_mlx.web.connections import Connections, Link
from moshi_mlx.web.headers import Handler, complete
from moshi_mlx.web.health import Health, Refused
from moshi_mlx.web.jobs import Jobs
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.log import event, http_logger
from moshi_mlx.web.metrics import CONTENT_TYPE, count, render
from moshi_mlx.web.model_pool import ModelPool, NoRoom, ServedModel
from moshi_mlx.web.model_thread import LoadProgress, ModelThread, Phase
from moshi_mlx.web.seat import Beside, Seat
from moshi_mlx.wire.query import describe, read_query, shown

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
    from moshi_mlx.web.prompts import Prompts

PAGE = Path(__file__).parents[1] / "page"
STOP_SECONDS = 1.0  # for clients and the model to finish
_CLEAN_SECONDS = 0.2  # for requests whose connections have ended


class Server:
    """One model, its clients, its page; all methods on one event loop.

    load: returns the Moshi, on the model's thread. about: what clients are told of the model: its name, and what
    it can be asked. page: the folder of the page, None for none. keep_thread, prompts,
    captions, unload_after: as in `ModelThread`.
    main: what requests of the API get as this model. pool: other models that they get.
    elsewhere: as of `Health`.
    take_nano: lets `load` load Nano from then on, and returns what to tell of it; the page offers that where the
    model cannot be had.
    """

    def __init__(
        self,
        load: Callable[[LoadProgress], Moshi],
        about: dict[str, Any],
        max_sessions: int = 1,
        access: Access | None = None,
        page: Path | None = PAGE,
        limits: Limits | None = None,
        keep_thread: bool = False,
        take_nano: Callable[[], dict[str, Any]] | None = None,
        prompts: Callable[[Moshi], Prompts | None] = lambda moshi: None,
        captions: Callable[[], CaptionScheduler | None] = lambda: None,
        main: ServedModel | None = None,
        pool: ModelPool | None = None,
        elsewhere: str = "",
        unload_after: float | None = None,
    ) -> None:
        self.main = main or ServedModel(about["model"])
        pool = pool or ModelPool([])
        pool.models.insert(0, self.main)
        self.jobs = jobs = Jobs((limits or Limits()).jobs)
        self.model = ModelThread(
            load, max_sessions, keep_thread, prompts, captions, jobs,
            self._adopt, self._forget, self._make_room, unload_after,
        )  # fmt: skip
        self.main.follow(lambda: self.model.phase.value, self.model.visit)
        self._pool = pool
        self._captioning: ServedModel | None = None  # what writes down words, once it is known
        self.clients: set[Client] = set()
        self._talks: set[asyncio.Task[Any]] = set()  # of the clients
        self._admission = Admission(max_sessions)
        self._working: set[asyncio.Task[Any]] = set()  # of all requests
        self._gone: Counter[str] = Counter()  # metrics of the clients that have left
        self._about, self._access, self._page = about, access or Access(), page
        self._limits = limits or Limits()
        self.health = Health(self.model, self._admission, self._limits.waiting, elsewhere)
        self._admission_beside = Admission(self._limits.beside)
        self._admission_beside.open()
        self._take_nano = take_nano
        self._requests = Budgets(self._limits.requests)
        self._offences = Budgets(self._limits.offences)
        self._readers = ThreadPoolExecutor(1, "moshi-reader")  # one: clients' slices come in turn
        self._opening: asyncio.Task[None] | None = None
        app = web.Application(middlewares=[api_errors, self._guard])
        app.on_response_prepare.append(complete)
        app.router.add_get("/api/chat", self._chat)
        app.router.add_get("/api/info", self._info)
        app.router.add_post("/api/model", self._choose_model)
        app.router.add_get("/health", self._health)
        app.router.add_get("/health/alive", self._health)
        app.router.add_get("/metrics", self._metrics)
        self.api = Api(pool, jobs, self._access, self._limits, self._link, lambda: self.model.problem)
        self.models = self.api.models
        Realtime(self.models, self.main, self._host, self.api.work).add_to(app)
        self.api.add_to(app)
        if page:
            app.router.add_get("/", self._index)
            # Links are followed: some installers link a package's files to a store. No path leads out of it.
            app.router.add_static("/", page, follow_symlinks=True)
        self._connections: Connections | None = None
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_CLEAN_SECONDS)

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, begin to load the model, and return the port. Raises ServerError if the port cannot be had."""
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        options: dict[str, Any] = {"access_log": None, "logger": http_logger}
        assert server
        connections = Connections(lambda: Handler(server, loop=loop, **options), self._limits)
        self._connections = connections
        try:
            found = await connections.listen(host, port, tls)
        except (OSError, OverflowError) as error:
            await self.stop()
            reason = getattr(error, "strerror", None) or error
            raise ServerError(f"cannot listen on {host}:{port}: {reason}; choose another with --port") from error
        self.model.start()
        self._opening = asyncio.create_task(self._open())
        return found

    async def drain(self, seconds: float) -> None:
        """Refuse what comes new, and wait until what goes on has finished, but no longer than this."""
        self.health.draining = True
        going = set(self._working)
        event("draining", talking=self._admission.taken, waiting=self._admission.waiting, seconds=seconds)
        for client in [client for client in self.clients if client.waits]:
            self.health.refused += 1
            client.end(Refused(self.health.why_not(self._admission)), WSCloseCode.TRY_AGAIN_LATER)
        if going:
            _, left = await asyncio.wait(going, timeout=seconds)
            event("drained", left=len(left))

    async def stop(self) -> None:
        """Finish the current frame, end all conversations, close all sockets."""
        self.health.draining = True
        if self._opening:
            self._opening.cancel()
        if self._connections:
            self._connections.close()
        for client in list(self.clients):
            client.end(code=WSCloseCode.GOING_AWAY)
        self.model.close()
        if self._talks:
            await asyncio.wait(self._talks, timeout=STOP_SECONDS)
        if self._connections:
            self._connections.abort()
        await self._runner.cleanup()
        self._readers.shutdown(wait=False)
        self.api.close()

    async def _open(self) -> None:
        await self.model.ready(lambda: None)
        self._admission.open()

    # On the model's thread.

    def _adopt(self, moshi: Moshi, held: float) -> None:
        """Let requests have the models that are loaded for conversations."""
        self.main.adopt(moshi, held)
        if captions := self.model.captions:
            if self._captioning is None:
                self._captioning = ServedModel(captions.name)
                self._captioning.follow(lambda: self.model.phase.value, self.model.visit)
                self._pool.models.append(self._captioning)
            self._captioning.adopt_transcriber(captions.transcriber)

    def _forget(self) -> None:
        """Keep nothing of them."""
        for model in (self.main, self._captioning):
            if model:
                model.unload()

    def _make_room(self) -> None:
        """Unload what nobody uses, where that is needed; the model comes back in any case, as at the start."""
        with suppress(NoRoom):
            self._pool.make_room(self.main)

    # On the event loop.

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handle) -> web.StreamResponse:
        link = self._link(request)
        link.asked()
        task = asyncio.current_task()
        assert task
        self._working.add(task)
        try:
            if not self._requests[link.source].spend():
                raise web.HTTPTooManyRequests(text="too many requests of this address; try again in a moment\n")
            self._access.check(request)
            if self.health.draining and request.method == "POST":
                raise self.health.refuse(self.health.why_not(self._admission))
            response = await handler(request)
        except (web.HTTPBadRequest, web.HTTPUnauthorized, web.HTTPForbidden) as refusal:
            host, origin = request.headers.get("Host", "")[:100], request.headers.get("Origin", "")[:100]
            why = (refusal.text or "").strip()
            event(
                "refused",
                status=refusal.status,
                host=host,
                origin=origin or None,
                path=request.path[:100],
                why=why,
            )
            raise
        finally:
            self._working.discard(task)
            link.answered()
        if not response.prepared:  # a web socket's headers are sent by now
            self._access.remember(request, response)
        return response

    def _link(self, request: web.Request) -> Link:
        """Return the connection of a request. Raises ConnectionResetError if it has ended."""
        link = self._connections.of(request.protocol) if self._connections else None
        if link is None:
            raise ConnectionResetError("lost")
        return link

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            query = read_query(request.query)
        except ProtocolError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        if not self.model.talks:
            raise web.HTTPNotImplemented(text=f"{self.main.name} does not talk; this server has /v1/\n")

        def make(seat: Seat) -> Client:
            return ChatClient(query, seat, self._about, self._readers)

        return await self._host(request, make)

    async def _host(
        self, request: web.Request, make: Callable[[Seat], Client], beside: Beside | None = None
    ) -> web.StreamResponse:
        """Let somebody talk, in the place that is free or that they wait for. make: their client.

        beside: as of `Seat`.
        """
        link = self._link(request)
        if self._offences[link.source].empty:
            raise web.HTTPTooManyRequests(
                text="clients of this address were ended for asking too much; try again in ten seconds\n"
            )
        admission = self._admission_beside if beside else self._admission
        if why := self.health.why_not(admission):
            raise self.health.refuse(why)
        place = admission.line_up()
        offended = self._offences[link.source].spend
        try:
            client = make(Seat(link, place, admission, self.model, self._limits, offended, beside))
            with nullcontext() if beside else self.model.visit():
                return await self._converse(request, client, link)
        finally:
            place.leave()

    async def _converse(self, request: web.Request, client: Client, link: Link) -> web.StreamResponse:
        await client.open(request)
        link.allow(None)
        link.flooded = client.flooded
        task = asyncio.current_task()
        assert task
        self.clients.add(client)
        self._talks.add(task)
        event("connected", client.name, remote=request.remote, query=shown(request.query)[:200] or None)
        try:
            await client.run()
        finally:
            self.clients.discard(client)
            self._talks.discard(task)
            self._gone += count(client)
            link.abort()  # what a client does not read must not wait here
        return client.socket

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "model": self._about["model"],
                "version": __version__,
                "state": self.model.phase.value,
                "problem": self.model.problem or None,
                "health": self.health.state,
                "elsewhere": self.health.elsewhere or None,
                "sampling": describe(self.model.sampling),
                "max_sessions": self._admission.size,
                "conditions": self.model.conditions,
                "talks": self.model.talks,
                "models": [model.about() for model in self.models],
                **self.model.about,
            }
        )

    async def _choose_model(self, request: web.Request) -> web.Response:
        """Try again to have the model, or with ?take=nano take Nano in its place; only while it cannot be had."""
        if self.model.phase is not Phase.MISSING:
            raise web.HTTPConflict(text="the model is not missing\n")
        if request.query.get("take") == nano.NAME and self._take_nano:
            self._about.update(self._take_nano())  # clients that wait are told of it, too
            self.main.name = self._about["model"]
        self.model.again()
        return web.Response(status=204)

    async def _health(self, request: web.Request) -> web.Response:
        return self.health.answer(alive=request.path.endswith("/alive"))

    async def _metrics(self, request: web.Request) -> web.Response:
        text = render(self.model, self._admission, self.health, self.clients, self._gone, self.jobs.count)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _index(self, request: web.Request) -> web.StreamResponse:
        assert self._page
        return web.FileResponse(self._page / "index.html")
