"""The schedule is PyTorch's at every step; the optimizer's steps are tested with the loss."""

import numpy as np
import pytest

from moshi_mlx.finetune.optimizer import one_cycle
from tests.finetune.made_up import SCHEDULES
from tests.golden import ASSETS


@pytest.mark.parametrize("number", range(len(SCHEDULES)))
def test_learning_rate_and_momentum_are_pytorchs_at_every_step(number: int) -> None:
    steps, warm_up = SCHEDULES[number]
    with np.load(ASSETS / "finetune_schedules.npz") as file:
        expected = file[f"{number}"]
    paces = [one_cycle(step, steps, 2e-6, warm_up) for step in range(steps)]
    np.testing.assert_allclose([[pace.rate, pace.momentum] for pace in paces], expected, rtol=1e-9)


def test_a_warm_up_of_one_step_starts_at_the_peak() -> None:
    assert one_cycle(0, 20, 1.0, 0.05).rate == 1.0
