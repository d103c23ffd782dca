"""What can be compared with a reference: other weights, an int8 window, another codec, another sampler.

A candidate is written as parts with "+" between them: "q4", "mine.json+kv8", "codec=rust", "top_p=0.9+min_p=0.02".
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.models.layers import ROW_ARRAYS, dequantized
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.quantizer import quantizable, quantize_lm
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.weights.quantization import RECIPES, Recipe, parse_recipe

_SAMPLING = {one.name for one in fields(SamplingConfig) if not one.name.startswith("repetition")}
_ACTIVATIONS = {"f32": mx.float32, "bf16": mx.bfloat16, "f16": mx.float16}


@dataclass(frozen=True)
class Candidate:
    """What differs from the reference.

    name: as a person wrote it. weights: a recipe or checkpoint, None: the reference's own.
    """

    name: str
    weights: str | None = None
    kv_bits: int | None = None
    activations: str = "f32"
    codec: str | None = None
    sampling: dict[str, float] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe to apply to the reference's weights; None for its own or another checkpoint's."""
        is_recipe = self.weights and (self.weights.lower() in RECIPES or self.weights.endswith(".json"))
        return parse_recipe(self.weights) if is_recipe and self.weights else None

    @property
    def folder(self) -> Path | None:
        """The model folder it is and nothing else; None for anything else."""
        only_weights = self == Candidate(self.name, self.weights)
        return Path(self.weights) if self.weights and only_weights and os.path.isdir(self.weights) else None


def parse_candidate(text: str) -> Candidate:
    """Read what a person wrote. Raises ConfigError for an option that does not exist, or a second name."""
    weights, kv_bits, codec, activations, sampling = None, None, None, "f32", {}
    for part in [text] if os.path.exists(text) else text.split("+"):
        key, is_option, value = part.partition("=")
        if part == "kv8":
            kv_bits = 8
        elif key == "codec" and value in ("rust", "mlx"):
            codec = value
        elif key == "activations" and value in _ACTIVATIONS:
            activations = value
        elif key in _SAMPLING and is_option:
            sampling[key] = _number(text, key, value)
        elif part and weights is None and (not is_option or os.path.exists(part)):
            weights = part
        else:
            settings = ", ".join(f"{one}=" for one in sorted(_SAMPLING))
            raise ConfigError(
                f"candidate {text!r}: {part!r} is neither its only checkpoint or recipe nor one of kv8, "
                f"codec=rust|mlx, activations={'|'.join(_ACTIVATIONS)}, {settings}"
            )
    SamplingConfig(**sampling)  # complains about its ranges now
    return Candidate(text, weights, kv_bits, activations, codec, sampling)


def find_candidate(
    candidate: Candidate, reference: Checkpoint, offline: bool = False
) -> Checkpoint | Recipe | None:
    """Find the checkpoint or recipe that a candidate names; None where its weights are the reference's own.

    Loads no weights. Raises QuantizationError for a recipe on a reference that is already quantized, or
    one that names layers it does not have; CheckpointError for a model with other streams.
    """
    if recipe := candidate.recipe:
        if reference.scheme:
            raise QuantizationError(
                f"{reference.name} is already quantized, {reference.scheme}: to apply recipe {recipe}, "
                "give the bf16 checkpoint as reference"
            )
        recipe.check(quantizable(Lm(reference.lm_config)))  # lazy: no weights are made
        return recipe
    if not candidate.weights:
        return None
    checkpoint = Checkpoint.resolve(candidate.weights, offline=offline)
    if _streams(checkpoint) != _streams(reference):
        raise CheckpointError(
            f"{candidate.weights} has other streams than {reference.name} (text, codes, delays): "
            "only models that read the same tokens can be compared"
        )
    return checkpoint


def load_candidate(candidate: Candidate, reference: Checkpoint, offline: bool = False) -> Lm:
    """Load a candidate's language model, with activations of the type it asks for. Raises as `find_candidate`."""
    found, dtype = find_candidate(candidate, reference, offline), _ACTIVATIONS[candidate.activations]
    lm = (found if isinstance(found, Checkpoint) else reference).load_lm(dtype)
    if isinstance(found, Recipe):
        apply_recipe(lm, found)
    return lm


def apply_recipe(lm: Lm, recipe: Recipe) -> None:
    """Quantize a dense model in place."""
    scheme = recipe.scheme or next((how for path in recipe.layers if (how := recipe.how(path))), None)
    if scheme:
        quantize_lm(lm, scheme, recipe.predicate)
        mx.eval(lm.parameters())


def dense_twin(lm: Lm) -> None:
    """Replace quantized linear layers by dense float32 ones of the same values, in place.

    They compute the same, and on a CPU many times faster: MLX's quantized products are slow there.
    """
    twins: dict[int, mx.array] = {}  # one for all layers that share an array
    layers = []
    for path, layer in lm.named_modules():
        if isinstance(layer, nn.QuantizedLinear):
            weight = twins.get(id(layer.weight))
            if weight is None:
                arrays = [layer[name] for name in ROW_ARRAYS if name in layer]
                weight = twins[id(layer.weight)] = dequantized(arrays, layer.group_size, layer.bits, layer.mode)
            dense = nn.Linear(1, 1, bias=False)
            dense.weight = weight
            layers.append((path, dense))
    lm.update_modules(tree_unflatten(layers))
    mx.eval(lm.parameters())


def _streams(checkpoint: Checkpoint) -> tuple[object, ...]:
    config = checkpoint.lm_config
    return config.text_card, config.card, config.n_q, config.dep_q, config.delays


def _number(text: str, key: str, value: str) -> float:
    try:
        return int(value) if key.endswith("top_k") else float(value)
    except ValueError:
        raise ConfigError(f"candidate {text!r}: {key} is {value!r}, a number expected") from None
