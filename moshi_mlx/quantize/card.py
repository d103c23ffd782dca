"""The model card (README.md) of a checkpoint that was made here: what of, how, how large, and how good."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.places import ALIASES
from moshi_mlx.errors import CheckpointError
from moshi_mlx.version import __version__

NAME = "README.md"
_UNMEASURED = "Not measured yet: `moshi-mlx quality {base} {title}` does."
_SECTION = re.compile(r"(?<=## Quality\n\n).*?(?=\n\n## |\Z)", re.DOTALL)


@dataclass(frozen=True)
class Facts:
    """What a card says.

    base: what the checkpoint was made of. files: name -> bytes. schemes: description -> how many layers.
    dense: names of the parameters that are not quantized. lora: the adapter that was merged, "" for none.
    """

    base: str
    title: str  # what people pass to --model
    recipe: str
    bits_per_weight: float
    files: Mapping[str, int]
    schemes: Mapping[str, int]
    dense: tuple[str, ...]
    lora: str = ""


def card(facts: Facts, quality: Mapping[str, Any] | None = None) -> str:
    """The text. quality: measured figures by name, groups of them as a mapping inside."""
    base = ALIASES.get(facts.base, facts.base)
    is_hub = re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", base) and not Path(base).exists()
    if not is_hub:
        base = Path(base).name  # where a folder lies is nobody's business
    merged = f", with the LoRA adapter `{facts.lora}` merged" if facts.lora else ""
    layers = "; ".join(f"{count} layers in {scheme}" for scheme, count in facts.schemes.items())
    lines = [
        "---",
        "library_name: moshi-mlx",
        "tags: [mlx, moshi, speech-to-speech]",
        *([f"base_model: {base.partition('@')[0]}"] if is_hub else []),
        "---",
        "",
        f"# {facts.title}",
        "",
        f"`{base}`{merged}, for [MLX](https://github.com/ml-explore/mlx), made by moshi-mlx {__version__}",
        f"with the recipe `{facts.recipe}`: {layers or 'nothing is quantized'}.",
        "The licence is that of the model it was made of.",
        "",
        "```",
        f"moshi-mlx chat --model {facts.title}",
        "```",
        "",
        "## Size",
        "",
        f"{facts.bits_per_weight:.2f} bits per weight, scales and biases included.",
        "",
        *_table(("file", "bytes"), [(name, f"{size:,}") for name, size in facts.files.items()]),
        "",
        "Dense (bfloat16):",
        "",
        *(f"* {line}" for line in grouped(facts.dense)),
        "",
        "## Quality",
        "",
        *_quality(quality, _UNMEASURED.format(base=base, title=facts.title)),
        "",
    ]
    return "\n".join(lines)


def add_quality(folder: Path, quality: Mapping[str, Any]) -> None:
    """Put measured figures into the card of a checkpoint, in place of what it says of its quality.

    Raises CheckpointError if the folder has no card of ours.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
        if not _SECTION.search(text):
            raise CheckpointError(f"{path} has no section Quality; it was not made by moshi-mlx quantize")
        measured = "\n".join(_quality(quality, ""))
        path.write_text(_SECTION.sub(lambda _: measured, text, count=1).rstrip() + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error


def grouped(names: Iterable[str]) -> list[str]:
    """Parameter names, those that differ in a number only as one: "transformer.layers.*.norm1.weight (32)"."""
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
