"""`moshi-mlx quantize`: a checkpoint in another precision."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import undone

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.quantize.card import Made
    from moshi_mlx.weights.quantization import Recipe

DEFAULT_RECIPE = "q4"
_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "": 1}


def parse_bytes(text: str) -> int:
    """Read bytes that a person writes as "4.2GB", "900 MB" or "4GiB". Raises WrongUsage for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b)?", text.strip().lower())
    count = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if not count:
        raise options.WrongUsage(f"{text!r} is not a size such as 4.2GB or 900MB")
    return count


SourceArgument = Annotated[
    str,
    typer.Argument(metavar="SRC", help="An alias, hub repository, folder or weights file, in any layout."),
]
FolderArgument = Annotated[
    Path | None, typer.Argument(metavar="DST", help="The model folder to make.", show_default=False)
]
ListOption = Annotated[
    bool,
    typer.Option(
        "--list-layers",
        help="Make nothing: list the layers by the names that a recipe calls them, and what it makes of them.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="bf16, q8, q6, q5, q4, q4-g64, mxfp4, mxfp8, nvfp4, mixed, or a FILE.json.",
        show_default=DEFAULT_RECIPE,
    ),
]
BitsOption = Annotated[int | None, typer.Option("--bits", help="Instead of a recipe: 2, 3, 4, 5, 6 or 8.")]
GroupSizeOption = Annotated[
    int | None, typer.Option("--group-size", help="Instead of a recipe: 32, 64 or 128 weights to a scale.")
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", help="Instead of a recipe: affine, mxfp4, mxfp8 or nvfp4.")
]
BudgetOption = Annotated[
    int | None,
    typer.Option(
        "--budget",
        metavar="SIZE",
        parser=parse_bytes,
        help="Instead of a recipe: search the best one of at most this much memory (4.2GB).",
    ),
]
CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Choose the levels of every group by what its layer is given.")
]
AudioOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="For --budget and --calibrate: a recording to measure on; may be given more than once.",
        show_default="questions",
    ),
]
LoraOption = Annotated[
    str | None,
    typer.Option("--lora", help="An adapter to merge first: a folder, lora.safetensors, or hub repository."),
]
LoraScalingOption = Annotated[
    float | None,
    typer.Option("--lora-scaling", help="The adapter's scaling.", show_default="as its config says"),
]
RequantizeOption = Annotated[bool, typer.Option("--requantize", help="Quantize also what is quantized already.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace DST if it is a model folder.")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", help="A config.json to use instead of SRC's: a path or hf://...")
]
TokenizerOption = Annotated[
    str | None, typer.Option("--tokenizer", help="A tokenizer to use instead of SRC's: a path or hf://...")
]
MimiOption = Annotated[
    str | None, typer.Option("--mimi", help="A Mimi file to use instead of SRC's: a path or hf://...")
]
ShardOption = Annotated[
    float | None,
    typer.Option("--shard-gb", min=0.001, help="The most one weights file may hold.", show_default="one file"),
]
QualityOption = Annotated[
    Path | None, typer.Option("--quality", help="Figures for the model card: a JSON file of names and values.")
]
UploadOption = Annotated[
    str | None, typer.Option("--upload", help="Put DST into this hub repository (owner/name) when it is made.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print what was made to stdout as a JSON object.")]


