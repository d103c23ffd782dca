"""`moshi-mlx quantize`: a checkpoint in another precision."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moshi_mlx.cli import options
from moshi_mlx.errors import ConfigError, QuantizationError

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.quantize.card import Made
    from moshi_mlx.quantize.recipes import Recipe

DEFAULT_RECIPE = "q4"


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="An alias, hub repository, folder or weights file, in PyTorch's or MLX's layout."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DST", help="The model folder to make.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="bf16, q8, q6, q5, q4, q4-g64, mxfp4, mxfp8, nvfp4, mixed, or a FILE.json.",
            show_default=DEFAULT_RECIPE,
        ),
    ] = None,
    bits: Annotated[int | None, typer.Option("--bits", help="Instead of a recipe: 2, 3, 4, 5, 6 or 8.")] = None,
    group_size: Annotated[
        int | None, typer.Option("--group-size", help="Instead of a recipe: 32, 64 or 128 weights to a scale.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="Instead of a recipe: affine, mxfp4, mxfp8 or nvfp4.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            help="Instead of a recipe: search the best one of at most this much memory (4.2GB).",
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Choose the levels of every group by what its layer is given.")
    ] = False,
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            help="For --budget and --calibrate: a recording to measure on; may be given more than once.",
            show_default="questions",
        ),
    ] = None,
    lora: Annotated[
        str | None,
        typer.Option("--lora", help="An adapter to merge first: a folder, lora.safetensors, or hub repository."),
    ] = None,
    lora_scaling: Annotated[
        float | None, typer.Option("--lora-scaling", help="Of the adapter.", show_default="as its config says")
    ] = None,
    requantize: Annotated[
        bool, typer.Option("--requantize", help="Quantize also what is quantized already.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace DST if it is a model folder.")] = False,
    config: Annotated[
        str | None, typer.Option("--config", help="A config.json to use instead of SRC's: a path or hf://...")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="A tokenizer to use instead of SRC's: a path or hf://...")
    ] = None,
    mimi: Annotated[
        str | None, typer.Option("--mimi", help="A Mimi file to use instead of SRC's: a path or hf://...")
    ] = None,
    shard_gb: Annotated[
        float | None,
        typer.Option("--shard-gb", min=0.001, help="The most one weights file may hold.", show_default="one file"),
    ] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="Figures for the model card: a JSON file of names and values.")
    ] = None,
    upload: Annotated[
        str | None, typer.Option("--upload", help="Put DST into this hub repository (owner/name) when it is made.")
    ] = None,
    offline: options.OfflineOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was made to stdout as a JSON object.")
    ] = False,
    quiet: options.QuietOption = False,
) -> None:
    """Make DST, a model folder, of SRC in another precision.

    q4 and q8 are what Kyutai publishes (groups of 32 and 64, embeddings included); mixed keeps in q8 what is next
    to the tokens. bf16 dequantizes, or converts PyTorch's layout. Weights are read and written layer by layer, so
    memory stays small at any size, and DST appears only when it is whole. Norms stay in bfloat16, as do layers
    whose width is no multiple of the group; what stays is listed, and said in DST's model card.
    """
    from moshi_mlx.checkpoint.adapter import find_adapter
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.hub import parse_repo
    from moshi_mlx.checkpoint.hub import upload as put
    from moshi_mlx.quality.budget import parse_bytes
    from moshi_mlx.quantize.writer import check_free, make_checkpoint

    if budget and (recipe or bits or group_size or mode):
        raise QuantizationError(f"--budget {budget} finds a recipe: leave --recipe and its numbers out")
    if lora and (budget or calibrate):
        raise QuantizationError(
            "--budget and --calibrate measure SRC as it is: merge the adapter first, with --recipe bf16"
        )
    if audio and not (budget or calibrate):
        raise ConfigError("--audio is what --budget and --calibrate measure on; leave it out")
    size = parse_bytes(budget) if budget else None
    chosen = _recipe(recipe, bits, group_size, mode)
    figures = _figures(quality) if quality else None
    check_free(folder, force)
    if upload:
        parse_repo(upload)
    if upload and offline:
        raise ConfigError("--upload needs the network that --offline forbids; leave one of them out")
    if lora_scaling is not None and not lora:
        raise ConfigError("--lora-scaling is that of an adapter: give it with --lora")
    found = Checkpoint.resolve(source, offline=offline, config=config, tokenizer=tokenizer, mimi_weights=mimi)
    adapter = None
    if lora:
        adapter = find_adapter(lora, found, scaling=lora_scaling, offline=offline)
    importance = None
    if budget or calibrate:
        chosen, importance = _study(found, chosen, size, calibrate, audio, quiet)
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
    if not quiet:
        print("\n".join(_summary(made)), file=sys.stderr)
    address = put(made.folder, upload) if upload else None
    if address and not quiet:
        print(f"uploaded to {address}", file=sys.stderr)
    if as_json:
        print(json.dumps({**vars(made), "folder": str(made.folder), "upload": address}))


def _recipe(name: str | None, bits: int | None, group_size: int | None, mode: str | None) -> "Recipe":
    from moshi_mlx.quantize.recipes import Recipe, parse_recipe
    from moshi_mlx.weights.scheme import make_scheme

    if bits is None and group_size is None and mode is None:
        return parse_recipe(name or DEFAULT_RECIPE)
    if name:
        raise QuantizationError(f"--recipe {name} says it all: leave --bits, --group-size and --mode out")
    scheme = make_scheme(bits, group_size, mode)
    return Recipe(str(scheme).partition(" (")[0], scheme)


def _study(
    checkpoint: "Checkpoint",
    recipe: "Recipe",
    budget: int | None,
    calibrate: bool,
    audio: list[Path] | None,
    quiet: bool,
) -> "tuple[Recipe, dict[str, np.ndarray] | None]":
    """The recipe for a budget, and what calibrating needs; the whole model is in memory meanwhile."""
    from dataclasses import replace

    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.checkpoint.nano import RECORDING
    from moshi_mlx.quality.budget import Studied, steps_to_study
    from moshi_mlx.weights.progress import progress_bar

    recordings = [read_audio(path).pcm for path in audio or [RECORDING]]
    shown = False if quiet else None
    with progress_bar("listening", steps_to_study(recordings), shown, "steps") as advance:
        studied = Studied(checkpoint, recordings, advance=advance)
    if budget:
        with progress_bar("searching", studied.steps, shown, "steps") as advance:
            recipe = studied.recipe(budget, advance)
    if not calibrate:
        return recipe, None
    return replace(recipe, name=f"{recipe.name}, calibrated"), studied.importance()


def _figures(path: Path) -> dict[str, Any]:
    from moshi_mlx.models.config_reader import read_json

    return read_json(path)


def _summary(made: "Made") -> list[str]:
    from moshi_mlx.quantize.card import grouped

    layers = "; ".join(f"{count} layers in {scheme}" for scheme, count in made.schemes.items())
    lines = [
        f"{made.folder}: {_size(made.weights)} of weights, {made.bits_per_weight:.2f} bits each "
        f"({made.recipe}: {layers or 'nothing is quantized'}), {made.seconds:.0f} s",
    ]
    if made.schemes:
        lines.append(f"dense: {', '.join(grouped(made.dense))}")
    if made.undivided:
        lines.append(f"of these no multiple of the group wide: {', '.join(grouped(made.undivided))}")
    return lines


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
