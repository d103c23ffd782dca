"""What a quantization is: of a layer (`Scheme`), and of a whole model (`Recipe`); how both are named and read.

A recipe file is JSON: {"bits": 4, "group_size": 32, "mode": "affine", "layers": {"text_linear": false,
"depformer.*": {"bits": 8, "group_size": 64}}}. A layer is named by its path, or by a pattern with * for any
characters; its own path goes before patterns, the first pattern that fits before later ones.

A checkpoint says twice how it is quantized: in the `quantization` block of its config (mlx-lm's convention:
defaults, plus one entry per layer that differs) and in the shapes of its tensors. The shapes cannot lie, so they
decide; a block that says otherwise is an error.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from moshi_mlx.errors import QuantizationError, some
from moshi_mlx.models.config_reader import read_json, shown
from moshi_mlx.weights.safetensors import TensorInfo


@dataclass(frozen=True)
class Scheme:
    """How one layer is quantized: `bits` per weight, one scale (affine: and one bias) per `group_size` weights."""

    bits: int
    group_size: int
    mode: str = "affine"  # or "mxfp4", "nvfp4", "mxfp8"

    def __str__(self) -> str:
        name = next((name for name, scheme in NAMED.items() if scheme == self), None)
        exact = f"{self.bits} bits, group {self.group_size}"
        return f"{name} ({exact})" if name else exact + ("" if self.mode == "affine" else f", {self.mode}")

    @property
    def bits_per_weight(self) -> float:
        """Bits with scales and biases: 16 each for affine groups; 8 for a scale of the other modes."""
        return self.bits + (32 if self.mode == "affine" else 8) / self.group_size

    def block(self) -> dict[str, Any]:
        """Return what a config.json says of it."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


SCHEMES = {"q4": Scheme(4, 32), "q8": Scheme(8, 64)}
"""Kyutai's published quantizations, embeddings included."""

NAMED = {
    **SCHEMES,
    "q6": Scheme(6, 64),
    "q5": Scheme(5, 64),
    "q4-g64": Scheme(4, 64),
    "mxfp4": Scheme(4, 32, "mxfp4"),
    "mxfp8": Scheme(8, 32, "mxfp8"),
    "nvfp4": Scheme(4, 16, "nvfp4"),
}
"""Every quantization that has a name."""

UNQUANTIZED = "bf16"
"""What `-q` calls weights that are not quantized."""

_FLOAT_MODES = {(scheme.bits, scheme.group_size): mode for mode, scheme in NAMED.items() if scheme.mode == mode}
PARTS = ("weight", "scales", "biases")  # of a quantized layer; float modes have no biases
_BITS = (2, 3, 4, 5, 6, 8)
_GROUPS = (32, 64, 128)


def parse_scheme(name: str | int | Scheme) -> Scheme:
    """Return the scheme that a person means by "q4", "mxfp4", "4" or 8. Raises QuantizationError for others."""
    if isinstance(name, Scheme):
        return name
    key = str(name).lower()
    found = NAMED.get(key) or NAMED.get(f"q{key}")
    if not found:
        raise QuantizationError(f"quantization {name!r} is unknown; one of {', '.join(NAMED)} expected")
    return found


def make_scheme(
    bits: int | None = None, group_size: int | None = None, mode: str | None = None, where: str = ""
) -> Scheme:
    """Return the scheme of some numbers; those not given are as in the named scheme of as many bits.

    where: what the numbers stand in, to begin a message with. Raises QuantizationError for what MLX does not have.
    """
    if mode in (None, "affine"):
        bits = 4 if bits is None else bits
        if group_size is None:
            group_size = next((scheme.group_size for scheme in NAMED.values() if scheme.bits == bits), 64)
        if type(bits) is int and type(group_size) is int and bits in _BITS and group_size in _GROUPS:
            return Scheme(bits, group_size)
        raise QuantizationError(
            f"{where}MLX has no {shown(bits)} bits in groups of {shown(group_size)}: "
            f"{_either(_BITS)} bits in groups of {_either(_GROUPS)} expected"
        )
    if mode not in _FLOAT_MODES.values():
        known = ", ".join(["affine", *_FLOAT_MODES.values()])
        raise QuantizationError(f"{where}mode {shown(mode)} is unknown: one of {known} expected")
    scheme = NAMED[mode]
    if bits not in (None, scheme.bits) or group_size not in (None, scheme.group_size):
        raise QuantizationError(
            f"{where}{mode} is always {scheme.bits} bits in groups of {scheme.group_size}: leave both out"
        )
    return scheme


