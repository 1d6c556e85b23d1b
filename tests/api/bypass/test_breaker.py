"""The breaker opens after failures in a row, tries one call after a pause, and forgets what began before."""

from __future__ import annotations

import pytest

from api.bypass.breaker import CircuitBreaker, State
from api.bypass.settings import BreakerSettings


class Tried:
    """A breaker of three failures and ten seconds, its clock, and the states it went through."""

    def __init__(self) -> None:
        self.now, self.states = 0.0, list[State]()
        settings = BreakerSettings(failures=3, pause_seconds=10)
        self.breaker = CircuitBreaker(settings, self.states.append, lambda: self.now)

    def call(self, *, answered: bool) -> None:
        assert self.breaker.allows()
        self.breaker.end(self.breaker.begin(), answered=answered)

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.call(answered=False)


@pytest.fixture
def tried() -> Tried:
    return Tried()


def test_it_opens_after_so_many_failures_in_a_row(tried: Tried) -> None:
    tried.fail(2)
    tried.call(answered=True)
    tried.fail(2)
    assert tried.breaker.state == "closed"
    tried.fail(1)
    assert tried.breaker.state == "open"
    assert not tried.breaker.allows()


def test_after_the_pause_one_call_tries_and_the_others_wait_for_it(tried: Tried) -> None:
    tried.fail(3)
    tried.now = 9.9
    assert not tried.breaker.allows()
    tried.now = 10
    era = tried.breaker.begin()
    assert not tried.breaker.allows()
    tried.breaker.end(era, answered=True)
    assert tried.breaker.allows()
    assert tried.states == ["closed", "open", "half_open", "closed"]


def test_a_trial_that_fails_opens_it_for_another_pause(tried: Tried) -> None:
    tried.fail(3)
    tried.now = 10
    tried.fail(1)
    assert tried.breaker.state == "open"
    tried.now = 19.9
    assert not tried.breaker.allows()
    tried.now = 20
    assert tried.breaker.allows()


def test_after_it_closed_it_takes_all_the_failures_again_to_open(tried: Tried) -> None:
    tried.fail(3)
    tried.now = 10
    tried.call(answered=True)
    tried.fail(2)
    assert tried.breaker.state == "closed"


@pytest.mark.parametrize("answered", [True, False])
def test_a_call_from_before_it_opened_neither_closes_it_nor_ends_its_trial(tried: Tried, answered: bool) -> None:
    early = tried.breaker.begin()
    tried.fail(3)
    tried.breaker.end(early, answered=answered)
    assert tried.breaker.state == "open"
    early_too = tried.breaker.begin() if tried.breaker.allows() else early
    tried.now = 10
    trial = tried.breaker.begin()
    tried.breaker.end(early_too, answered=answered)
    assert tried.breaker.state == "half_open"
    tried.breaker.end(trial, answered=True)
    assert tried.breaker.state == "closed"
