"""The budget: never more calls than its rate and its burst allow, over any stretch of time or of traffic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.bypass.budget import Budget, TokenBucket
from api.bypass.settings import BudgetSettings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.01, 1_000),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 10) | st.floats(0, 0.01), min_size=1, max_size=200),
)
def test_no_stretch_of_time_holds_more_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause
        if bucket.has_one():
            bucket.take()
            taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-6


@given(share=st.floats(0.001, 1), burst=st.integers(2, 20), traffic=st.integers(0, 500))
def test_the_share_of_traffic_is_never_above_the_budget(share: float, burst: int, traffic: int) -> None:
    budget, taken = Budget(BudgetSettings(share=share, burst=burst)), 0
    for _ in range(traffic):
        budget.saw_one()
        taken += budget.take()
    assert taken <= burst + share * traffic + 1e-6
    assert taken >= int(share * traffic) - 1  # and what it allows can be used


def test_a_quiet_time_saves_up_no_more_than_the_burst() -> None:
    clock = Clock()
    budget = Budget(BudgetSettings(per_second=4, burst=3), clock)
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    clock.now += 3_600
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    clock.now += 0.25
    assert [budget.take(), budget.take()] == [True, False]


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing() -> None:
    clock = Clock()
    budget = Budget(BudgetSettings(per_second=1, burst=1), clock)
    assert budget.take()
    clock.now = -100
    assert not budget.take()
    clock.now = 1
    assert budget.take()


def test_what_one_bucket_refuses_costs_the_other_nothing() -> None:
    clock = Clock()
    budget = Budget(BudgetSettings(per_second=1, share=0.5, burst=1), clock)
    assert budget.take()
    clock.now += 1  # time would allow one more, the traffic does not
    assert not budget.take()
    for _ in range(2):
        budget.saw_one()
    assert budget.take()


def test_without_a_budget_every_call_may_be_made() -> None:
    budget = Budget(BudgetSettings())
    assert all(budget.take() for _ in range(1_000))
