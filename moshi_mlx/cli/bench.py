"""`moshi-mlx bench`: how fast the program is here."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from moshi_mlx.cli import options


def bench(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Measure this model (as for run) instead of random weights."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of the random weights: moshi-7b, hibiki-1b, helium-2b, moshi-tiny.",
            show_default="moshi-7b",
        ),
    ] = None,
    random: Annotated[
        bool,
        typer.Option("--random", help="Take random weights, without a download; the default without --model."),
    ] = False,
    quantized: Annotated[
        str | None,
        typer.Option(
            "--quantized",
            "-q",
            help="What the random weights are: bf16, f32, q8, q4, mxfp4. A model is only checked against it.",
            show_default="q4",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to measure, after the warm-up.", show_default="100")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Past frames in the window at the start; with several, one run each.",
            show_default="0",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Conversations that are stepped together.")] = 1,
    kv_bits: options.KvBitsOption = None,
    paced: Annotated[
        bool, typer.Option("--paced", help="Also measure at one frame every 80 ms, as a microphone gives them.")
    ] = False,
    sustained: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Instead, measure one paced run of this length (30s, 10m, 2h), reported by the minute.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Codec: rust, mlx, auto, or none for random codes.",
            show_default="none with random weights, else auto",
        ),
    ] = None,
    counts: Annotated[
        bool,
        typer.Option(
            "--counts", help="Count a frame's kernels, syncs, traces and bytes, which are the same on any machine."
        ),
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Compare two reports that --json printed."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the time of every frame; needs the extra `plots`."),
    ] = None,
    offline: options.OfflineOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure how fast a model is on this machine.

    Frames run as fast as they can (burst) and, with --paced, one every 80 ms. The report has times per stage,
    memory, bytes read per frame and what share of the chip's bandwidth that is; PASS means that 99 % of the
    frames took at most 80 ms. It goes to stdout; with --json it also describes machine, versions and commit.
    """
    if compare:
        from moshi_mlx.bench.report import read_report
        from moshi_mlx.cli.bench_report import compare_text

        print(compare_text(*map(read_report, compare)))
        return
    if model and (random or shape or counts):
        raise typer.BadParameter("--model is a checkpoint: leave out --random, --shape and --counts")
    from moshi_mlx.bench.times import DEFAULT_KIND, DEFAULT_SHAPE, times_report
    from moshi_mlx.cli.bench_report import counts_text, run_text

    if counts:
        others = {"--codec": codec, "--kv-bits": kv_bits, "--sustained": sustained, "--plot": plot}
        timed = options.given(**others, **{"--paced": paced or None, "--batch": batch if batch > 1 else None})
        if timed:
            raise typer.BadParameter(f"--counts measures no time: leave out {', '.join(timed)}")
        from moshi_mlx.bench.counts import counts_report  # it puts counting functions into MLX while it counts

        report = counts_report(
            shape or DEFAULT_SHAPE,
            quantized or DEFAULT_KIND,
            frames or 200,
            **options.given(contexts=context and _contexts(context)),
        )
        _show(report, counts_text(report["counts"]), as_json)
        return
    from moshi_mlx.cli.plots import check_plot, plot_frame_times

    if plot:
        check_plot(plot)
    if not as_json:
        print(f"measuring {model or 'random weights'}: {sustained or 'a minute or two'}", file=sys.stderr)
    report = times_report(
        **options.given(
            model=model, shape_name=shape, kind=quantized, codec=codec, frames=frames, kv_bits=kv_bits
        ),
        contexts=_contexts(context or "0"),
        batch=batch,
        paced=paced,
        sustained=_seconds(sustained) if sustained else None,
        keep=plot is not None,
        offline=offline,
    )
    if plot:
        plot_frame_times(report, plot)
    _show(report, run_text(report), as_json)


def _contexts(text: str) -> list[int]:
    try:
        contexts = [int(part) for part in text.split(",")]
    except ValueError:
        contexts = [-1]
    if min(contexts) < 0:
        raise typer.BadParameter(f"--context {text}: give numbers of frames, 0 or more, with commas between them")
    return contexts


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match:
        raise typer.BadParameter(f"--sustained {text}: give a time such as 30s, 10m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _show(report: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(report) if as_json else text)
