"""Models that are loaded when they are asked for, share the memory, and are unloaded when nobody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.planning.planner import MARGIN_BYTES, Budget
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.model_pool import ModelPool, NoRoom, ServedModel

SLICES = 3


class Loads:
    """Makes models whose loading takes so many slices and is counted."""

    def __init__(self, moshi: Moshi) -> None:
        self.moshi = moshi
        self.begun: list[str] = []
        self.told: list[str] = []

    def model(self, name: str, need: float = 0.0) -> ServedModel:
        def load(advance: Callable[[int], None]) -> Moshi:
            self.begun.append(name)
            for _ in range(SLICES):
                self.told.append(name)
                advance(1)
            return self.moshi

        return ServedModel(name, load, need=need)


@pytest.fixture
def loads(tiny_moshi: Moshi) -> Loads:
    return Loads(tiny_moshi)


def work(moshi: Moshi) -> Iterator[str]:
    yield "one"
    yield "two"


def test_a_model_is_loaded_by_slices_when_it_is_first_asked_for(loads: Loads) -> None:
    model = loads.model("a")
    pool = ModelPool([model])
    assert model.state == "unloaded"
    using = pool.using(model, work)
    states = []
    for found in using:
        states.append((model.state, found))
    assert states == [("loading", None)] * SLICES + [("ready", None), ("ready", "one"), ("ready", "two")]
    assert list(pool.using(model, work)) == ["one", "two"]
    assert loads.begun == ["a"]


def test_two_who_ask_at_once_load_it_once(loads: Loads) -> None:
    model = loads.model("a")
    pool = ModelPool([model])
    one, two = pool.using(model, work), pool.using(model, work)
    found: list[str | None] = []
    for _ in range(8):
        found += [next(one, None), next(two, None)]
    assert [each for each in found if each] == ["one", "one", "two", "two"]
    assert loads.begun == ["a"]


def test_loading_that_nobody_waits_for_any_more_is_given_up(loads: Loads) -> None:
    model = loads.model("a")
    pool = ModelPool([model])
    using = pool.using(model, work)
    next(using)
    assert isinstance(using, Iterator)
    using.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert (model.state, model.users, loads.told) == ("unloaded", 0, ["a"])


def test_what_nobody_used_for_so_long_is_unloaded(loads: Loads) -> None:
    now = 0.0
    one, two = loads.model("a"), loads.model("b")
    pool = ModelPool([one, two], idle=60.0, clock=lambda: now)
    list(pool.using(one, work))
    now = 30.0
    used = pool.using(two, work)
    while next(used) != "one":
        pass
    now = 61.0
    list(pool.tidy())
    assert (one.state, two.state) == ("unloaded", "ready")
    list(used)
    now = 120.0
    list(pool.tidy())
    assert two.state == "ready"
    now = 122.0
    list(pool.tidy())
    assert two.state == "unloaded"
    assert list(pool.using(one, work))[-1] == "two"
    assert loads.begun == ["a", "b", "a"]


def test_models_make_room_for_each_other_and_those_in_use_stay(loads: Loads) -> None:
    now = 0.0
    models = [loads.model(name, need=2e9) for name in "abc"]
    memory = int((MARGIN_BYTES + 4.5e9) / 0.7)  # for two
    pool = ModelPool(models, Budget(memory, None), clock=lambda: now)
    for model in models[:2]:
        now += 1
        list(pool.using(model, work))
    assert [model.state for model in models] == ["ready", "ready", "unloaded"]
    list(pool.using(models[2], work))
    assert [model.state for model in models] == ["unloaded", "ready", "ready"], "the one used longest ago"
    held = [pool.using(model, work) for model in models[1:]]
    for one in held:
        next(one)
    with pytest.raises(NoRoom, match=r"a needs 2\.0 GB beside 4\.0 GB that are in use"):
        next(pool.using(models[0], work))
    assert [model.state for model in models] == ["unloaded", "ready", "ready"]


def test_what_loading_raises_is_told_and_the_next_may_try_again(loads: Loads, tiny_moshi: Moshi) -> None:
    tries: list[int] = []

    def load(advance: Callable[[int], None]) -> Moshi:
        tries.append(1)
        if len(tries) == 1:
            raise CheckpointError("damaged")
        return tiny_moshi

    model = ServedModel("a", load)
    pool = ModelPool([model])
    with pytest.raises(CheckpointError, match="damaged"):
        next(pool.using(model, work))
    assert (model.state, model.users) == ("unloaded", 0)
    assert list(pool.using(model, work))[-1] == "two"
