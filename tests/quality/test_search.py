"""Searching recipes: what is offered, what is taken, and what is left as it was."""

import itertools

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes, parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality import search as searching
from moshi_mlx.quality.candidates import apply_recipe
from moshi_mlx.quality.conversations import Conversation
from moshi_mlx.quality.evaluator import Measured
from moshi_mlx.quality.search import (
    PROBES,
    Group,
    Price,
    allocate,
    choose,
    groups,
    hull,
    measure,
    prices,
    search,
    steps_to_search,
)
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.weights.quantization import Recipe, Scheme, parse_recipe

pytestmark = pytest.mark.slow

SHARED = {**TINY, "depformer_num_layers": 1, "depformer_weights_per_step_schedule": [0, 1, 1, 1, 1, 1, 1, 1]}


@pytest.fixture
def lm() -> Lm:
    mx.random.seed(0)
    lm = Lm(LmConfig.from_dict(SHARED))
    for step in range(2, 8):
        for name in ("linear_in", "transformer"):
            lm.depformer.slices[step][name] = lm.depformer.slices[1][name]
    lm.update({"text_emb": {"weight": 3 * lm.text_emb.weight}})
    return lm


@pytest.fixture
def conversation() -> Conversation:
    random = np.random.RandomState(0)
    return Conversation(random.randint(0, 64, (6, 8)), random.randint(0, 64, (6, 9)))


def random_prices(seed: int, count: int = 4) -> dict[Group, list[Price]]:
    """Groups whose choices cost what random numbers say, the dense one nothing."""
    random = np.random.RandomState(seed)
    found = {}
    for index in range(count):
        weight = mx.zeros((2, 64 * random.randint(1, 5)))
        group = Group((f"layer.{index}",), (weight,))
        schemes = [Scheme(bits, 64) for bits in (2, 3, 4, 6)]
        costs = np.sort(random.rand(4))[::-1]
        found[group] = [
            Price(None, group.bytes(None), 0.0),
            *(Price(scheme, group.bytes(scheme), cost) for scheme, cost in zip(schemes, costs, strict=True)),
        ]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_is_spent_is_spent_in_the_best_way(seed: int) -> None:
    """No other choice of as many bytes costs less; checked against all choices there are."""
    found = random_prices(seed)
    size = sum(choices[0].bytes for choices in found.values())
    every = [
        (sum(p.bytes for p in picks), sum(p.kl for p in picks)) for picks in itertools.product(*found.values())
    ]
    exact = 0
    for budget in range(min(bytes for bytes, _ in every), size + 1, 96):
        recipe = allocate(found, size, budget)
        picks = [
            next(p for p in choices if p.scheme == recipe.how(group.paths[0])) for group, choices in found.items()
        ]
        spent, cost = sum(pick.bytes for pick in picks), sum(pick.kl for pick in picks)
        assert spent <= budget
        assert cost <= min(kl for bytes, kl in every if bytes <= spent) + 0.3  # one indivisible step of one group
        exact += cost == pytest.approx(min(kl for bytes, kl in every if bytes <= budget))
    assert exact > 3


def test_the_hull_leaves_out_what_is_not_worth_its_bytes() -> None:
    a, b, c, d, e = (
        Price(None, bytes, kl) for bytes, kl in ((10, 9.0), (20, 7.0), (30, 2.0), (40, 2.5), (50, 0.0))
    )
    assert hull([e, d, c, b, a]) == [a, c, e]


def test_too_small_a_budget_is_refused_with_the_smallest_there_is() -> None:
    found = random_prices(0)
    smallest = sum(min(price.bytes for price in choices) for choices in found.values())
    size = sum(choices[0].bytes for choices in found.values())
    allocate(found, size, smallest)
    with pytest.raises(QuantizationError, match=r"a budget of 0\.0 MB is too small: the smallest recipe needs"):
        allocate(found, size, smallest - 1)


def test_every_layer_is_in_one_group_and_shared_arrays_count_once(lm: Lm) -> None:
    found = groups(lm)
    paths = [path for group in found for path in group.paths]
    can = [path for path, layer in lm.named_modules() if hasattr(layer, "to_quantized")]
    assert sorted(paths) == sorted(can)
    arrays = [id(array) for group in found for array in group.arrays]
    assert len(arrays) == len(set(arrays))
    together = next(group for group in found if "audio_embs.3" in group.paths)
    assert len(together.paths) == 16
    assert not any(
        "gating" in path for group in found for path in group.paths if "depformer.slices.0.emb" in group.paths
    )