def quantize(
    source: SourceArgument,
    folder: FolderArgument = None,
    recipe: RecipeOption = None,
    bits: BitsOption = None,
    group_size: GroupSizeOption = None,
    mode: ModeOption = None,
    budget: BudgetOption = None,
    calibrate: CalibrateOption = False,
    audio: AudioOption = None,
    lora: LoraOption = None,
    lora_scaling: LoraScalingOption = None,
    requantize: RequantizeOption = False,
    force: ForceOption = False,
    config: ConfigOption = None,
    tokenizer: TokenizerOption = None,
    mimi: MimiOption = None,
    shard_gb: ShardOption = None,
    quality: QualityOption = None,
    upload: UploadOption = None,
    list_layers: ListOption = False,
    offline: options.OfflineOption = False,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Make DST, a model folder, of SRC in another precision.

    q4 and q8 are what Kyutai publishes (groups of 32 and 64, embeddings included); mixed keeps in q8 what is next
    to the tokens. bf16 dequantizes, or converts PyTorch's layout. Weights are read and written layer by layer, so
    memory stays small at any size, and DST appears only when it is whole. Norms stay in bfloat16, as do layers
    whose width the group does not divide; what stays is listed, and said in DST's model card.
    """
    from moshi_mlx.checkpoint.adapter import find_adapter
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.hub import parse_repo
    from moshi_mlx.models.config_reader import read_json
    from moshi_mlx.quantize.writer import check_free, make_checkpoint

    measures = budget or calibrate
    numbers = bits or group_size or mode
    _refuse(budget and (recipe or numbers), "--budget finds a recipe: leave --recipe and its numbers out")
    _refuse(recipe and numbers, f"--recipe {recipe} says it all: leave --bits, --group-size and --mode out")
    _refuse(
        lora and measures,
        "--budget and --calibrate measure SRC as it is: merge the adapter first, with --recipe bf16",
    )
    _refuse(
        list_layers and measures,
        "--list-layers shows what --recipe makes of SRC, without measuring: leave --budget and --calibrate out",
    )
    _refuse(audio and not measures, "--audio is what --budget and --calibrate measure on; leave it out")
    _refuse(upload and offline, "--upload needs the network that --offline forbids; leave one of them out")
    _refuse(lora_scaling is not None and not lora, "--lora-scaling is that of an adapter: give it with --lora")
    with options.usage():
        chosen = _recipe(recipe or DEFAULT_RECIPE, bits, group_size, mode)
        figures = read_json(quality) if quality else None
        if upload:
            parse_repo(upload)
    if list_layers:
        print(_layers(source, config, chosen, offline))
        return
    if folder is None:
        raise options.WrongUsage("DST is missing: name the model folder to make")
    check_free(folder, force)

    there = "as it was" if folder.exists() else "not made"
    with undone(f"{folder} is {there}, and nothing else is left"):
        found = Checkpoint.resolve(source, offline=offline, config=config, tokenizer=tokenizer, mimi_weights=mimi)
        adapter = find_adapter(lora, found, scaling=lora_scaling, offline=offline) if lora else None
        importance = None
        if measures:
            chosen, importance = _study(found, chosen, budget, calibrate, audio, quiet)
        made = make_checkpoint(
            found,
            folder,
            chosen,
            lora=adapter,
            requantize=requantize,
            force=force,
            shard_bytes=int(shard_gb * 1e9) if shard_gb else None,
            importance=importance,
            quality=figures,
            title=upload,
            progress=False if quiet else None,
        )
    with undone(f"{folder} is made, but {upload} may have only a part of it"):
        _report(made, upload, as_json, quiet)


def _refuse(wrong: object, message: str) -> None:
    if wrong:
        raise options.WrongUsage(message)


def _recipe(name: str, bits: int | None, group_size: int | None, mode: str | None) -> Recipe:
    """Return the recipe of some numbers; without any, the one of that name."""
    from moshi_mlx.weights.quantization import Recipe, make_scheme, parse_recipe

    if bits is None and group_size is None and mode is None:
        return parse_recipe(name)
    scheme = make_scheme(bits, group_size, mode)
    return Recipe(str(scheme).partition(" (")[0], scheme)


def _layers(source: str, config: str | None, recipe: Recipe, offline: bool) -> str:
    """Layers by the names a recipe calls them, their shapes, and what it makes of them. No weights are fetched."""
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.hub import survey
    from moshi_mlx.cli.tables import table
    from moshi_mlx.models.lm import Lm
    from moshi_mlx.quantize.quantizer import conversion, quantizable
    from moshi_mlx.weights.quantization import UNQUANTIZED

    with survey():
        found = Checkpoint.find(source, offline=offline, config=config)
    lm, wanted = Lm(found.lm_config), conversion(found.lm_config, recipe)
    layers = dict(lm.named_modules())
    rows: dict[tuple[str, ...], int] = {}
    for path in quantizable(lm):
        shape = " x ".join(map(str, layers[path]["weight"].shape))
        row = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path), shape, str(wanted.schemes.get(path, UNQUANTIZED))
        rows[row] = rows.get(row, 0) + 1
    return table(
        [(name, count, *others) for (name, *others), count in rows.items()], ("layer", "", "shape", recipe)
    )


def _study(
    checkpoint: Checkpoint,
    recipe: Recipe,
    budget: int | None,
    calibrate: bool,
    audio: list[Path] | None,
    quiet: bool,
) -> tuple[Recipe, dict[str, np.ndarray] | None]:
    """Return the recipe for a budget, and what calibrating needs; the whole model is in memory meanwhile."""
    from dataclasses import replace

    from moshi_mlx.audio.files import read_recordings
    from moshi_mlx.checkpoint.nano import RECORDING
    from moshi_mlx.quality.budget import Studied, steps_to_study
    from moshi_mlx.weights.progress import progress_bar

    recordings = read_recordings(audio or [RECORDING])
    shown = False if quiet else None
    with progress_bar("listening", steps_to_study(recordings), shown, "steps") as advance:
        studied = Studied(checkpoint, recordings, advance=advance)
    if budget:
        with progress_bar("searching", studied.steps, shown, "steps") as advance:
            recipe = studied.recipe(budget, advance)
    if not calibrate:
        return recipe, None
    return replace(recipe, name=f"{recipe.name}, calibrated"), studied.importance()


def _report(made: Made, upload: str | None, as_json: bool, quiet: bool) -> None:
    """Say what was made, and upload it if that is wanted."""
    from moshi_mlx.checkpoint import hub

    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if not quiet:
        print("\n".join(_summary(made)), file=sys.stderr)
    address = hub.upload(made.folder, upload) if upload else None
    if address and not quiet:
        print(f"uploaded to {address}", file=sys.stderr)
    if as_json:
        print(json.dumps({**vars(made), "folder": str(made.folder), "upload": address}))


def _summary(made: Made) -> list[str]:
    from moshi_mlx.cli.tables import byte_size
    from moshi_mlx.quantize.card import grouped

    layers = "; ".join(f"{count} layers in {scheme}" for scheme, count in made.schemes.items())
    lines = [
        f"{made.folder}: {byte_size(made.weights)} of weights, {made.bits_per_weight:.2f} bits each "
        f"({made.recipe}: {layers or 'nothing is quantized'}), {made.seconds:.0f} s",
    ]
    if made.schemes:
        lines.append(f"dense: {', '.join(grouped(made.dense))}")
    if made.undivided:
        lines.append(f"among them the group size does not divide: {', '.join(grouped(made.undivided))}")
    return lines
