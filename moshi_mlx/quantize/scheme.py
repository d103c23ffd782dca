"""What a quantization is: bits, group size and mode, and how it is read from a checkpoint.

A checkpoint says it twice: in the `quantization` block of its config (mlx-lm's convention: defaults, plus one
entry per layer that differs) and in the shapes of its tensors. The shapes cannot lie, so they decide; a block
that says otherwise is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moshi_mlx.errors import QuantizationError
from moshi_mlx.safetensors_file import TensorInfo


@dataclass(frozen=True)
class Scheme:
    """How one layer is quantized: `bits` a weight, one scale (affine: and one bias) per `group_size` weights."""

    bits: int
    group_size: int
    mode: str = "affine"  # or "mxfp4", "nvfp4", "mxfp8"

    def __str__(self) -> str:
        name = next((name for name, scheme in SCHEMES.items() if scheme == self), None)
        exact = f"{self.bits} bits, group {self.group_size}" + ("" if self.mode == "affine" else f", {self.mode}")
        return f"{name} ({exact})" if name else exact

    def block(self) -> dict[str, Any]:
        """What a config.json says of it."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


SCHEMES = {"q4": Scheme(4, 32), "q8": Scheme(8, 64)}
"""Kyutai's published quantizations, embeddings included."""

_FLOAT_MODES = {(4, 32): "mxfp4", (4, 16): "nvfp4", (8, 32): "mxfp8"}
_BITS = (2, 3, 4, 5, 6, 8)
_GROUPS = (32, 64, 128)


def parse_scheme(name: str | int | Scheme) -> Scheme:
    """The scheme a person means by "q4", "q8", "4" or 8. Raises QuantizationError for others."""
    if isinstance(name, Scheme):
        return name
    key = str(name).lower()
    if (key if key.startswith("q") else f"q{key}") not in SCHEMES:
        raise QuantizationError(f"quantization {name!r} is unknown; one of {', '.join(SCHEMES)} expected")
    return SCHEMES[key if key.startswith("q") else f"q{key}"]


def schemes_from_shapes(tensors: Mapping[str, TensorInfo], widths: Mapping[str, int]) -> dict[str, Scheme]:
    """The scheme of every quantized layer, from the shapes of its tensors.

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
    """
    if not block:
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


def check_against_request(scheme: Scheme | None, wanted: str | int | Scheme | None, name: str) -> None:
    """Raise QuantizationError if what was asked for (`-q`) is not what the checkpoint is."""
    if wanted is None or parse_scheme(wanted) == scheme:
        return
    raise QuantizationError(
        f"-q asks for {parse_scheme(wanted)}, but {name} is {scheme or 'not quantized'}; "
        "leave -q out (a checkpoint says itself how it is quantized) or choose another checkpoint"
    )


def main_scheme(schemes: Mapping[str, Scheme]) -> Scheme | None:
    """The scheme of most layers; None without any."""
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
        f"{path} is quantized in no way known here: weight {weight}, scales {scales}, "
        f"{'with' if affine else 'without'} biases, for an input of {width}"
    )


def _read_block(block: Any, where: str) -> Scheme:
    try:
        return Scheme(int(block["bits"]), int(block["group_size"]), block.get("mode", "affine"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise QuantizationError(f"config field '{where}' is {block!r}: bits and group_size expected") from None
