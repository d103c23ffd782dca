"""`moshi-mlx serve`: the web page and Kyutai's protocol."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import INTERRUPTED
from moshi_mlx.cli.persona import PersonaOptions
from moshi_mlx.cli.served_models import ServedModels
from moshi_mlx.wire.messages import DEFAULT_PORT

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
    from moshi_mlx.web.serving.program import Captions

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Address to listen on. Other machines can reach 0.0.0.0, and need the token.",
        show_default="localhost",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default=str(DEFAULT_PORT)
    ),
]
BrowserOption = Annotated[bool, typer.Option("--open/--no-browser", help="Open the page in the browser.")]


def serve(
    *,
    model: options.ModelOptions,
    persona: PersonaOptions,
    host: HostOption = None,
    port: PortOption = None,
    max_sessions: Annotated[
        int, typer.Option(min=1, max=64, help="How many people may talk at once; others wait for a place.")
    ] = 1,
    max_waiting: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1024,
            help="How many may wait for a place; others are refused. 0 behind a balancer, which asks the next.",
            show_default="64",
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86_400,
            help="How long conversations may go on after SIGTERM; a second one ends them.",
            show_default="300",
        ),
    ] = None,
    elsewhere: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where to send those who are refused, such as another server."),
    ] = None,
    unload_after: options.UnloadAfterOption = None,
    trim: options.TrimOption = None,
    captions: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Write down what people say with this speech-to-text model (stt-1b, nano-stt), in the time "
            "Moshi leaves.",
        ),
    ] = None,
    served: ServedModels,
    lan: Annotated[
        bool,
        typer.Option(
            "--lan", help="Let other machines in: https with a self-signed certificate, a token, a QR code."
        ),
    ] = False,
    tls: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Serve https with this certificate and key, PEM files."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that clients must send (?token=...); none lets in everybody.",
            show_default="a random one unless on localhost",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name of this server, as behind a proxy, whose pages may talk; may be repeated."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Let a page that is served elsewhere talk, such as https://example.com."),
    ] = None,
    browser: BrowserOption = True,
    quiet: options.QuietOption = False,
) -> None:
    """Serve a web page to talk with Moshi, for the browser's echo cancellation, a telephone, or several people.

    Kyutai's Python, web and Rust clients connect to /api/chat, with the query parameters they know. When all
    places are taken, a client waits for its handshake and is told its position in the queue. /health (for
    balancers), /metrics (Prometheus) and /api/info report on the server; log lines name the session they concern.
    SIGTERM lets conversations finish, a second one ends them. `--model nano` needs no download.

    Clients of OpenAI's API find theirs at /v1/: with --stt, --tts and --translate, or with such a model as
    --model, which then is all that is served.
    """
    from moshi_mlx.cli.captions import machine_budget
    from moshi_mlx.cli.mlx_check import warn_once
    from moshi_mlx.cli.words import tell
    from moshi_mlx.web.limits import Limits
    from moshi_mlx.web.serving.program import choose_endpoint, run_server

    given = options.given(
        host=host, port=port, tls=tls, token=token, allow_hosts=allow_host, allow_origins=allow_origin
    )
    endpoint = choose_endpoint(lan=lan, **given)
    limits = Limits(**options.given(trim=trim, max_seconds=served.max_seconds, waiting=max_waiting))
    warn_once(tell)
    interrupted = run_server(
        checkpoint=model.checkpoint,
        endpoint=endpoint,
        codec=model.codec,
        kv_bits=model.kv_bits,
        played=model.played,
        max_sessions=max_sessions,
        limits=limits,
        browser=browser,
        quiet=quiet,
        role=lambda found: persona.read(found, model.offline),
        captions=_captions(captions, model) if captions else None,
        adapter=model.adapter,
        others=lambda tell: served.find(model, tell),
        budget=machine_budget(),
        voices=served.voices,
        elsewhere=elsewhere,
        **options.given(
            idle=60 * served.idle_minutes if served.idle_minutes else None,
            drain_seconds=drain_seconds,
            unload_after=60 * unload_after if unload_after else None,
        ),
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _captions(name: str, model: options.ModelOptions) -> "Captions":
    """What finds and loads the speech-to-text model of this name beside a model that talks."""

    def beside(
        talking: "Checkpoint", people: int, tell: Callable[[str], None]
    ) -> "Callable[[], CaptionScheduler]":
        from moshi_mlx.cli.captions import captions_beside

        return captions_beside(talking, name, model, people, tell)

    return beside
