"""Sequential tests: the false-alarm rate holds however often one looks, and harm is found in few looks."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.sequential import PairedRateTest, RateTest, TwoSampleTest
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


def test_two_samples_at_their_margin_alarm_on_few_days() -> None:
    draw, rejected = np.random.default_rng(2), 0
    for _ in range(40):
        test = TwoSampleTest(1.5)  # odds 0.75 against 0.5
        for a, b in zip(draw.binomial(10, 3 / 7, 100), draw.binomial(8, 1 / 3, 100), strict=True):
            test.update(a, 10, b, 8)
        rejected += bool(test.rejected(ALPHA))
    assert rejected <= 2


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


def test_false_alerts_that_double_their_odds_are_found_in_two_samples() -> None:
    test = TwoSampleTest(1.5)
    for _ in range(10):
        test.update(8, 10, 3, 8)
    assert test.rejected(ALPHA)


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


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_two_sample_e_value_is_fair_at_the_margin(trials_a: int, trials_b: int) -> None:
    """Given the total, its mean under the null is at most 1 (the definition of an e-value)."""
    total = (trials_a + trials_b) // 3
    margin, possible = 2.0, range(max(0, total - trials_b), min(total, trials_a) + 1)
    ways = np.array([comb(trials_a, k) * comb(trials_b, total - k) * margin**k for k in possible])
    values = [float(TwoSampleTest(margin).update(k, trials_a, total - k, trials_b)) for k in possible]
    assert (ways / ways.sum()) @ values == pytest.approx(1)


@pytest.mark.parametrize("margin", [0.5, 0.0, -1.0, float("nan")])
def test_a_margin_below_one_is_refused(margin: float) -> None:
    for kind in (PairedRateTest, TwoSampleTest):
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
        TwoSampleTest(1.5).update(5, 3, 0, 1)
