"""Language-model weights, one file or shards: checked against its config from the header alone, then loaded.

The key map says which tensor of a file is which parameter. Two layouts are published: Kyutai's MLX files, whose
names are our modules' own, and PyTorch's. PyTorch stacks the attention projections of all depth steps along the
rows and keeps one norm for all of them; MLX files hold a copy per step. In both, parameters of the same `Origin`
share one array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.quantization import Scheme, check_against_block, main_scheme, schemes_from_shapes
from moshi_mlx.weights.safetensors import read_tensors, same_bytes

PIECE = 1 << 28  # bytes evaluated at once: enough to keep the disk busy, little enough to show progress
_DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


class LmWeights:
    """A weights file (or an index of shards) that fits its config; only headers have been read yet.

    layout: "mlx" or "torch". schemes: path -> how that layer is quantized.
    Raises CheckpointError or QuantizationError, with the file, the key, what was expected and what was found.
    """

    def __init__(self, path: Path, config: LmConfig, block: Mapping[str, Any] | None = None) -> None:
        self.path, self.config = path, config
        self.tensors = read_tensors(path)
        self.layout = detect_layout(self.tensors, path)
        self.schemes = self._read_schemes()
        check_against_block(self.schemes, block)
        self._check()

    @property
    def scheme(self) -> Scheme | None:
        """How most layers are quantized; None for a dense file."""
        return main_scheme(self.schemes)

    @property
    def default_dtype(self) -> mx.Dtype:
        """The type activations have unless asked otherwise.

        Dense weights: their own type. Quantized: bfloat16 on a GPU, float32 on a CPU, where MLX's quantized
        matmul accumulates in the type of the activations and is wrong by a tenth in bfloat16.
        """
        if self.schemes:
            return mx.bfloat16 if mx.default_device() == mx.gpu else mx.float32
        return _DTYPES[self.tensors["text_linear.weight"].dtype]

    @property
    def nbytes(self) -> int:
        """Bytes that loading puts into memory."""
        return sum(self.tensors[origin.key].nbytes // origin.parts for origin in set(self._origins.values()))

    def load(self, dtype: mx.Dtype | None = None, advance: Callable[[int], None] = lambda count: None) -> Lm:
        """Return the model with all weights in memory, as stored; only activations have `dtype`.

        dtype: of the activations; weights of a wider type widen them again.
        advance: told of bytes as they are read, `nbytes` in all.
        Raises CheckpointError if the file cannot be read.
        """
        lm = self._skeleton()
        lm.activation_dtype = dtype or self.default_dtype
        origins = self._origins
        file: dict[str, mx.array] = {}
        for path in dict.fromkeys(tensor.path for tensor in self.tensors.values()):
            file |= mx.load(str(path))  # type: ignore[arg-type]  # lazy: nothing is read yet
        arrays = {origin: _take(file[origin.key], origin) for origin in dict.fromkeys(origins.values())}
        lm.update(tree_unflatten([(name, arrays[origin]) for name, origin in origins.items()]))
        try:
            _evaluate(arrays.values(), advance)
        except RuntimeError as error:
            raise CheckpointError(f"cannot load {self.path}: {error}") from error
        lm.eval()
        return lm

    def _skeleton(self) -> Lm:
        """Return the model with its quantized layers in place; its arrays are only shapes, never evaluated."""
        lm = Lm(self.config)
        schemes = self.schemes
        nn.quantize(lm, class_predicate=lambda path, _: path in schemes and schemes[path].block())
        return lm

    def _read_schemes(self) -> dict[str, Scheme]:
        if self.layout == "torch":
            if quantized := [name for name in self.tensors if name.endswith(".scales")]:
                raise CheckpointError(f"{self.path} is quantized but in PyTorch's layout: {some(quantized)}")
            return {}
        layers = Lm(self.config).named_modules()
        widths = {path: layer["weight"].shape[-1] for path, layer in layers if hasattr(layer, "to_quantized")}
        return schemes_from_shapes(self.tensors, widths)

    def stored(self, name: str) -> Origin:
        """Return where the file keeps the parameter with an MLX name."""
        return torch_origin(name, self.config, self.tensors) if self.layout == "torch" else Origin(name)

    @cached_property
    def _origins(self) -> dict[str, Origin]:
        """Where each parameter is loaded from.

        Depth steps share an array only where the file's copies are equal: somebody may have trained them apart.
        """
        own = {name: self.stored(name) for name in parameters(self._skeleton())}
        if self.layout == "torch":
            return own
        shared = {name: mlx_origin(name, self.config) for name in own}
        return {
            name: shared[name] if same_bytes(self.tensors[name], self.tensors[shared[name].key]) else own[name]
            for name in own
        }

    def _check(self) -> None:
        """Raise CheckpointError for missing keys, keys too many, wrong shapes and types that are no weights."""
        expected = parameters(self._skeleton())
        origins = {name: self.stored(name) for name in expected}
        used = {origin.key for origin in origins.values()}
        if missing := sorted(used - self.tensors.keys()):
            raise CheckpointError(
                f"{self.path} lacks {some(missing)}; does it belong to this config ({self._described()})?"
            )
        if extra := [name for name in self.tensors if name not in used and not is_unused(name, self.config)]:
            raise CheckpointError(
                f"{self.path} holds {some(sorted(extra))}, which this config does not have ({self._described()})"
            )
        for name, array in expected.items():
            found = self.tensors[origins[name].key]
            quantized = name.rpartition(".")[0] in self.schemes
            wanted = origins[name].stored_shape(array.shape)
            if found.shape != wanted:
                raise CheckpointError(
                    f"{self.path}: {origins[name].key} has shape {list(found.shape)}, {list(wanted)} expected"
                )
            if found.dtype not in _DTYPES and not quantized:
                types = ", ".join(_DTYPES)
                raise CheckpointError(
                    f"{self.path}: {origins[name].key} is of type {found.dtype}, one of {types} expected"
                )

    def _described(self) -> str:
        config = self.config
        transformer = config.transformer
        return f"{transformer.num_layers} layers of {transformer.dim}, n_q {config.n_q}, dep_q {config.dep_q}"


def parameter_shapes(config: LmConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a dense model, by its MLX name."""
    return {name: array.shape for name, array in parameters(Lm(config)).items()}  # lazy: never evaluated