def _either(numbers: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


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
        """Return the scheme of a layer, None to leave it dense."""
        if path in self.layers:
            return self._chosen(path)
        pattern = next((one for one in self.layers if "*" in one and fnmatchcase(path, one)), None)
        return self._chosen(pattern) if pattern else self.scheme

    def check(self, paths: Iterable[str]) -> None:
        """Raise QuantizationError if a name or a pattern fits none of a model's layers, with the nearest that do.

        paths: of the layers that can be quantized. The named recipes are for the whole family, whose members lack
        one layer or another.
        """
        paths = list(paths)
        if any(self.layers == known.layers for known in RECIPES.values()):
            return
        lost = [one for one in self.layers if one not in paths and not ("*" in one and _fits(one, paths))]
        if lost:
            near = get_close_matches(lost[0], [*paths, *_patterns(paths)], cutoff=0.5)
            raise QuantizationError(
                f"recipe {self} names {some(lost)}, which this model does not have; "
                f"the nearest to {lost[0]}: {some(near)}"
            )

    def predicate(self, path: str, layer: object = None) -> bool | dict[str, Any]:
        """Answer as mlx-lm's `quant_predicate`, for `quantize_lm` and `mlx.nn.quantize`."""
        how = self.how(path)
        return how.block() if how else False

    def as_json(self) -> dict[str, Any]:
        """Return what a recipe file says."""
        layers = {path: dict(how) if isinstance(how, Mapping) else how for path, how in self.layers.items()}
        return {**(self.scheme.block() if self.scheme else {}), **({"layers": layers} if layers else {})}

    def _chosen(self, path: str) -> Scheme | None:
        choice = self.layers[path]
        if isinstance(choice, bool):
            return self.scheme if choice else None
        if not isinstance(choice, Mapping) or choice.keys() - {"bits", "group_size", "mode"}:
            raise QuantizationError(
                f"recipe {self.name} says {shown(choice)} of {path}: true, false, or any of bits, group_size and "
                "mode expected"
            )
        default = self.scheme.block() if self.scheme and "mode" not in choice else {}
        return make_scheme(**{**default, **choice}, where=f"recipe {self.name}, layer {path}: ")


def _fits(pattern: str, paths: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for path in paths)


def _patterns(paths: Iterable[str]) -> dict[str, None]:
    """Return the patterns that somebody may mean: a group, a layer's place in all groups, a kind of layer."""
    found: dict[str, None] = {}
    for path in paths:
        parts = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path).split(".")
        found |= dict.fromkeys(".".join([*parts[:count], "*"]) for count in range(1, len(parts)))
        found |= dict.fromkeys(one for one in (".".join(parts), f"*.{parts[-1]}") if "*" in one)
    return found


MIXED_Q8 = ("depformer.*", "text_linear", "text_emb", "audio_embs.*", "extra_heads.*")
"""What `mixed` keeps in q8: the layers next to the tokens, 14 % of Moshi 7B's weights."""

RECIPES = {
    "bf16": Recipe("bf16", None),
    **{name: Recipe(name, scheme) for name, scheme in NAMED.items()},
    "mixed": Recipe("mixed", NAMED["q4"], {path: NAMED["q8"].block() for path in MIXED_Q8}),
}
"""Every recipe that has a name."""


def parse_recipe(name_or_file: str | os.PathLike[str] | Recipe) -> Recipe:
    """Return the recipe of a name ("q4") or a file ("mine.json"). Raises QuantizationError for anything else."""
    if isinstance(name_or_file, Recipe):
        return name_or_file
    name = os.fspath(name_or_file)
    if found := RECIPES.get(name.lower()):
        return found
    if not name.endswith(".json"):
        raise QuantizationError(
            f"recipe {name!r} is unknown; one of {', '.join(RECIPES)} or a .json file expected"
        )
    return _read_recipe(Path(name).expanduser())


