"""`moshi-mlx bench`: how fast the program is here."""

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import undone

if TYPE_CHECKING:
    from moshi_mlx.quality.behaviour.voice import VoiceDetector


def bench(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Measure this model (as for run) instead of random weights."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of the random weights: moshi-7b, personaplex-7b, stt-1b, stt-2.6b, hibiki-1b, hibiki-2b, "
            "hibiki-zero-3b, tts-1.6b, helium-2b, moshi-tiny.",
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
            help="What the random weights are: q4, q8, q6, q5, q4-g64, mxfp4, bf16 or f32 (4 is q4, 8 is q8). "
            "A model is only checked against it, as in other commands.",
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
            show_default="0 and the full window; 0 with --sustained",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Conversations that are stepped together.")] = 1,
    repeat: Annotated[
        int,
        typer.Option(min=1, help="Measure each run so often; the one in the middle is shown, with the spread."),
    ] = 1,
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
        Literal["auto", "rust", "mlx", "none"] | None,
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
    share: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Also check MLX and let the model behave in the builtin scenes of eval; write all of it into "
            "this file, and print a row for docs/benchmarks.md.",
        ),
    ] = None,
    gate: Annotated[bool, typer.Option("--gate", help="End with exit code 1 if any run is a FAIL.")] = False,
    offline: options.OfflineOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report as a table in Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the report as CSV, one line a run.")] = False,
) -> None:
    """Measure how fast a model is on this machine.

    Frames run as fast as they can (burst) and, with --paced, one every 80 ms. The report has times per stage,
    memory, bytes read per frame and what share of the chip's bandwidth that is. PASS means that 99 % of the
    frames took at most 80 ms in every run, with an empty and with a full window unless --context says otherwise.
    It goes to stdout; with --json it also describes machine, versions and commit.
    """
    if as_json + markdown + csv > 1:
        raise typer.BadParameter("--json, --markdown and --csv exclude each other")
    if compare:
        flags = {"--json": as_json, "--markdown": markdown, "--csv": csv, "--gate": gate, "--plot": plot}
        flags |= {"--share": share}
        if ignored := [name for name, value in flags.items() if value]:
            raise typer.BadParameter(f"--compare prints two reports as text: leave out {', '.join(ignored)}")
        from moshi_mlx.bench.report import read_report
        from moshi_mlx.cli.bench_report import compare_text

        print(compare_text(*map(read_report, compare)))
        return
    if model and (random or shape or counts):
        raise typer.BadParameter("--model is a checkpoint: leave out --random, --shape and --counts")
    from moshi_mlx.bench import shapes
    from moshi_mlx.bench.times import DEFAULT_KIND, DEFAULT_SHAPE, times_report
    from moshi_mlx.cli.bench_report import counts_text, csv_text, markdown_text, run_text

    with options.usage():
        if model is None:
            shapes.shape(shape or DEFAULT_SHAPE)
            shapes.kind_named(quantized or DEFAULT_KIND)
        else:
            options.known_scheme(quantized)

    left_out = {"--counts": counts, "--json": as_json, "--markdown": markdown, "--csv": csv}
    detector = _check_sharing(share, model, **left_out) if share else None
    if counts:
        others = {"--codec": codec, "--kv-bits": kv_bits, "--sustained": sustained, "--plot": plot}
        flags = {"--paced": paced, "--gate": gate, "--markdown": markdown, "--csv": csv}
        flags |= {"--batch": batch > 1, "--repeat": repeat > 1}
        timed = options.given(**others, **{name: given or None for name, given in flags.items()})
        if timed:
            raise typer.BadParameter(f"--counts measures no time: leave out {', '.join(timed)}")
        from moshi_mlx.bench.counts import counts_report  # it puts counting functions into MLX while it counts

        report = counts_report(
            shape or DEFAULT_SHAPE,
            quantized or DEFAULT_KIND,
            frames or 200,
            **options.given(contexts=context and _contexts(context)),
        )
        print(json.dumps(report) if as_json else counts_text(report["counts"]))
        return
    from moshi_mlx.cli.plots import check_plot, plot_frame_times

    if plot:
        check_plot(plot)

    def tell(line: str) -> None:
        if not as_json:
            print(line, file=sys.stderr, flush=True)

    tell(f"measuring {model or f'random weights of the shape {shape or DEFAULT_SHAPE}'}")
    countdown = Countdown(sys.stderr)
    with undone("the measurement is not finished, and nothing is reported"):
        report = times_report(
            **options.given(
                model=model, shape_name=shape, kind=quantized, codec=codec, frames=frames, kv_bits=kv_bits
            ),
            contexts=_contexts(context) if context else None,
            batch=batch,
            repeat=repeat,
            paced=paced,
            sustained=_seconds(sustained) if sustained else None,
            keep=plot is not None,
            offline=offline,
            tell=tell,
            progress=countdown if sys.stderr.isatty() else False,
        )
    if plot:
        plot_frame_times(report, plot)
    if share and detector:
        from moshi_mlx.cli.share import measured, row_text, write_shared

        print(run_text(report), file=sys.stderr)
        answers = share.with_name(f"{share.stem}-answers")
        with undone(lambda: f"nothing is shared; what the model said is kept in {answers}, and not said again"):
            found = measured(str(model), detector, report, answers, codec or "auto", offline)
        write_shared(share, found)
        print(row_text(found))
        tell(f"attach {share} to an issue or a pull request, see docs/benchmarks.md")
        return
    shown = json.dumps if as_json else markdown_text if markdown else csv_text if csv else run_text
    print(shown(report))
    if gate and not report["passed"]:
        raise typer.Exit(1)


def _check_sharing(path: Path, model: str | None, **others: bool) -> "VoiceDetector":
    """Refuse at once what would be of no use after minutes; return what hears answers."""
    from moshi_mlx.cli.share import check_before

    if ignored := [name for name, value in others.items() if value]:
        raise typer.BadParameter(f"--share writes all there is to say: leave out {', '.join(ignored)}")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"--share {path}: there is no folder {path.parent}")
    with options.usage():
        return check_before(model)


class Countdown:
    """Says once a second on a terminal what share of a measurement is done.

    A bar that draws itself would take its time from the frames that are measured.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = self._shown = time.perf_counter()

    def __call__(self, share: float) -> None:
        now = time.perf_counter()
        if now - self._shown < 1 and share < 1:
            return
        self._shown = now
        left = (now - self._began) * (1 - share) / share
        line = f"{share:4.0%}, {left:.0f} s left" if share < 1 else ""
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()


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
    if not match or not float(match[1]):
        raise typer.BadParameter(f"--sustained {text}: give a time such as 30s, 10m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
