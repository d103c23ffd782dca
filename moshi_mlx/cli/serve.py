"""`moshi-mlx serve`: the web page and Kyutai's protocol."""

from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import INTERRUPTED
from moshi_mlx.wire.messages import DEFAULT_PORT

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Address to listen on; other machines reach 0.0.0.0, and need the token.",
        show_default="localhost",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.", show_default=str(DEFAULT_PORT)),
]
BrowserOption = Annotated[bool, typer.Option("--open/--no-browser", help="Open the page in the browser.")]


def serve(
    *,
    model: options.ModelOptions,
    host: HostOption = None,
    port: PortOption = None,
    max_sessions: Annotated[
        int, typer.Option(min=1, max=64, help="How many may talk at once; others wait for a place.")
    ] = 1,
    trim: options.TrimOption = None,
    lan: Annotated[
        bool,
        typer.Option(
            "--lan", help="Let other machines in: https with a certificate of its own, a token, a QR code."
        ),
    ] = False,
    tls: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="CERT KEY", help="https with these two PEM files.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="What clients must give (?token=...); none lets in everybody.",
            show_default="a random one unless on localhost",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name of this server besides its own, as behind a proxy.")
    ] = None,
    browser: BrowserOption = True,
    quiet: options.QuietOption = False,
) -> None:
    """Serve a web page to talk with Moshi, for the browser's echo cancellation, a telephone, or several people.

    Clients of Kyutai's protocol are served at /api/chat: the Python, web and Rust clients, with their query
    parameters. When all places are taken, a client waits, without handshake, and is told its position in the line.
    /health, /metrics (Prometheus) and /api/info tell how it goes; log lines carry the session they concern.
    `--model nano` needs no download.
    """
    from moshi_mlx.web.program import choose_endpoint, run_server

    given = options.given(host=host, port=port, tls=tls, token=token, allow_hosts=allow_host)
    interrupted = run_server(
        checkpoint=model.checkpoint,
        endpoint=choose_endpoint(lan=lan, **given),
        codec=model.codec,
        kv_bits=model.kv_bits,
        max_sessions=max_sessions,
        trim=trim,
        browser=browser,
        quiet=quiet,
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)
