"""Sequential tests: the false-alarm rate holds however often one looks, and harm is found in few looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.sequential import EitherTest, MatchedPairsTest, PairedRateTest, RateTest, later
from riskdistill.errors import ConfigError, DataError

ALPHA = 0.01
DAYS, LOOKS, REQUESTS = 1_000, 288, 500


def alarms(test: RateTest | PairedRateTest, look: Callable[[], object]) -> float:
    """Share of simulated days with an alarm at any look."""
    for _ in range(LOOKS):
        look()
    return float(test.rejected(ALPHA).mean())


def test_a_rate_at_its_limit_alarms_on_fewer_days_than_alpha() -> None:
    draw, test = np.random.default_rng(0), RateTest(0.02)
    assert alarms(test, lambda: test.update(draw.binomial(REQUESTS, 0.02, DAYS), REQUESTS)) <= ALPHA


@pytest.mark.parametrize("shares", [(0.015, 0.005, 0.015), (0.03, 0.02, 0.0)])
def test_a_paired_rate_at_its_margin_alarms_on_fewer_days_than_alpha(shares: tuple[float, ...]) -> None:
    draw, test = np.random.default_rng(1), PairedRateTest(1.5)

    def look() -> object:
        counts = draw.multinomial(REQUESTS, (*shares, 1 - sum(shares)), DAYS)
        return test.update(*counts.T[:3])

    assert alarms(test, look) <= ALPHA


def test_matched_pairs_at_their_margin_alarm_on_few_days() -> None:
    draw, test = np.random.default_rng(2), MatchedPairsTest(1.5)  # odds 0.75 against 0.5
    a, b = 3 / 7, 1 / 3
    for _ in range(100):
        pairs = draw.multinomial(8, (a * (1 - b), (1 - a) * b, a * b + (1 - a) * (1 - b)), DAYS).T
        test.match(*pairs[:2])
    assert test.rejected(ALPHA).mean() <= ALPHA


def test_one_of_two_hypotheses_may_hold_at_a_time_and_the_other_at_another() -> None:
    draw, test = np.random.default_rng(5), EitherTest(RateTest(0.02), RateTest(0.05))
    step = 0

    def look() -> object:
        nonlocal step
        step += 1
        first, second = (0.02, 0.2) if step // 24 % 2 else (0.2, 0.05)
        one, other = draw.binomial(REQUESTS, first, DAYS), draw.binomial(REQUESTS, second, DAYS)
        return test.update((one, REQUESTS - one), (other, REQUESTS - other), step // 12)

    for _ in range(LOOKS):
        look()
    assert test.rejected(ALPHA).mean() <= ALPHA


@pytest.mark.parametrize("looks", [1, 7, 50])
def test_who_looks_more_often_within_a_step_sees_the_same_evidence_at_its_end(looks: int) -> None:
    often, once = EitherTest(RateTest(0.02), RateTest(0.05)), EitherTest(RateTest(0.02), RateTest(0.05))
    for step in range(3):
        for _ in range(looks):
            often.update((3, 40), (9, 40), step)
        once.update((3 * looks, 40 * looks), (9 * looks, 40 * looks), step)
    assert often.now == pytest.approx(once.now)


def test_an_error_rate_from_2_to_3_percent_is_found_within_nine_looks() -> None:
    draw, test = np.random.default_rng(3), RateTest(0.02)
    for _ in range(9):
        test.update(draw.binomial(REQUESTS, 0.03, DAYS), REQUESTS)
    assert test.rejected(ALPHA).mean() >= 0.5


def test_a_late_fault_is_found_nearly_as_fast_as_an_early_one() -> None:
    draw, test = np.random.default_rng(4), PairedRateTest(1.5)
    for look in range(LOOKS):
        excess = 0.045 if look >= 200 else 0.005
        test.update(*draw.multinomial(REQUESTS, (excess, 0.005, 0.015, 0.975 - excess), DAYS).T[:3])
        if look == 199:
            assert test.rejected(ALPHA).mean() <= ALPHA
        if look == 209:
            assert test.rejected(ALPHA).mean() >= 0.9
            return


def test_odds_that_are_three_times_as_high_are_found_in_matched_pairs() -> None:
    test = MatchedPairsTest(1.5)
    for _ in range(12):
        test.match(12, 2)
    assert test.rejected(ALPHA)


def test_each_test_may_have_a_limit_of_its_own() -> None:
    together = RateTest([0.02, 0.2])
    for _ in range(3):
        together.update([20, 20], 200)
    assert together.rejected(ALPHA).tolist() == [True, False]
    assert together.rejected([1e-30, ALPHA]).tolist() == [False, False]


@given(st.integers(1, 10**9))
def test_the_weights_of_all_looks_are_positive_and_never_more_than_one(looks: int) -> None:
    assert 0 < later(looks) < later(looks - 1) <= 1


def test_a_rejection_stands_whatever_comes_after() -> None:
    test = RateTest(0.02)
    test.update(50, 500)
    test.update(0, 100_000)
    assert test.rejected(ALPHA)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1, 10))
def test_e_values_are_positive_and_finite(a: int, b: int, both: int, margin: float) -> None:
    paired, rate = PairedRateTest(margin), RateTest(0.1)
    for _ in range(2):
        for e_value in (paired.update(a, b, both), rate.update(a, a + b)):
            assert np.isfinite(e_value)
            assert e_value > 0


@pytest.mark.parametrize("margin", [0.5, 0.0, -1.0, float("nan")])
def test_a_margin_below_one_is_refused(margin: float) -> None:
    for kind in (PairedRateTest, MatchedPairsTest):
        with pytest.raises(ConfigError, match="margin"):
            kind(margin)


@pytest.mark.parametrize("limit", [0.0, 1.0, float("nan")])
def test_a_limit_that_is_no_rate_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="limit"):
        RateTest(limit)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(DataError):
        RateTest(0.1).update(5, 3)
    with pytest.raises(DataError):
        PairedRateTest(1.5).update(-1, 0, 0)
    with pytest.raises(DataError):
        MatchedPairsTest(1.5).match(-1, 1)
