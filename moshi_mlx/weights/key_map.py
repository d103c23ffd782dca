"""The key map: which tensor of a file is which parameter, for every layout of weights that is published.

Kyutai's MLX files have our modules' own names; PyTorch's have others, stack the attention projections of all depth
steps along the rows, and keep one norm for all of them. Files for Kyutai's program in Rust (candle) have PyTorch's
names, but for the depth transformer, of which they hold each step, as MLX's do. No MLX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.safetensors import TensorInfo, read_tensors

GGUF = ".gguf"

T = TypeVar("T")

_UNUSED_OF_PAIRS = ("depformer_text_emb.low_rank.weight", "depformer.slices.0.emb.low_rank.weight")

_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


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
_CROSS = re.compile(r"(transformer\.layers\.\d+\.cross_attention\.)([qkv])_proj\.weight")
_CROSS_NAMES = ("in_proj_weight", "in_proj.weight", "in_projs.0.weight")  # of queries, keys and values together

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
    blocks = (
        max(config.depth.stored_schedule) + 1 if config.depth else 0
    )  # of weights that all steps have together
    if origin := _cross_origin(name, present):
        return origin
    for rule in KEY_MAP:
        match = _pattern(rule.mlx).fullmatch(name)
        if not match:
            continue
        fields: dict[str, object] = dict(match.groupdict())
        parts, step = 1, 0
        if "k" in fields:
            k = int(match["k"])
            step = schedule[k]
            parts = blocks if rule.stacked else 1
            fields |= {"s": step, "j": k - 1}
        if rule.split and (split := rule.split.format(**fields)) in present:
            return Origin(split)
        key = rule.torch.format(**fields)
        if (module := key.replace("in_proj_weight", "in_proj.weight")) in present:
            key = module  # the name in files of moshi 0.1 that were quantized
        if _is_rms(name, config):
            return Origin(key.removesuffix("weight") + "alpha", flat=True)
        return Origin(key, step if parts > 1 else 0, parts)
    raise AssertionError(name)  # the last rule fits every name


def _cross_origin(name: str, present: Iterable[str]) -> Origin | None:
    """Return where the projections into a cross attention are: one tensor has the rows of all three."""
    if match := _CROSS.fullmatch(name):
        key = next((each for each in _CROSS_NAMES if match[1] + each in present), _CROSS_NAMES[0])
        return Origin(match[1] + key, "qkv".index(match[2]), 3)
    name = name.replace(".cross_attention.out_proj.", ".cross_attention.out_projs.0.")
    return Origin(name) if ".cross_attention." in name and name in present else None


CANDLE_MAP = (  # all that fit are applied
    (r"^audio_embs\.", "emb."),
    (r"^depformer\.slices\.", "depformer."),
    (r"\.in_proj\.weight$", ".in_proj_weight"),
)


def candle_origin(name: str, config: LmConfig) -> Origin:
    """Return where the layout of Kyutai's program in Rust keeps the parameter with an MLX name.

    Source: rust/moshi-core/src/lm.rs `LmModel::new`; scripts/import_rust.py.
    """
    if origin := _cross_origin(name, ()):
        return origin
    key = name
    for pattern, replacement in CANDLE_MAP:
        key = re.sub(pattern, replacement, key)
    if _is_rms(name, config):
        return Origin(key.removesuffix("weight") + "alpha", flat=True)
    return Origin(key)


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


def plain_names(tensors: Mapping[str, T], path: Path) -> dict[str, T]:
    """Return the tensors of a file without what wrappers of PyTorch put into their names.

    `torch.compile` inserts _orig_mod, DistributedDataParallel module, FSDP and checkpointing names of their own,
    for the whole model or for a part of it. Raises CheckpointError if two names become one.
    """
    plain = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):
        kept = [_WRAPPERS.sub("", name) for name in tensors]
        twice = sorted({name for name in kept if kept.count(name) > 1})
        raise CheckpointError(
            f"{path} holds {some(twice)} twice, with and without a wrapper's prefix (_orig_mod., module.); "
            "save the model's own state_dict again"
        )
    return plain


def detect_layout(names: Iterable[str], path: Path) -> str:
    """Return "mlx", "torch" or "candle", from the names in a file; raise CheckpointError for something else.

    Without a depth transformer candle's names are PyTorch's.
    """
    names = list(names)

    def any_has(*marks: str) -> bool:
        return any(mark in name for name in names for mark in marks)

    if any_has("lora_A"):
        raise CheckpointError(
            f"{path} is a LoRA adapter, not a model: use it with its base, --adapter {path}, or merge them, "
            f"`moshi-mlx quantize BASE FOLDER --recipe bf16 --lora {path}`"
        )
    if any_has("image_prefix.", "cross_attention.mha.", "cross_attention.gate."):
        raise CheckpointError(
            f"{path} is of MoshiVis, which looks at images by cross attention; Kyutai's moshivis runs it"
        )
    if any_has("encoder.model.0.", "decoder.model.0."):
        raise CheckpointError(f"{path} holds the Mimi codec, not the language model; give the model's file")
    if any_has("audio_embs.", "depformer.slices."):
        return "mlx"
    if any(name.startswith("depformer.0.") for name in names):
        return "candle"
    if any(name.startswith("emb.") or name.endswith((".alpha", ".in_proj_weight")) for name in names):
        return "torch"
    raise CheckpointError(f"{path} is not a Moshi model: its tensors are {some(names)}")


def read_any(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a weights file: safetensors, an index of shards, or GGUF. Raises as their readers."""
    if path.suffix == GGUF:
        from moshi_mlx.weights.gguf import read_gguf

        return read_gguf(path)
    tensors = read_tensors(path)
    if not any(name.endswith("_scb") for name in tensors):
        return tensors
    from moshi_mlx.weights.int8 import from_bitsandbytes

    return from_bitsandbytes(tensors)


def is_unused(name: str, config: LmConfig) -> bool:
    """Return whether nothing reads a tensor that may be in a file.

    PyTorch has depformer_in also without depth, and a second matrix for text tokens that are two; and files may
    hold depth steps that are never run.
    """
    depth = config.depth
    if config.demux_second_stream and name in _UNUSED_OF_PAIRS:
        return True
    if not depth:
        return name.startswith("depformer_in.")
    steps = range(depth.steps, len(depth.stored_schedule))
    unused = {"k": set(steps), "j": {k - 1 for k in steps}, "s": {*depth.stored_schedule} - {*depth.schedule}}
    rules = [template for rule in KEY_MAP for template in (rule.mlx, rule.torch, rule.split) if template]
    templates = ["depformer.{k}.{rest}", *rules]  # candle's, and all others
    matches = [match for template in templates if (match := _pattern(template).fullmatch(name))]
    numbers = [(field, number) for match in matches for field, number in match.groupdict().items()]
    return any(field in unused and int(number) in unused[field] for field, number in numbers)


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
