"""`moshi-mlx quality`: does a change leave what a model says as it was?"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import undone
from moshi_mlx.sampling_config import MAX_SEED


def quality(
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="The model to compare with: an alias, hub repository or folder."),
    ],
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="CANDIDATE...",
            help="Checkpoints, recipes (q4, mine.json), or kv8, codec=, activations=, top_p= and other settings "
            "of the sampler; + joins them: q4+kv8.",
        ),
    ],
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recording to have a conversation with; may be given more than once.", show_default="questions"
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(min=1, max=256, help="How many recordings are heard and answered at a time."),
    ] = 8,
    adapter: options.AdapterOption = None,
    codec: options.CodecOption = "auto",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the reference's draws.")] = 0,
    offline: options.OfflineOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw KL against bytes per frame, one dot a candidate.")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="Write the figures into the model cards of candidates that `quantize` has made."
        ),
    ] = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure how far CANDIDATE is from REFERENCE, on the same tokens.

    REFERENCE has a conversation with each recording (four questions, unless --audio is given). All models then
    read the tokens of these conversations, and their predictions of every next token are compared: KL divergence,
    same likeliest token, perplexity, for the text and each codebook, with confidence intervals. A recipe is
    applied to REFERENCE's own weights, in memory. The first line says in words how near each candidate is.
    No network is needed for: moshi-mlx quality nano q8 q4 kv8
    """
    from moshi_mlx.cli.plots import check_plot, plot_qualities
    from moshi_mlx.cli.quality_report import card_figures, grade, quality_text

    if plot:
        check_plot(plot)
    from moshi_mlx.audio.files import read_recordings
    from moshi_mlx.bench.scene import scene
    from moshi_mlx.checkpoint.adapter import with_adapter
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.names import find_place
    from moshi_mlx.checkpoint.nano import RECORDING
    from moshi_mlx.quality.candidates import find_candidate, parse_candidate
    from moshi_mlx.quality.evaluator import Evaluator, Quality, steps_to_evaluate
    from moshi_mlx.quantize.card import add_quality
    from moshi_mlx.weights.progress import progress_bar

    with options.usage():
        wanted = [parse_candidate(text) for text in candidates]
        for candidate in wanted:
            if candidate.weights and not candidate.recipe:
                find_place(candidate.weights, offline)
    recordings = read_recordings(audio or [RECORDING])
    checkpoint = with_adapter(Checkpoint.resolve(reference, offline=offline), adapter, offline=offline)
    for candidate in wanted:
        find_candidate(candidate, checkpoint, offline)
    total = steps_to_evaluate(recordings, wanted)
    qualities: list[Quality] = []

    def state() -> str:
        return f"{len(qualities)} of {len(wanted)} candidates were compared, and nothing is reported"

    with undone(state), progress_bar("comparing", total, False if quiet else None, "steps") as advance:
        evaluator = Evaluator(checkpoint, recordings, seed, codec=codec, advance=advance, batch=batch)
        for candidate in wanted:
            qualities.append(evaluator.evaluate(candidate, offline))
    if plot:
        plot_qualities(plot, reference, qualities)
    for candidate, one in zip(wanted, qualities, strict=True):
        if card and candidate.folder:
            add_quality(candidate.folder, card_figures(reference, one))
    if as_json:
        report = {
            "reference": reference,
            "conversations": len(recordings),
            "candidates": [{"verdict": grade(one), **one.as_dict()} for one in qualities],
            "scene": scene(),
        }
        print(json.dumps(report))
    else:
        print(quality_text(reference, len(recordings), qualities))
    if plot and not quiet:
        print(f"plot in {plot}", file=sys.stderr)
