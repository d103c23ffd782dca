"""Finding a recipe by what it costs: the least divergence that a number of bytes can buy.

What the quantization of each group of layers costs is measured on its own, as divergence from the dense model.
Such costs add up as long as they are small, so the best choice for all groups together is the one that pays the
same for a byte everywhere: the lower convex hull of every group's choices, taken in order of nats saved per byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.layers import dequantized, parameter_bytes, parameters
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.quality.conversations import Conversation
from moshi_mlx.quality.evaluator import Measured
from moshi_mlx.weights.quantization import Recipe, Scheme
from moshi_mlx.weights.values import sum_of_squares

LADDER = (
    Scheme(2, 64), Scheme(2, 32), Scheme(3, 128), Scheme(3, 64), Scheme(3, 32), Scheme(4, 128), Scheme(4, 64),
    Scheme(4, 32), Scheme(5, 64), Scheme(6, 64), Scheme(8, 64),
)  # fmt: skip
"""What a layer may become, besides staying as it is."""

PROBES = (Scheme(3, 64), Scheme(4, 64), Scheme(4, 32))
"""What is measured of every group: coarse enough to stand out of float32's rounding, fine enough to add up."""

FLOORS = (2, 3, 4)
"""Fewest bits that the recipes tried may use."""

TOGETHER = re.compile(r"(audio_embs|extra_heads)\.\d+|depformer\.slices\.\d+\.(emb|linear_in)")
"""Layers that get one scheme for all: `Lm.fuse` lays them side by side, which it can only where they are alike."""


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that get one scheme. weights: of each path; several depth steps may share one."""

    paths: tuple[str, ...]
    weights: tuple[mx.array, ...]

    @property
    def arrays(self) -> list[mx.array]:
        """The weights, each once."""
        return list({id(array): array for array in self.weights}.values())

    def bytes(self, scheme: Scheme | None) -> int:
        """Return the bytes that the weights take in a scheme, None: as they are."""
        if scheme is None:
            return sum(array.nbytes for array in self.arrays)
        total = 0
        for array in self.arrays:
            scales = array.size // scheme.group_size
            # Affine scales and biases have the type of the weights; those of the other modes are 8 bits.
            cell = 2 * array.itemsize if scheme.mode == "affine" else 1
            total += array.size * scheme.bits // 8 + scales * cell
        return total

    def rounded(self, scheme: Scheme) -> dict[str, mx.array]:
        """Return the quantized weights in float32, by path; what layers share, they go on sharing."""
        made = {id(array): rounded_weights(array, scheme) for array in self.arrays}
        return {path: made[id(weight)] for path, weight in zip(self.paths, self.weights, strict=True)}

    def fits(self, scheme: Scheme) -> bool:
        """Return whether the groups of a scheme divide all weights."""
        return all(array.shape[-1] % scheme.group_size == 0 for array in self.arrays)


@dataclass(frozen=True)
class Price:
    """What one choice for a group costs."""

    scheme: Scheme | None  # None: dense
    bytes: int
    kl: float  # nats a step, measured with all else dense


def search(
    lm: Lm,
    conversations: Sequence[Conversation],
    budget: int,
    name: str = "mixed",
    advance: Callable[[int], None] = lambda steps: None,
) -> Recipe:
    """Search the recipe of at most `budget` bytes that stays closest to a dense model on these conversations.

    lm: dense; it is changed while this runs and left as it was. advance: told of the steps read;
    `steps_to_search` says how many there will be.
    Raises QuantizationError where no recipe is that small, and for a model that is quantized already.
    """
    _check(
        budget,
        parameter_bytes(lm),
        {group: min(map(group.bytes, [None, *filter(group.fits, LADDER)])) for group in groups(lm)},
    )
    measured = measure(lm, conversations, advance)
    return choose(lm, measured, prices(lm, measured), budget, name)


def steps_to_search(lm: Lm, conversations: Sequence[Conversation]) -> int:
    """Return how many steps `search` will read."""
    readings = sum(group.fits(probe) for group in groups(lm) for probe in PROBES) + len(FLOORS)
    return sum(map(len, conversations)) * readings


def measure(
    lm: Lm, conversations: Sequence[Conversation], advance: Callable[[int], None] = lambda steps: None
) -> Measured:
    """Return what the dense model expects, as `prices` and `choose` need it."""
    with _widened(lm):
        return Measured(lm, conversations, advance)


def prices(lm: Lm, measured: Measured) -> dict[Group, list[Price]]:
    """Return what every choice for every group of layers costs, the dense one first.

    The divergence is measured at the probes only. For small errors it grows with their square, so what a group's
    other choices cost follows from how much more they change its weights; and with one constant a group, from all
    probes together, the luck of a single rounding on a few hundred steps counts less.
    """
    found = groups(lm)
    with _widened(lm):
        return {group: _prices(lm, group, measured) for group in found}


def choose(
    lm: Lm, measured: Measured, found: Mapping[Group, Sequence[Price]], budget: int, name: str = "mixed"
) -> Recipe:
    """Return the best recipe within a budget, given what every choice costs on its own.

    Coarse choices can cost more together than their sum. So allocations that may use fewer and fewer of them are
    made, each is measured as a whole, and the best is taken.
    """
    size, tried = parameter_bytes(lm), []
    for floor in FLOORS:
        kept = {
            group: [price for price in choices if not price.scheme or price.scheme.bits >= floor]
            for group, choices in found.items()
        }
        if not tried or _need(size, {group: hull(choices)[0].bytes for group, choices in kept.items()}) <= budget:
            tried.append(allocate(kept, size, budget, name))
    with _widened(lm):
        return min(tried, key=lambda recipe: _kl(lm, recipe, found, measured))


def _kl(lm: Lm, recipe: Recipe, found: Iterable[Group], measured: Measured) -> float:
    """Measure what a recipe costs."""
    weights: dict[str, mx.array] = {}
    for group in found:
        if scheme := recipe.how(group.paths[0]):
            weights |= group.rounded(scheme)
    with _replaced(lm, weights):
        return measured.kl(lm)


def _prices(lm: Lm, group: Group, measured: Measured) -> list[Price]:
    below = all(path.startswith("depformer.") for path in group.paths)
    curvatures, errors = [], {}
    for scheme in filter(group.fits, LADDER):
        weights = group.rounded(scheme)
        pairs = {id(old): (old, weights[path]) for path, old in zip(group.paths, group.weights, strict=True)}
        errors[scheme] = sum(sum_of_squares(new - old).item() for old, new in pairs.values())
        if scheme in PROBES and errors[scheme]:
            with _replaced(lm, weights):
                curvatures.append(measured.kl(lm, same_temporal=below) / errors[scheme])
    curvature = sum(curvatures) / len(curvatures) if curvatures else 0.0
    choices = [Price(scheme, group.bytes(scheme), curvature * error) for scheme, error in errors.items()]
    return [Price(None, group.bytes(None), 0.0), *choices]


@contextmanager
def _replaced(lm: Lm, weights: Mapping[str, mx.array]) -> Iterator[None]:
    """Give the model other weights while the block runs. weights: of layers, by path."""
    modules = dict(lm.named_modules())
    kept = {path: modules[path].weight for path in weights}
    for path, weight in weights.items():
        modules[path].weight = weight
    try:
        yield
    finally:
        for path, weight in kept.items():
            modules[path].weight = weight


@contextmanager
def _widened(lm: Lm) -> Iterator[None]:
    """Hold activations in float32 while the block runs, to be exact; on a CPU also weights, to be fast."""
    dtype, kept = lm.activation_dtype, parameters(lm)
    try:
        widen_on_cpu(lm)
        lm.activation_dtype = mx.float32
        yield
    finally:
        lm.update(tree_unflatten(list(kept.items())))
        lm.activation_dtype = dtype


def allocate(found: Mapping[Group, Sequence[Price]], size: int, budget: int, name: str = "mixed") -> Recipe:
    """Return the choices of least total divergence within a budget. size: bytes of the whole model, dense."""
    hulls = {group: hull(choices) for group, choices in found.items()}
    chosen = dict.fromkeys(hulls, 0)  # index into the hull
    left = _check(budget, size, {group: choices[0].bytes for group, choices in hulls.items()})
    while True:
        steps = [
            (hulls[group][index], hulls[group][index + 1], group)
            for group, index in chosen.items()
            if index + 1 < len(hulls[group])
        ]
        steps = [step for step in steps if step[1].bytes - step[0].bytes <= left]
        if not steps:
            break
        below, above, group = max(steps, key=lambda step: _worth(step[0], step[1]))
        left -= above.bytes - below.bytes
        chosen[group] += 1
    return _recipe(name, {group: hulls[group][index].scheme for group, index in chosen.items()})


def hull(choices: Iterable[Price]) -> list[Price]:
    """Return the lower convex hull of bytes and divergence, smallest first: no other choice is worth its bytes."""
    lower: list[Price] = []
    for price in sorted(choices, key=lambda price: (price.bytes, price.kl)):
        if lower and price.kl >= lower[-1].kl:
            continue
        while len(lower) > 1 and _worth(lower[-2], lower[-1]) <= _worth(lower[-1], price):
            lower.pop()
        lower.append(price)
    return lower


def groups(lm: Lm) -> list[Group]:
    """Return the layers that can be quantized, in groups that get one scheme."""
    members: dict[object, list[tuple[str, mx.array]]] = {}
    for path, layer in lm.named_modules():
        if isinstance(layer, nn.QuantizedLinear) or hasattr(layer, "scales"):
            raise QuantizationError("this model is already quantized; a recipe is searched on the bf16 checkpoint")
        if hasattr(layer, "to_quantized"):
            kind = re.sub(r"\d+", "*", path) if TOGETHER.fullmatch(path) else id(layer.weight)
            members.setdefault(kind, []).append((path, layer.weight))
    return [
        Group(tuple(path for path, _ in found), tuple(weight for _, weight in found)) for found in members.values()
    ]


def rounded_weights(weight: mx.array, scheme: Scheme) -> mx.array:
    """Return the float32 weights that a layer computes with once it is quantized."""
    return dequantized(mx.quantize(weight, **scheme.block()), **scheme.block())


def _need(size: int, smallest: Mapping[Group, int]) -> int:
    """Return the bytes of the whole model when every group takes its fewest. size: of the whole model, dense."""
    return size - sum(group.bytes(None) - least for group, least in smallest.items())


def _check(budget: int, size: int, smallest: Mapping[Group, int]) -> int:
    """Return what a budget leaves where every group takes its fewest bytes. Raises QuantizationError below 0."""
    need = _need(size, smallest)
    if need > budget:
        raise QuantizationError(
            f"a budget of {budget / 1e6:,.1f} MB is too small: the smallest recipe needs {need / 1e6:,.1f} MB"
        )
    return budget - need


def _worth(below: Price, above: Price) -> float:
    """Return the nats saved per byte spent."""
    return (below.kl - above.kl) / (above.bytes - below.bytes)


def _recipe(name: str, chosen: Mapping[Group, Scheme | None]) -> Recipe:
    """Return the recipe of some choices in the fewest words: most layers by default, the others one by one."""
    counts: dict[Scheme | None, int] = {}
    for group, scheme in chosen.items():
        counts[scheme] = counts.get(scheme, 0) + len(group.paths)
    default = max((scheme for scheme in counts if scheme), key=lambda scheme: counts[scheme], default=None)
    layers = {
        path: scheme.block() if scheme else False
        for group, scheme in chosen.items()
        if scheme != default
        for path in group.paths
    }
    return Recipe(name, default, layers)
