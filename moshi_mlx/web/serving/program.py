"""The server as a program: chooses where to listen and for whom, says so, and ends with Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import ssl
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.names import ALIASES, DEFAULT_MODEL
from moshi_mlx.codec.rust import RustCodec
from moshi_mlx.errors import ServerError
from moshi_mlx.machine import this_machine
from moshi_mlx.planning.planner import codec_streams
from moshi_mlx.web.access import LOCAL_NAMES, Access
from moshi_mlx.web.certificate import lan_addresses, load_tls, own_tls
from moshi_mlx.web.descriptors import raise_limit
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.log import event, start_log
from moshi_mlx.web.model_pool import IDLE, ModelPool, ServedModel, Task, tasks_of, voices_of
from moshi_mlx.web.serving.server import PAGE, STOP_SECONDS, Server
from moshi_mlx.wire.messages import DEFAULT_PORT

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.codec.base import Codec
    from moshi_mlx.planning.planner import Budget
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
    from moshi_mlx.tasks.persona import Role
    from moshi_mlx.web.model_thread import LoadProgress
    from moshi_mlx.web.prompts import Prompts

    Captions = Callable[[Checkpoint, int, Callable[[str], None]], Callable[[], CaptionScheduler]]
    """Of a checkpoint that talks, for so many people; it tells notes and may refuse. Gives what loads the rest."""

DRAIN_SECONDS = 300.0  # for conversations to finish: as long as Moshi's window
NO_TOKEN = "none"
_EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens, and for whom.

    names: hosts under which it may be addressed. token: None for none. tls: None for plain http.
    page_hosts, origins: whose pages may talk with it, as in `Access`.
    """

    host: str
    port: int
    names: tuple[str, ...]
    token: str | None
    tls: ssl.SSLContext | None
    page_hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def url(self, name: str, port: int) -> str:
        """Return the page's address under one of the names."""
        shown = f"[{name}]" if ":" in name else name
        token = f"/?token={self.token}" if self.token else ""
        return f"{'https' if self.tls else 'http'}://{shown}:{port}{token}"