@dataclass(frozen=True)
class Origin:
    """Where a parameter is in a file: tensor `key`, or the `part`-th of `parts` equal blocks of its rows."""

    key: str
    part: int = 0
    parts: int = 1
    flat: bool = False  # stored as (1, 1, dim), used as (dim,)

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the whole tensor in the file, for a parameter of `shape`."""
        if self.flat:
            return (1, 1, *shape)
        return (shape[0] * self.parts, *shape[1:])


@dataclass(frozen=True)
class KeyRule:
    """One line of the key map: a parameter's name in MLX's layout and in PyTorch's, with fields in braces.

    {i}, {l}: numbers that are kept. {k}: a depth step; {j} = k - 1, the codebook before it; {s}, the index of the
    weights that step k uses. {rest}: whatever follows.
    """

    mlx: str
    torch: str
    stacked: bool = False  # the torch tensor holds the rows of all {s}, one block after the other
    split: str = ""  # what newer PyTorch code calls it when it saves one tensor per block


_STEP = "depformer.slices.{k}."
_STEP_ATTENTION = _STEP + "transformer.layers.{l}.self_attn."
_DEPTH_ATTENTION = "depformer.layers.{l}.self_attn."
_ATTENTION = "transformer.layers.{l}.self_attn."

KEY_MAP = (  # the first rule that fits a name holds
    KeyRule("audio_embs.{i}.{rest}", "emb.{i}.{rest}"),
    KeyRule(_STEP + "linear_in.{rest}", "depformer_in.{s}.{rest}"),
    KeyRule(_STEP + "linear_out.{rest}", "linears.{k}.{rest}"),
    KeyRule("depformer.slices.0.emb.{rest}", "depformer_text_emb.{rest}"),
    KeyRule(_STEP + "emb.{rest}", "depformer_emb.{j}.{rest}"),
    KeyRule(_STEP + "norm.{rest}", "depformer_norms.{k}.{rest}"),
    KeyRule(_STEP + "transformer.layers.{l}.gating.{rest}", "depformer.layers.{l}.gating.{s}.{rest}"),
    KeyRule(
        _STEP_ATTENTION + "in_proj.weight",
        _DEPTH_ATTENTION + "in_proj_weight",
        stacked=True,
        split=_DEPTH_ATTENTION + "in_projs.{s}.weight",
    ),
    KeyRule(
        _STEP_ATTENTION + "out_proj.weight",
        _DEPTH_ATTENTION + "out_proj.weight",
        stacked=True,
        split=_DEPTH_ATTENTION + "out_projs.{s}.weight",
    ),
    KeyRule(_STEP + "transformer.{rest}", "depformer.{rest}"),  # norms: one for all steps
    KeyRule(_ATTENTION + "in_proj.weight", _ATTENTION + "in_proj_weight", split=_ATTENTION + "in_projs.0.weight"),
    KeyRule(
        _ATTENTION + "out_proj.weight", _ATTENTION + "out_proj.weight", split=_ATTENTION + "out_projs.0.weight"
    ),
    KeyRule("{rest}", "{rest}"),
)


def torch_origin(name: str, config: LmConfig, present: Iterable[str] = ()) -> Origin:
    """Return where PyTorch's layout keeps the parameter with an MLX name.

    present: the names in the file; decides between the two ways PyTorch writes attention projections.
    """
    schedule = config.depth.schedule if config.depth else ()
    for rule in KEY_MAP:
        match = _pattern(rule.mlx).fullmatch(name)
        if not match:
            continue
        fields: dict[str, object] = dict(match.groupdict())
        parts, step = 1, 0
        if "k" in fields:
            k = int(match["k"])
            step = schedule[k]
            parts = max(schedule) + 1 if rule.stacked else 1
            fields |= {"s": step, "j": k - 1}
        if rule.split and (split := rule.split.format(**fields)) in present:
            return Origin(split)
        key = rule.torch.format(**fields)
        if _is_rms(name, config):
            return Origin(key.removesuffix("weight") + "alpha", flat=True)
        return Origin(key, step if parts > 1 else 0, parts)
    raise AssertionError(name)  # the last rule fits every name


def mlx_origin(name: str, config: LmConfig) -> Origin:
    """Return where the MLX layout keeps a parameter: in the first depth step that has the same weights."""
    match = re.fullmatch(r"depformer\.slices\.(\d+)\.(.+)", name)
    if not match or not config.depth:
        return Origin(name)
    schedule, k, rest = config.depth.schedule, int(match[1]), match[2]
    if re.fullmatch(r"transformer\.layers\.\d+\.norm\d\.\w+", rest):
        return Origin(f"depformer.slices.0.{rest}")
    if rest.startswith(("linear_in.", "transformer.")):
        return Origin(f"depformer.slices.{schedule.index(schedule[k])}.{rest}")
    return Origin(name)


def detect_layout(names: Iterable[str], path: Path) -> str:
    """Return "mlx" or "torch", from the names in a file; raise CheckpointError for a file of something else."""
    names = list(names)

    def any_has(*marks: str) -> bool:
        return any(mark in name for name in names for mark in marks)

    if any_has("weight_scb"):
        raise CheckpointError(
            f"{path} holds int8 weights of bitsandbytes (weight_scb), which MLX cannot use; "
            "use an MLX checkpoint such as kyutai/moshiko-mlx-q8"
        )
    if any_has("lora_A"):
        raise CheckpointError(
            f"{path} is a LoRA adapter, not a model: merge it into its base, "
            f"`moshi-mlx quantize BASE FOLDER --recipe bf16 --lora {path}`"
        )
    if any_has("encoder.model.0.", "decoder.model.0."):
        raise CheckpointError(f"{path} holds the Mimi codec, not the language model; give the model's file")
    if any_has("audio_embs.", "depformer.slices."):
        return "mlx"
    if any(name.startswith("depformer.0.") for name in names):
        raise CheckpointError(
            f"{path} is in the layout of Kyutai's Rust program (candle); use an -mlx- or -pytorch- repository"
        )
    if any(name.startswith("emb.") or name.endswith((".alpha", ".in_proj_weight")) for name in names):
        return "torch"
    raise CheckpointError(f"{path} is not a Moshi model: its tensors are {some(names)}")


def is_unused(name: str, config: LmConfig) -> bool:
    """Return whether nothing reads a tensor that may be in a file: PyTorch has depformer_in also without depth."""
    return not config.depth and name.startswith("depformer_in.")


def torch_shapes(shapes: Mapping[str, tuple[int, ...]], config: LmConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a PyTorch file's tensors for parameters {MLX name: shape}."""
    origins = {name: torch_origin(name, config) for name in shapes}
    return {origin.key: origin.stored_shape(shapes[name]) for name, origin in origins.items()}


def _is_rms(name: str, config: LmConfig) -> bool:
    if not name.endswith(".weight"):
        return False
    if re.search(r"(^|\.)(out_norm|norm1|norm2)\.weight$", name):
        return config.transformer.norm == "rms_norm_f32"
    if re.fullmatch(r"depformer\.slices\.\d+\.norm\.weight", name):
        return config.depth is not None and config.depth.norm == "rms_norm_f32"
    return False


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pattern = re.escape(template).replace(r"\{rest\}", r"(?P<rest>.+)")
    return re.compile(re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", pattern))


def _take(array: mx.array, origin: Origin) -> mx.array:
    if origin.flat:
        return array.reshape(-1)
    if origin.parts == 1:
        return array
    rows = array.shape[0] // origin.parts
    return array[origin.part * rows : (origin.part + 1) * rows]  # a view: no copy of the rows


def _evaluate(arrays: Iterable[mx.array], advance: Callable[[int], None]) -> None:
    piece, size = [], 0
    for array in arrays:
        piece.append(array)
        size += array.nbytes
        if size >= PIECE:
            mx.eval(piece)
            advance(size)
            piece, size = [], 0
    mx.eval(piece)
    advance(size)
