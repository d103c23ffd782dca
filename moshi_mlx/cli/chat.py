"""`moshi-mlx chat`: talk with Moshi through the microphone and the speaker."""

from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.persona import NOBODY, PersonaOptions


def chat(
    *,
    model: options.ModelOptions,
    devices: options.DeviceOptions,
    sampling: options.SamplingOptions,
    persona: PersonaOptions,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep the conversation in this new folder: both voices, their mix, the words."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the conversation where `moshi-mlx history` finds it.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write the times of every stage to this file, for ui.perfetto.dev.")
    ] = None,
    trim: options.TrimOption = None,
    captions: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Write down what you say with this speech-to-text model (stt-1b, nano-stt), in the time "
            "Moshi leaves.",
        ),
    ] = None,
    unload_after: options.UnloadAfterOption = None,
    latency: Annotated[
        bool,
        typer.Option("--latency", help="Instead of talking, play ten clicks and show a breakdown of the latency."),
    ] = False,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Talk with Moshi. It listens while it speaks: just talk, and interrupt it as you like.

    The microphone opens when the model is loaded and warm. On a terminal, m mutes the microphone, space is
    push-to-talk (push, speak, push again), f lets Moshi forget all but the last 20 seconds, r begins a new
    conversation, + and - change the volume, i and o take the next microphone and speaker, s keeps the conversation
    for `moshi-mlx history`, ? shows all keys and q quits. `--model nano` needs no download and answers some
    questions.

    With --json: {"event": "text", "t": seconds, "text": piece}, {"event": "turn", "speaker": "user" or "moshi",
    "t": ..., "end": ...} when one is over, with --captions {"event": "caption", "word": ..., "start": ...,
    "end": ...}, {"event": "device", "kind": ..., "message": ...},
    {"event": "state", "state": "ready"} (or muted, listening, reset, refresh: the context was trimmed, loop: Moshi
    repeats itself, unloaded and loading with --unload-after), {"event": "drops", "t": ..., "dropped": frames,
    "underruns": gaps}, {"event": "echo", "t": ..., "state": ..., "erle_db": ...}, last {"event": "end", ...}.
    After a reset t starts again at 0. With --latency only {"event": "latency", "mouth_to_ear_ms": ..., "rungs":
    [{"name": ..., "ms": ...}, ...]}.
    """
    if latency and (save or keep or trace or trim or captions or unload_after or persona != NOBODY):
        others = "--save, --keep, --trace, --trim, --captions, --unload-after, --voice and --persona"
        raise typer.BadParameter(f"--latency is no conversation: leave out {others}")
    if latency:
        from moshi_mlx.cli.latency import measure_latency

        measure_latency(model, devices, sampling, as_json=as_json, quiet=quiet)
    else:
        from moshi_mlx.cli.talk import talk

        talk(
            model,
            devices,
            sampling,
            persona=persona,
            save=save,
            keep=keep,
            trace=trace,
            trim=trim,
            captions=captions,
            unload_after=unload_after,
            as_json=as_json,
            quiet=quiet,
        )