@pytest.mark.parametrize("scheme", [Scheme(3, 64), Scheme(4, 32), Scheme(4, 32, "mxfp4"), Scheme(8, 64)], ids=str)
def test_bytes_are_those_of_the_model_made(lm: Lm, scheme: Scheme) -> None:
    dense = parameter_bytes(lm)
    predicted = dense + sum(group.bytes(scheme) - group.bytes(None) for group in groups(lm))
    apply_recipe(lm, Recipe("all", scheme))
    assert parameter_bytes(lm) == predicted < dense


def test_a_search_keeps_its_budget_and_leaves_the_model_as_it_was(lm: Lm, conversation: Conversation) -> None:
    held = parameters(lm)  # as in a file: bfloat16, shared arrays shared
    narrow = {id(array): array.astype(mx.bfloat16) for array in held.values()}
    lm.update(tree_unflatten([(name, narrow[id(array)]) for name, array in held.items()]))
    lm.activation_dtype = mx.bfloat16
    before, dense, told = parameters(lm), parameter_bytes(lm), []
    budget = dense // 3
    recipe = search(lm, [conversation], budget, advance=told.append)
    assert sum(told) == steps_to_search(lm, [conversation])
    assert {name: id(array) for name, array in parameters(lm).items()} == {n: id(a) for n, a in before.items()}
    assert lm.activation_dtype == mx.bfloat16
    apply_recipe(lm, parse_recipe(recipe))
    assert 0.97 * budget < parameter_bytes(lm) <= budget
    paths = [path for group in groups(Lm(lm.config)) for path in group.paths]
    assert len({recipe.how(path) for path in paths}) > 2  # not all alike


@pytest.mark.parametrize(
    "path", ["transformer.layers.1.self_attn.in_proj", "text_linear", "depformer.slices.6.linear_out"]
)
def test_a_group_is_measured_with_all_else_dense(lm: Lm, conversation: Conversation, path: str) -> None:
    found = next(price for group, price in prices(lm, measure(lm, [conversation])).items() if path in group.paths)
    measured, layer = Measured(lm, [conversation]), dict(lm.named_modules())[path]
    weight, ratios, errors = layer.weight, [], {}
    for probe in PROBES:
        layer.weight = mx.dequantize(
            *mx.quantize(weight, probe.group_size, probe.bits), probe.group_size, probe.bits
        )
        errors[probe] = mx.sum(mx.square(layer.weight - weight)).item()
        ratios.append(measured.kl(lm) / errors[probe])
    for price in found:
        if price.scheme in PROBES:
            assert price.kl == pytest.approx(np.mean(ratios) * errors[price.scheme], rel=0.02)


def test_the_recipe_taken_is_the_best_of_those_tried_as_a_whole(
    lm: Lm, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = measure(lm, [conversation])
    found, budget = prices(lm, measured), parameter_bytes(lm) // 6

    def cost(recipe: Recipe) -> float:
        made = Lm(lm.config)
        made.update(lm.parameters())
        apply_recipe(made, recipe)
        assert parameter_bytes(made) <= budget
        return measured.kl(made)

    floors, taken, tried = searching.FLOORS, [], []
    for order in (floors, floors[::-1]):
        monkeypatch.setattr(searching, "FLOORS", order)
        taken.append(cost(choose(lm, measured, found, budget)))
    for floor in floors:
        monkeypatch.setattr(searching, "FLOORS", (floor,))
        tried.append(cost(choose(lm, measured, found, budget)))
    assert len(set(tried)) == len(tried)
    assert taken == pytest.approx([min(tried)] * 2)


def test_costs_grow_with_the_square_of_the_error_and_shared_steps_change_together(
    lm: Lm, conversation: Conversation
) -> None:
    found = prices(lm, measure(lm, [conversation]))
    shared = next(
        group for group in found if "depformer.slices.3.transformer.layers.0.gating.linear_in" in group.paths
    )
    assert len(shared.paths) == 7
    assert len(shared.arrays) == 1
    by_scheme = {price.scheme: price for price in found[shared]}
    weight = shared.arrays[0]

    def error(scheme: Scheme) -> float:
        back = mx.dequantize(*mx.quantize(weight, scheme.group_size, scheme.bits), scheme.group_size, scheme.bits)
        return float(np.square(np.array(back - weight)).sum())

    coarse, fine = Scheme(2, 64), Scheme(8, 64)
    assert by_scheme[coarse].kl / by_scheme[fine].kl == pytest.approx(error(coarse) / error(fine), rel=1e-3)
    assert by_scheme[PROBES[0]].kl > by_scheme[PROBES[1]].kl > 0


def test_quantized_models_are_not_searched(lm: Lm) -> None:
    quantize_lm(lm, Scheme(8, 64))
    with pytest.raises(QuantizationError, match="already quantized"):
        groups(lm)
