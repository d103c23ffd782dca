"""`moshi-mlx eval`: how does a full-duplex model behave?"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import undone
from moshi_mlx.sampling_config import MAX_SEED

if TYPE_CHECKING:
    from moshi_mlx.quality.behaviour.scene import Scene

BUILTIN = "builtin"


def eval_(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoints, with + and a recipe, kv8, codec= or a setting of the sampler: moshiko-bf16+q4; "
            "or folders of answers that were made elsewhere. The first one is the reference.",
            show_default=False,
        ),
    ] = None,
    scenes: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder of scenes, as Full-Duplex-Bench has them; builtin: 200, spoken by flite and espeak-ng.",
        ),
    ] = BUILTIN,
    into: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the answers; those that it holds are not made again.")
    ] = Path("eval"),
    over: Annotated[
        str | None,
        typer.Option(
            metavar="ws://...",
            help="Server of Kyutai's protocol to talk with, too, in real time.",
            show_default="none",
        ),
    ] = None,
    words: Annotated[
        Literal["monologue", "stt"],
        typer.Option(help="Where words come from: the inner monologue, or a transcript of the voice."),
    ] = "monologue",
    stt_model: Annotated[
        str | None, typer.Option(help="Speech-to-text model of --words stt.", show_default="stt-1b")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Number of conversations in a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the draws.")] = 0,
    codec: options.CodecOption = "auto",
    offline: options.OfflineOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw every figure with its interval.")
    ] = None,
    as_json: options.JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables in Markdown.")] = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure how MODEL behaves in scenes: does it wait in pauses, take turns, yield when interrupted?

    The figures are those of Full-Duplex-Bench, whose folders are read and written: docs/evaluation.md explains
    each one. Several models get the same scenes; differences from the first one have 95 % intervals, and the first
    lines say which of them are beyond doubt. Interrupted, the same command goes on where it was.
    """
    from moshi_mlx.cli.eval_report import as_dict, behaviour_markdown, behaviour_text
    from moshi_mlx.cli.eval_run import Evaluation, answers_in
    from moshi_mlx.cli.plots import check_plot, plot_behaviours

    if plot:
        check_plot(plot)
    if as_json and as_markdown:
        raise typer.BadParameter("--json and --markdown both want standard output: give one of them")
    if not models and not over:
        raise typer.BadParameter("name a MODEL, such as nano, or a server with --over")
    from moshi_mlx.bench.scene import scene
    from moshi_mlx.quality.behaviour.systems import has_answers, parse_system
    from moshi_mlx.quality.behaviour.voice import VoiceDetector

    detector = VoiceDetector()
    names = models or []
    with options.usage():
        systems = {name: None if has_answers(Path(name)) else parse_system(name) for name in names}
    played = [system for system in systems.values() if system]
    progress = False if quiet else None
    found = _scenes(scenes, progress) if played or over else []
    evaluation = Evaluation(found, into, seed, words, stt_model, codec, batch, offline, progress)
    with undone(
        lambda: f"{evaluation.done} scenes were answered, and are kept in {into}; the same command goes on"
    ):
        roots = evaluation.play(played)
        roots |= {name: Path(name) for name, system in systems.items() if system is None}
        order = {name: roots[name] for name in names}
        if over:
            order |= evaluation.play_over(over)
    behaviours = []
    for name, root in order.items():
        samples, notes = answers_in(root, detector, found if root.is_relative_to(into) else None)
        behaviours.append(evaluation.summed_up(name, samples))
        for note in notes:
            print(f"note: {name}: {note}", file=sys.stderr)
    if plot:
        plot_behaviours(plot, behaviours)
    if as_json:
        settings = {"seed": seed, "words": words, "voice_detector": detector.name}
        print(json.dumps({**as_dict(behaviours), **settings, "scene": scene()}, allow_nan=False))
    else:
        print((behaviour_markdown if as_markdown else behaviour_text)(behaviours))
    if plot and not quiet:
        print(f"plot in {plot}", file=sys.stderr)


def _scenes(text: str, progress: bool | None) -> "list[Scene]":
    from moshi_mlx.quality.behaviour.builtin import builtin_scenes
    from moshi_mlx.quality.behaviour.scene import read_scenes

    return builtin_scenes(progress=progress) if text == BUILTIN else read_scenes(text)
