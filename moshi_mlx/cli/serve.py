"""`moshi-mlx serve`: the web page and Kyutai's protocol."""

from typing import Annotated

import typer

from moshi_mlx.cli import options


def serve(
    model: options.ModelOption = None,
    quantized: options.QuantizedOption = None,
    codec: options.CodecOption = "auto",
    kv_bits: options.KvBitsOption = None,
    offline: options.OfflineOption = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8998,
    max_sessions: Annotated[int, typer.Option(min=1, help="How many may talk at once.")] = 1,
    browser: Annotated[bool, typer.Option("--open/--no-browser", help="Open the page in the browser.")] = True,
    quiet: options.QuietOption = False,
) -> None:
    """Serve a web page to talk with Moshi, and Kyutai's protocol for other clients."""
    from moshi_mlx.web.program import serve as run

    run(
        checkpoint=options.given(name=model, quantization=quantized, offline=offline),
        codec=codec,
        kv_bits=kv_bits,
        host=host,
        port=port,
        max_sessions=max_sessions,
        browser=browser,
        quiet=quiet,
    )
