"""`python -m moshi_mlx.local_web`: the flags people know, in front of `moshi-mlx serve`."""

from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import INTERRUPTED
from moshi_mlx.cli.main import program, run_program
from moshi_mlx.cli.serve import BrowserOption, HostOption, PortOption
from moshi_mlx.errors import ServerError


def local_web(
    *,
    kyutai: options.KyutaiOptions,
    steps: Annotated[int | None, typer.Option(help="Accepted without effect: there is no limit.")] = None,
    static: Annotated[
        str | None,
        typer.Option(help="Folder with a page to serve instead of our own; none for no page."),
    ] = None,
    host: HostOption = None,
    port: PortOption = None,
    ssl: Annotated[
        Path | None, typer.Option(help="Folder with cert.pem and key.pem: https instead of http.")
    ] = None,
    browser: BrowserOption = True,
) -> None:
    """Serve the web page. `moshi-mlx serve` does the same and has more options."""
    from moshi_mlx.cli.mlx_check import warn_once
    from moshi_mlx.cli.words import tell
    from moshi_mlx.web.serving.program import choose_endpoint, run_server
    from moshi_mlx.web.serving.server import PAGE

    page = PAGE if static is None else None if static == "none" else Path(static)
    if page and not page.is_dir():
        raise ServerError(f"--static {static}: there is no such folder")
    tls = (ssl / "cert.pem", ssl / "key.pem") if ssl else None
    endpoint = choose_endpoint(**options.given(host=host, port=port, tls=tls))
    warn_once(tell)
    interrupted = run_server(
        checkpoint=kyutai.model().checkpoint,
        endpoint=endpoint,
        page=page,
        browser=browser,
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    run_program(program(local_web))