def choose_endpoint(
    host: str | None = None,
    port: int = DEFAULT_PORT,
    lan: bool = False,
    tls: tuple[Path, Path] | None = None,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> Endpoint:
    """Return where to listen, and for whom. Other machines need a token, a random one unless it is given.

    lan: listen on all addresses, with a certificate of our own unless `tls` names files: certificate, key.
    token: NO_TOKEN to let everybody in. allow_hosts: further names of the server. Raises ServerError.
    """
    host = host or ("0.0.0.0" if lan else "localhost")
    names = [*LOCAL_NAMES, *allow_hosts]
    if not _is_local(host):
        own_name = socket.gethostname()
        names += [*lan_addresses(), own_name, f"{own_name.partition('.')[0]}.local"]
        names += [] if host in _EVERYWHERE else [host]
    names = list(dict.fromkeys(names))
    if token is None and not _is_local(host):
        token = secrets.token_urlsafe(12)
    if token is not None and (token == "" or not token.isascii() or not token.isprintable() or " " in token):
        raise ServerError(f"--token {token!r} cannot stand in an address: use letters and digits, or {NO_TOKEN}")
    context = load_tls(tls[0], tls[1]) if tls else own_tls(names) if lan else None
    for origin in allow_origins:
        if not origin.startswith(("http://", "https://")):
            raise ServerError(f"--allow-origin {origin}: an address such as https://example.com was expected")
    secret = None if token == NO_TOKEN else token
    return Endpoint(host, port, tuple(names), secret, context, tuple(allow_hosts), tuple(allow_origins))


def run_server(
    *,
    checkpoint: Mapping[str, Any],
    endpoint: Endpoint,
    codec: str = "auto",
    kv_bits: int | None = None,
    played: Mapping[str, Any] | None = None,
    max_sessions: int = 1,
    limits: Limits | None = None,
    page: Path | None = PAGE,
    browser: bool = True,
    quiet: bool = False,
    role: Callable[[Checkpoint], Role] | None = None,
    check: Callable[[Checkpoint], None] = lambda found: None,
    captions: Captions | None = None,
    adapter: str | None = None,
    others: Callable[[Callable[[str], None]], Sequence[ServedModel]] = lambda tell: (),
    budget: Budget | None = None,
    idle: float = IDLE,
    voices: Sequence[str] = (),
    drain_seconds: float = DRAIN_SECONDS,
    elsewhere: str | None = None,
    unload_after: float | None = None,
) -> bool:
    """Serve until Ctrl-C, or until conversations have finished after SIGTERM. Returns whether it was Ctrl-C.

    checkpoint: keyword arguments of `Checkpoint.resolve`. played: conditions and guidance, of `assemble`, for a
    model that talks. page: as in `Server`. quiet: log warnings and errors only. role: reads who a model that takes
    prompts is where clients ask for nothing. check: refuses models that cannot talk. captions: what writes down
    the words of those who talk. adapter: of the model, as in `with_adapter`. others: finds the models that
    requests may ask for besides; told notes, too. budget, idle: as of `ModelPool`. voices: as of `ServedVoices`.
    drain_seconds: that conversations have to finish in after SIGTERM; a second one ends them. elsewhere: as of
    `Health`. unload_after: as of `ModelThread`.
    Raises MoshiError, also where the model cannot be loaded.
    """
    start_log(quiet)
    raise_limit()

    def tell(note: str) -> None:
        event("note", level=logging.WARNING, text=note)

    pool = ModelPool(others(tell), budget, idle)
    main = ServedModel(str(checkpoint.get("name", DEFAULT_MODEL)))
    chosen: list[tuple[str, Role]] = []
    captioned: list[Callable[[], CaptionScheduler]] = []

    def prompts(moshi: Moshi) -> Prompts | None:
        from moshi_mlx.checkpoint.voices import Voices
        from moshi_mlx.web.prompts import Prompts

        name, wanted = chosen[-1]
        offline = bool(checkpoint.get("offline"))
        return Prompts(moshi, Voices(name, offline), wanted) if moshi.lm.config.takes_prompt else None

    def load(progress: LoadProgress) -> Moshi:
        from moshi_mlx.checkpoint.adapter import with_adapter
        from moshi_mlx.checkpoint.checkpoint import Checkpoint
        from moshi_mlx.runtime.moshi import assemble
        from moshi_mlx.tasks.persona import Role
        from moshi_mlx.weights.progress import progress_bar

        progress(None)  # a download's share is not known
        found = Checkpoint.resolve(**wanted)
        check(found)
        for note in found.choices:
            tell(note)
        # They may be refused, so before the weights.
        asked = wanted == dict(checkpoint)  # and not Nano in its place
        found = with_adapter(found, adapter if asked else None, offline=bool(checkpoint.get("offline")))
        who = role(found) if role and asked else Role()
        chosen.append((found.name, who))
        if captions:
            captioned[:] = [captions(found, max_sessions, tell)]
        tasks = tasks_of(found.lm_config, found.translates)
        main.settings, main.aliases = found.settings, frozenset([ALIASES.get(found.name, found.name)])
        main.voices = (
            voices_of(found, voices, bool(checkpoint.get("offline"))) if Task.SAY in tasks and asked else None
        )
        talks = Task.TALK in tasks
        how = played or {} if talks else {}
        kind = "mlx" if codec == "auto" and not talks else codec  # Rust's begins processes for each request
        with progress_bar("", found.weights.nbytes, progress) as advance:
            moshi = assemble(found, kind, kv_bits, advance, tell=tell, **how)
        if note := crowded(moshi.codec, max_sessions):
            tell(note)
        return moshi

    wanted = dict(checkpoint)

    def take_nano() -> dict[str, Any]:
        wanted.clear()
        wanted["name"] = nano.NAME
        return _about(nano.NAME)

    server = Server(
        load,
        _about(str(checkpoint.get("name", DEFAULT_MODEL))),
        max_sessions,
        Access(endpoint.names, endpoint.token, endpoint.page_hosts, endpoint.origins),
        page,
        limits or Limits(),
        keep_thread=True,
        take_nano=take_nano,
        prompts=prompts,
        captions=lambda: captioned[0]() if captioned else None,
        main=main,
        pool=pool,
        elsewhere=elsewhere or "",
        unload_after=unload_after,
    )
    interrupted = asyncio.run(_run(server, endpoint, browser, quiet, drain_seconds))
    if interrupted and not quiet:
        print("interrupted: the server has stopped, and its conversations have ended", file=sys.stderr)
    if server.model.working:
        # Still loading: a thread in MLX must not meet the end of the interpreter.
        sys.stderr.flush()
        os._exit(130 if interrupted else 0)
    return interrupted


def crowded(codec: Codec, people: int) -> str:
    """Return what is to be known of a codec that takes each conversation by itself; "" where it keeps time."""
    if people == 1 or not isinstance(codec, RustCodec):
        return ""
    cost, cores = codec.frame_cost(), this_machine().cores
    fit = codec_streams(cost, cores)
    if people <= fit:
        return ""
    return (
        f"--max-sessions {people} is more than rustymimi can do in time here, {fit}: a frame of each takes "
        f"{1000 * cost:.0f} ms of one of {cores} processors; --codec mlx takes all frames in one step"
    )


def _about(name: str) -> dict[str, Any]:
    """What clients are told of a model."""
    return {"model": name, "greeting": nano.greeting(name), "questions": nano.asked_of(name)}


async def _run(server: Server, endpoint: Endpoint, browser: bool, quiet: bool, drain_seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()
    draining: list[asyncio.Task[None]] = []

    def stop(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    def told(number: int) -> None:
        if number == signal.SIGTERM and not draining:
            draining.append(loop.create_task(server.drain(drain_seconds)))
            draining[0].add_done_callback(lambda done: stop(number))
        else:
            stop(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told, number)
    port = await server.start(endpoint.host, endpoint.port, endpoint.tls)
    _announce(endpoint, port, browser, quiet)
    ended = asyncio.create_task(server.model.ended())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in draining:
        task.cancel()
    await server.stop()
    await asyncio.to_thread(server.model.join, STOP_SECONDS)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ended, 0.1 * STOP_SECONDS)
    return stopped.done() and stopped.result() == signal.SIGINT


def _announce(endpoint: Endpoint, port: int, browser: bool, quiet: bool) -> None:
    """Print the addresses of the page, and open it."""
    say = partial(print, file=sys.stderr, flush=True)
    own = endpoint.host if endpoint.host not in _EVERYWHERE else "localhost"
    say(f"listening on {endpoint.url(own, port)}")
    if not _is_local(endpoint.host):
        others = [name for name in endpoint.names if _is_address(name) and not _is_local(name)]
        for name in others:
            say(f"from other machines: {endpoint.url(name, port)}")
        if endpoint.tls is None:
            say("note: without https, browsers on other machines give no microphone; see --lan and --tls")
        elif others and not quiet:
            import segno

            segno.make(endpoint.url(others[0], port)).terminal(out=sys.stderr, compact=True)
    if browser:
        # On a thread: some systems start a program and wait for it.
        threading.Thread(target=_open, args=(endpoint.url(own, port),), daemon=True).start()


def _open(url: str) -> None:
    graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if graphical:  # elsewhere a browser would open in the terminal, over what is printed there
        webbrowser.open(url)


def _is_local(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