def _read_recipe(path: Path) -> Recipe:
    said = read_json(path, "the recipe", QuantizationError, remedy="correct it")
    known = {"name", "bits", "group_size", "mode", "layers"}
    if said.keys() - known or not isinstance(said.get("layers", {}), dict):
        raise QuantizationError(f"{path} is not a recipe: bits, group_size, mode and layers expected")
    how = {key: said[key] for key in ("bits", "group_size", "mode") if key in said}
    if not how and not said.get("layers"):
        raise QuantizationError(f"the recipe {path} quantizes nothing; say bf16 if that is meant")
    scheme = make_scheme(**how, where=f"the recipe {path}: ") if how else None
    return Recipe(str(said.get("name") or path.stem), scheme, said.get("layers", {}))


def schemes_from_shapes(tensors: Mapping[str, TensorInfo], widths: Mapping[str, int]) -> dict[str, Scheme]:
    """Return the scheme of every quantized layer, from the shapes of its tensors.

    tensors: the file's tensors under MLX names. widths: layer path -> width of its input, from the config.
    A layer is quantized when `<path>.scales` exists. Raises QuantizationError for shapes that no scheme has.
    """
    found = {}
    for key in tensors:
        path, _, leaf = key.rpartition(".")
        if leaf == "scales" and path in widths and f"{path}.weight" in tensors:
            found[path] = _scheme_from_shapes(path, tensors, widths[path])
    return found


def check_against_block(schemes: Mapping[str, Scheme], block: Mapping[str, Any] | None) -> None:
    """Raise QuantizationError if a config's `quantization` block contradicts what the tensors are.

    block: {"bits", "group_size", "mode" = "affine", <layer path>: false, true or such a block of its own, ...}.
    One of another program, with fields that are none of these, is passed over: the shapes have said it all.
    """
    if not block:
        return
    if schemes and _is_foreign(block, schemes):
        return
    default = _read_block(block, "quantization")
    if not schemes:
        raise QuantizationError(f"config says {default}, but the file has no quantized weights (no .scales key)")
    for path, scheme in schemes.items():
        entry = block.get(path, True)
        said = None if entry is False else default if entry is True else _read_block(entry, f"quantization.{path}")
        if said != scheme:
            raise QuantizationError(
                f"config says {said or 'not quantized'} for {path}, but its shapes are {scheme}"
            )


def _is_foreign(block: Mapping[str, Any], layers: Collection[str]) -> bool:
    """Whether a block is not mlx-lm's convention: it has other fields, such as "quantized_components": [names]."""
    others = [value for key, value in block.items() if key not in ("bits", "group_size", "mode", *layers)]
    return any(not isinstance(value, bool | Mapping) for value in others)


def check_against_request(scheme: Scheme | None, wanted: str | int | Scheme | None, name: str) -> None:
    """Raise QuantizationError if what was asked for (`-q`) is not what the checkpoint is."""
    if wanted is None:
        return
    asked = None if wanted == UNQUANTIZED else parse_scheme(wanted)
    if asked == scheme:
        return
    raise QuantizationError(
        f"-q asks for {asked or UNQUANTIZED}, but {name} is {scheme or 'not quantized'}; "
        "leave -q out (a checkpoint says itself how it is quantized) or choose another checkpoint"
    )


def main_scheme(schemes: Mapping[str, Scheme]) -> Scheme | None:
    """Return the scheme of most layers; None without any."""
    counts = list(schemes.values())
    return max(counts, key=counts.count) if counts else None


def _scheme_from_shapes(path: str, tensors: Mapping[str, TensorInfo], width: int) -> Scheme:
    weight, scales = tensors[f"{path}.weight"], tensors[f"{path}.scales"]
    affine = f"{path}.biases" in tensors
    if weight.dtype == "U32" and len(weight.shape) == len(scales.shape) == 2 and scales.shape[1]:
        bits, left = divmod(weight.shape[1] * 32, width)
        group, over = divmod(width, scales.shape[1])
        mode = "affine" if affine else _FLOAT_MODES.get((bits, group))
        fits = (bits in _BITS and group in _GROUPS) if affine else scales.dtype == "U8"
        if mode and fits and not left and not over:
            return Scheme(bits, group, mode)
    raise QuantizationError(
        f"{path} is quantized in a way that MLX does not have: weight {weight}, scales {scales}, "
        f"{'with' if affine else 'without'} biases, for an input of {width}"
    )


def _read_block(block: Any, where: str) -> Scheme:
    try:
        return Scheme(int(block["bits"]), int(block["group_size"]), block.get("mode", "affine"))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise QuantizationError(
            f"config field '{where}' is {shown(block)}: bits and group_size expected"
        ) from None
