"""Losses, gradients and optimizer steps against PyTorch's, with the same weights and windows."""

import json
from collections.abc import Container
from functools import cache

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.finetune.loss import Batch, losses, make_batch
from moshi_mlx.finetune.parameters import LORA_A, LORA_B, Trained, train_adapter, train_all
from moshi_mlx.models.lm import Lm
from tests.finetune.made_up import ADAPTED, RANK, SCALING, codes_of, shadow
from tests.golden import read_golden
from tests.random_weights import random_tensor

MODELS = ("moshi", "scheduled", "persona")


class Case:
    """A model with PyTorch's weights, what is trained of it, and what PyTorch found."""

    def __init__(self, name: str, kind: str) -> None:
        golden = read_golden(f"finetune_{name}", as_stored=True)
        self.lm, self.answers = golden.lm, golden.answers
        self.kind = kind
        self.trained = train_all(self.lm) if kind == "full" else adapted(self.lm)
        self.names: list[str] = json.loads(str(self.answers[f"{kind}_names"]))
        self.conditions = {"description": "good"} if self.lm.config.conditioners else None

    def batch(self, step: int) -> Batch:
        config = self.lm.config
        sizes = {"card": config.card, "text_card": config.text_card, "n_q": config.n_q}
        codes = codes_of(sizes, step)
        return make_batch(codes, config, conditions=[self.conditions or {}] * len(codes))

    def evaluate(
        self, values: dict[str, mx.array], step: int, checkpointing: bool = False
    ) -> tuple[float, np.ndarray, dict[str, mx.array]]:
        """The loss at some values of the trained parameters, its parts, and the gradients."""

        def compute(values: dict[str, mx.array]) -> tuple[mx.array, mx.array]:
            self.trained.put(self.lm, values)
            return losses(self.lm, self.batch(step).arrays(), checkpointing)

        (total, parts), gradients = mx.value_and_grad(compute)(values)
        mx.eval(total, parts, gradients)
        self.trained.put(self.lm, self.trained.start)
        return float(np.array(total)), np.array(parts), gradients

    def check(
        self, what: str, arrays: dict[str, mx.array], tolerance: float, undecided: Container[str] = ()
    ) -> None:
        for name, theirs in zip(self.names, self.answers[f"{self.kind}_{what}"], strict=True):
            array = np.array(arrays[name])
            ours = shadow(name, array.T if "lora_" in name else array)
            error = np.abs(ours - theirs).max() / max(theirs[0], 1e-12)
            bar = 5e-2 if name in undecided else tolerance
            assert error <= bar, f"{what} of {name}: {error:.2e} of its norm {theirs[0]:.2e}"


def adapted(lm: Lm) -> Trained:
    trained = train_adapter(lm, RANK, SCALING)
    start = {
        name: ADAPTED * mx.array(random_tensor(name, value.T.shape)).T for name, value in trained.start.items()
    }
    return Trained(trained.places, start, trained.dtypes)


@cache
def case(name: str, kind: str) -> Case:
    return Case(name, kind)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_pytorchs(name: str, kind: str) -> None:
    one = case(name, kind)
    assert set(one.names) <= set(one.trained.start), set(one.names) - set(one.trained.start)
    total, parts, gradients = one.evaluate(dict(one.trained.start), 0)
    theirs = one.answers[f"{kind}_losses"][0]
    shares = one.batch(0).shares
    ours = np.array([total, parts[0], float(parts[1:] @ shares[1:])])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    one.check("gradients", gradients, 1e-4)
    for name in set(gradients) - set(one.names):
        assert not np.array(gradients[name]).any(), f"{name} has no gradient in PyTorch"


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_checkpointing_changes_no_loss_and_no_gradient(kind: str) -> None:
    one = case("scheduled", kind)
    plain, checked = (one.evaluate(dict(one.trained.start), 0, on) for on in (False, True))
    assert plain[0] == pytest.approx(checked[0], rel=1e-6)
    for name, gradient in plain[2].items():
        difference = np.abs(np.array(checked[2][name]) - np.array(gradient)).max()
        assert difference <= 1e-5 * max(1e-3, float(mx.abs(gradient).max())), name


def test_an_adapter_has_every_module_of_pytorchs() -> None:
    for name in MODELS:
        one = case(name, "lora")
        shapes = json.loads(str(one.answers["adapter"]))
        ours = {name: list(value.T.shape) for name, value in one.trained.start.items()}
        assert ours == shapes


def test_a_fresh_adapter_changes_nothing() -> None:
    lm = read_golden("finetune_moshi").lm
    tokens = mx.array(codes_of({"card": 32, "text_card": 48, "n_q": 16}, 0))
    before = lm.temporal(tokens, lm.new_state(2))
    trained = train_adapter(lm, 4, 2.0, seed=1)
    trained.put(lm, trained.start)
    assert mx.array_equal(lm.temporal(tokens, lm.new_state(2)), before)
    drawn = [value for name, value in trained.start.items() if name.endswith(LORA_A)]
    assert all(float(mx.abs(value).max()) <= value.shape[0] ** -0.5 for value in drawn)
    assert all(float(mx.abs(value).max()) > 0 for value in drawn)
    assert not any(mx.any(value).item() for name, value in trained.start.items() if name.endswith(LORA_B))


def test_each_window_of_a_batch_has_its_own_condition() -> None:
    lm = read_golden("finetune_scheduled", as_stored=True).lm
    values = [{"description": "good"}, {"description": None}, {}, {"description": "bad"}]
    codes = codes_of({"card": lm.config.card, "text_card": lm.config.text_card, "n_q": lm.config.n_q}, 0, rows=4)
    batch = make_batch(codes, lm.config, conditions=values)
    added = lm.condition_provider.added_rows(batch.arrays()["conditions"])
    one_by_one = [lm.condition(each) for each in values]
    expected = np.concatenate([np.array(each) for each in one_by_one])
    np.testing.assert_allclose(np.array(added), expected, atol=1e-6)  # BLAS adds up several rows otherwise
    assert len({np.array(each).tobytes() for each in one_by_one}) == 3, "the best unless given"
    total, _ = losses(lm, batch.arrays())
    parts = [batch.rows(index, index + 1) for index in range(4)]
    assert sum(float(np.array(losses(lm, part.arrays())[0])) for part in parts) == pytest.approx(
        float(np.array(total))
    )
    same = make_batch(codes, lm.config)
    assert float(np.array(losses(lm, same.arrays())[0])) != pytest.approx(float(np.array(total)), rel=1e-4)
