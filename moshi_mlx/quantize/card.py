"""The model card (README.md) of a checkpoint that was made here: of what, how, how large, and how good."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.names import ALIASES
from moshi_mlx.errors import CheckpointError, system_errors
from moshi_mlx.version import __version__

NAME = "README.md"
_UNMEASURED = "Not measured yet: `moshi-mlx quality {base} {title}` does."
_SECTION = re.compile(r"(?<=## Quality\n\n).*?(?=\n\n## |\Z)", re.DOTALL)


@dataclass(frozen=True)
class Made:
    """A checkpoint that was made, and what its card says.

    base: what it was made of. title: what people pass to --model. schemes: description -> how many layers.
    weights: bytes of the language model's tensors. dense: its parameters that are not quantized; undivided: those
    of them that the recipe would quantize. files: name -> bytes. lora: the adapter that was merged, "" for none.
    notes: what a person should know of the weights.
    """

    folder: Path
    base: str
    title: str
    recipe: str
    schemes: Mapping[str, int]
    weights: int
    bits_per_weight: float
    dense: tuple[str, ...]
    undivided: tuple[str, ...]
    files: Mapping[str, int]
    lora: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def card(made: Made, quality: Mapping[str, Any] | None = None) -> str:
    """Return the text of a card. quality: measured figures by name, groups of them as a mapping inside."""
    from huggingface_hub import ModelCardData

    base = ALIASES.get(made.base, made.base)
    is_hub = re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", base) and not Path(base).exists()
    if not is_hub:
        base = Path(base).name  # where a folder lies is nobody's business
    header = ModelCardData(
        library_name="moshi-mlx",
        tags=["mlx", "moshi", "speech-to-speech"],
        base_model=base.partition("@")[0] if is_hub else None,
    )
    merged = f", with the LoRA adapter `{made.lora}` merged" if made.lora else ""
    layers = "; ".join(f"{count} layers in {scheme}" for scheme, count in made.schemes.items())
    lines = [
        "---",
        header.to_yaml(),
        "---",
        "",
        f"# {made.title}",
        "",
        f"`{base}`{merged}, for [MLX](https://github.com/ml-explore/mlx), made by moshi-mlx {__version__}",
        f"with the recipe `{made.recipe}`: {layers or 'nothing is quantized'}.",
        "The licence is that of the model it was made of.",
        "",
        "```",
        f"moshi-mlx chat --model {made.title}",
        "```",
        "",
        "## Size",
        "",
        f"{made.bits_per_weight:.2f} bits per weight, scales and biases included.",
        "",
        *_table(("file", "bytes"), [(name, f"{size:,}") for name, size in made.files.items()]),
        "",
        "Dense (bfloat16):",
        "",
        *(f"* {line}" for line in grouped(made.dense)),
        "",
        "## Quality",
        "",
        *_quality(quality, _UNMEASURED.format(base=base, title=made.title)),
        "",
    ]
    return "\n".join(lines)


def add_quality(folder: Path, quality: Mapping[str, Any]) -> None:
    """Put measured figures into the card of a checkpoint, in place of what it says of its quality.

    Raises CheckpointError if the folder has no card of ours.
    """
    path = folder / NAME
    with system_errors(f"cannot write {path}", CheckpointError):
        text = path.read_text(encoding="utf-8")
        if not _SECTION.search(text):
            raise CheckpointError(f"{path} has no section Quality; it was not made by moshi-mlx quantize")
        measured = "\n".join(_quality(quality, ""))
        path.write_text(_SECTION.sub(lambda _: measured, text, count=1).rstrip() + "\n", encoding="utf-8")


def grouped(names: Iterable[str]) -> list[str]:
    """Join parameter names that differ in a number only: "transformer.layers.*.norm1.weight (32)"."""
    counts: dict[str, int] = {}
    firsts: dict[str, str] = {}
    for name in names:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
        counts[pattern] = counts.get(pattern, 0) + 1
        firsts.setdefault(pattern, name)
    return [f"{pattern} ({count})" if count > 1 else firsts[pattern] for pattern, count in counts.items()]


def _quality(quality: Mapping[str, Any] | None, otherwise: str) -> list[str]:
    if not quality:
        return [otherwise]
    rows = []
    for name, value in quality.items():
        inside = value.items() if isinstance(value, Mapping) else [("", value)]
        rows += [(f"{name} {key}".strip(), _shown(figure)) for key, figure in inside]
    return _table(("measure", "value"), rows)


def _shown(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
