"""Recipes: which layer of a model is quantized how, by name or from a file.

A recipe file is JSON: {"bits": 4, "group_size": 32, "mode": "affine", "layers": {"text_linear": false,
"depformer.*": {"bits": 8, "group_size": 64}}}. A layer is named by its path, or by a pattern with * for any
characters; its own path goes before patterns, the first pattern that fits before later ones.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.config import read_json
from moshi_mlx.weights.scheme import NAMED, Scheme, make_scheme

Choice = bool | Mapping[str, Any]
"""Whether to quantize a layer, or how: any of bits, group_size and mode. Where it has no mode of its own, what it
leaves out is as in the recipe's scheme."""


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    scheme: of every layer that `layers` does not name; None quantizes nothing.
    layers: path or pattern -> choice. Raises QuantizationError for a choice that MLX does not have.
    """

    name: str
    scheme: Scheme | None
    layers: Mapping[str, Choice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.layers:
            self._chosen(path)

    def __str__(self) -> str:
        return self.name

    def how(self, path: str) -> Scheme | None:
        """The scheme of a layer, None to leave it dense."""
        if path in self.layers:
            return self._chosen(path)
        pattern = next((one for one in self.layers if "*" in one and fnmatchcase(path, one)), None)
        return self._chosen(pattern) if pattern else self.scheme

    def predicate(self, path: str, layer: object = None) -> bool | dict[str, Any]:
        """mlx-lm's `quant_predicate`, for `quantize_lm` and `mlx.nn.quantize`."""
        how = self.how(path)
        return how.block() if how else False

    def as_json(self) -> dict[str, Any]:
        """What a recipe file says."""
        layers = {path: dict(how) if isinstance(how, Mapping) else how for path, how in self.layers.items()}
        return {**(self.scheme.block() if self.scheme else {}), **({"layers": layers} if layers else {})}

    def _chosen(self, path: str) -> Scheme | None:
        choice = self.layers[path]
        if isinstance(choice, bool):
            return self.scheme if choice else None
        if not isinstance(choice, Mapping) or choice.keys() - {"bits", "group_size", "mode"}:
            raise QuantizationError(
                f"recipe {self.name} says {choice!r} of {path}: true, false, or any of bits, group_size and mode "
                "expected"
            )
        default = self.scheme.block() if self.scheme and "mode" not in choice else {}
        return make_scheme(**{**default, **choice}, where=f"recipe {self.name}, layer {path}: ")


MIXED_Q8 = ("depformer.*", "text_linear", "text_emb", "audio_embs.*", "extra_heads.*")
"""What `mixed` keeps in q8: the layers next to the tokens, 14 % of Moshi 7B's weights."""

RECIPES = {
    "bf16": Recipe("bf16", None),
    **{name: Recipe(name, scheme) for name, scheme in NAMED.items()},
    "mixed": Recipe("mixed", NAMED["q4"], {path: NAMED["q8"].block() for path in MIXED_Q8}),
}
"""Every recipe that has a name."""


def parse_recipe(name_or_file: str | os.PathLike[str] | Recipe) -> Recipe:
    """The recipe that a name ("q4") or a file ("mine.json") says. Raises QuantizationError for anything else."""
    if isinstance(name_or_file, Recipe):
        return name_or_file
    name = os.fspath(name_or_file)
    if found := RECIPES.get(name.lower()):
        return found
    if not name.endswith(".json"):
        raise QuantizationError(
            f"recipe {name!r} is unknown; one of {', '.join(RECIPES)} or a .json file expected"
        )
    return _read(Path(name).expanduser())


def _read(path: Path) -> Recipe:
    said = read_json(path, "the recipe", QuantizationError, remedy="correct it")
    known = {"name", "bits", "group_size", "mode", "layers"}
    if said.keys() - known or not isinstance(said.get("layers", {}), dict):
        raise QuantizationError(f"the recipe {path} is not one: bits, group_size, mode and layers expected")
    how = {key: said[key] for key in ("bits", "group_size", "mode") if key in said}
    if not how and not said.get("layers"):
        raise QuantizationError(f"the recipe {path} quantizes nothing; say bf16 if that is meant")
    scheme = make_scheme(**how, where=f"the recipe {path}: ") if how else None
    return Recipe(str(said.get("name") or path.stem), scheme, said.get("layers", {}))
