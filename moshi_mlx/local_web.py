"""`python -m moshi_mlx.local_web`: the flags people know, in front of `moshi-mlx serve`."""

from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.answer import INTERRUPTED
from moshi_mlx.cli.main import reported
from moshi_mlx.cli.serve import BrowserOption, HostOption, PortOption
from moshi_mlx.errors import ServerError
from moshi_mlx.wire.messages import DEFAULT_PORT

app = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False, rich_markup_mode=None)


@app.command()
def local_web(
    quantized: options.QuantizedOption = None,
    hf_repo: Annotated[
        str | None,
        typer.Option(help="As --model of `moshi-mlx serve`.", show_default="moshiko of that quantization"),
    ] = None,
    moshi_weight: options.FileOption = None,
    mimi_weight: options.FileOption = None,
    tokenizer: options.FileOption = None,
    lm_config: options.FileOption = None,
    steps: Annotated[int | None, typer.Option(help="Accepted and without effect: there is no limit.")] = None,
    static: Annotated[
        str | None,
        typer.Option(help="A folder with a page to serve instead of the own one; none for no page."),
    ] = None,
    host: HostOption = None,
    port: PortOption = DEFAULT_PORT,
    ssl: Annotated[
        Path | None, typer.Option(help="A folder with cert.pem and key.pem: https instead of http.")
    ] = None,
    browser: BrowserOption = True,
) -> None:
    """Serve the web page. `moshi-mlx serve` does the same and has more options."""
    from moshi_mlx.web.program import choose_endpoint, serve
    from moshi_mlx.web.server import PAGE

    files = options.given(lm_weights=moshi_weight, mimi_weights=mimi_weight, tokenizer=tokenizer, config=lm_config)
    page = PAGE if static is None else None if static == "none" else Path(static)
    if page and not page.is_dir():
        raise ServerError(f"--static {static}: there is no such folder")
    interrupted = serve(
        checkpoint=options.given(name=hf_repo or options.moshiko(quantized), quantization=quantized, **files),
        endpoint=choose_endpoint(host, port, tls=(ssl / "cert.pem", ssl / "key.pem") if ssl else None),
        page=page,
        browser=browser,
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    reported(app)
