"""What a client may ask for in a second: full at first, filled at a rate, and said in words when it is spent."""

import pytest

from moshi_mlx.web.budget import Budget, Budgets, ClientBudget, OverBudget
from moshi_mlx.web.limits import Limits, Rate


def test_a_budget_gives_its_burst_and_then_its_rate() -> None:
    now = [5.0]
    budget = Budget(Rate(2, 10), lambda: now[0])
    assert budget.full
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    assert budget.empty
    now[0] += 1.0
    assert not budget.empty
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now[0] += 1000.0
    assert not budget.spend(10.5), "what was not spent adds up to no more than the burst"
    assert budget.spend(10)


def test_every_key_has_its_own_and_the_longest_unused_are_forgotten() -> None:
    """However many come, and all of them with debts."""
    budgets = Budgets(Rate(1, 1), lambda: 0.0)
    assert budgets["a"].spend()
    assert not budgets["a"].spend()
    assert budgets["b"].spend()
    for key in range(10_000):
        assert budgets[key].spend()
        assert not budgets["a"].spend(), "who comes all the time is remembered"
    assert len(budgets._of) == 4096
    assert budgets["b"].spend()


@pytest.mark.parametrize(
    ("spend", "words"),
    [
        (lambda one: one.message(0), "10 messages a second came: send audio in pieces"),
        (lambda one: one.message(1001), "1000 bytes a second came: send audio as fast as it is spoken"),
        (lambda one: one.work(3), "20 pages and packets a second"),
        (lambda one: one.control(), "1 new conversations a second were"),
        (lambda one: one.ignored(), "4 messages a second came that are neither audio nor a control"),
    ],
)
def test_who_is_over_budget_is_told_of_which(spend, words: str) -> None:
    one = ClientBudget(
        Limits(
            messages=Rate(10, 20),
            bytes=Rate(1000, 1000),
            work=Rate(20, 20),
            controls=Rate(1, 2),
            ignored=Rate(4, 4),
        )
    )
    with pytest.raises(OverBudget, match=words):
        [spend(one) for _ in range(30)]
