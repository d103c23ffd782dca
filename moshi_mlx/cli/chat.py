"""`moshi-mlx chat`: talk with Moshi through the microphone and the speaker."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from moshi_mlx.cli import options

InputOption = Annotated[
    str | None,
    typer.Option(
        "--input", "-i", help="Microphone: index or part of a name, see devices.", show_default="default"
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Speaker: index or part of a name.", show_default="default"),
]
EchoOption = Annotated[
    Literal["auto", "linear", "webrtc", "off"],
    typer.Option("--echo", help="Echo canceller; with headphones auto costs nothing."),
]


def chat(
    model: options.ModelOption = None,
    quantized: options.QuantizedOption = None,
    codec: options.CodecOption = "auto",
    kv_bits: options.KvBitsOption = None,
    offline: options.OfflineOption = False,
    microphone: InputOption = None,
    speaker: OutputOption = None,
    echo: EchoOption = "auto",
    seed: options.SeedOption = None,
    text_temperature: options.TextTemperatureOption = None,
    text_top_k: options.TextTopKOption = None,
    audio_temperature: options.AudioTemperatureOption = None,
    audio_top_k: options.AudioTopKOption = None,
    top_p: options.TopPOption = None,
    min_p: options.MinPOption = None,
    repetition_penalty: options.RepetitionPenaltyOption = None,
    repetition_context: options.RepetitionContextOption = None,
    save: Annotated[
        Path | None,
        typer.Option(help="A new folder that keeps the conversation: both voices, their mix, the words."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write every stage's times here, for ui.perfetto.dev.")
    ] = None,
    refresh: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=3600,
            metavar="SECONDS",
            help="When the model's window is full, let it forget at the next pause all but the last SECONDS.",
            show_default="off",
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option("--latency", help="Instead of talking, play ten clicks and show where the milliseconds go."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events to stdout, one JSON object a line.")
    ] = False,
    quiet: options.QuietOption = False,
) -> None:
    """Talk with Moshi: it listens and speaks at the same time, so just talk, and interrupt it as you like.

    The microphone opens when the model is loaded and warm. On a terminal: m mutes the microphone, space is
    push-to-talk (push to speak, push again when done), f lets Moshi forget all but the last 20 seconds, r begins
    a new conversation, q quits. `--model nano` needs no download and knows some questions.

    With --json: {"event": "text", "t": seconds, "text": piece}, {"event": "device", "kind": ..., "message": ...},
    {"event": "state", "state": "ready"} (or muted, listening, refresh, reset, loop), {"event": "drops", "t": ...,
    "dropped": frames, "underruns": gaps}, {"event": "echo", "t": ..., "state": ..., "erle_db": ...}, last
    {"event": "end", ...}; a reset begins t anew. With --latency only {"event": "latency", "mouth_to_ear_ms": ...,
    "rungs": [{"name": ..., "ms": ...}, ...]}.
    """
    if latency and (save or trace or refresh):
        raise typer.BadParameter("--latency is no conversation: leave out --save, --trace and --refresh")
    from moshi_mlx.cli.latency import measure_latency
    from moshi_mlx.cli.talk import Setup, talk

    setup = Setup(
        checkpoint=options.given(name=model, quantization=quantized, offline=offline),
        codec=codec,
        kv_bits=kv_bits,
        devices=options.given(input=microphone, output=speaker),
        echo=echo,
        seed=seed,
        sampling=options.sampling(locals()),
    )
    if latency:
        measure_latency(setup, as_json=as_json, quiet=quiet)
    else:
        talk(setup, save=save, trace=trace, refresh=refresh, as_json=as_json, quiet=quiet)
