"""The estimate of what alerts miss is right on average, and its interval as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.evaluation.recall_estimate import CONFIDENCE, RecallEstimate, Stratum, estimate_recall, totals

DETECTED = 60
STRATA = ((0.05, 40, 40_000), (0.5, 30, 2_000))  # share, laundering, decisions below the line


def simulated(numbers: np.random.Generator, reviewed: float) -> RecallEstimate:
    """Draws the samples of both strata and reviews part of them, in random order."""
    strata = []
    for share, laundering, decisions in STRATA:
        drawn = numbers.binomial(decisions - laundering, share)
        bad = numbers.binomial(laundering, share)
        settled = max(1, round(reviewed * (drawn + bad)))
        found = numbers.hypergeometric(bad, drawn, settled)
        strata.append(Stratum(share, int(drawn + bad), settled, int(found)))
    return estimate_recall(DETECTED, 0, strata)


@pytest.mark.parametrize("reviewed", [1.0, 0.4])
def test_it_is_unbiased_and_its_interval_covers(reviewed: float) -> None:
    numbers = np.random.default_rng(7)
    missed = sum(laundering for _, laundering, _ in STRATA)
    runs = [simulated(numbers, reviewed) for _ in range(800)]
    found = np.array([run.missed for run in runs], float)
    assert abs(found.mean() - missed) < 4 * found.std() / np.sqrt(len(found))
    true_recall = DETECTED / (DETECTED + missed)
    covers = [(run.recall_low or 0.0) <= true_recall <= (run.recall_high or 1.0) for run in runs]
    assert np.mean(covers) >= CONFIDENCE
    assert all((run.recall_low or 0) <= (run.recall or 0) <= (run.recall_high or 0) for run in runs)


def test_an_interval_is_told_where_nothing_was_found() -> None:
    told = estimate_recall(10, 3, [Stratum(0.01, 100, 100, 0)])
    assert (told.missed, told.recall, told.recall_high, told.missed_low) == (0.0, 1.0, 1.0, 0)
    assert told.missed_high == totals(0, 0.01, 0.05)[1] == 367
    assert told.recall_low == pytest.approx(10 / 377)
    assert told.open_alerts == 3


def test_what_nobody_reviewed_is_not_known() -> None:
    told = estimate_recall(10, 0, [Stratum(0.01, 100, 0, 0), Stratum(0.1, 50, 50, 2)])
    assert (told.missed, told.missed_high, told.recall, told.recall_low) == (None, None, None, 0.0)
    assert told.recall_high is not None
    assert told.recall_high < 1  # two were found below the line
    nothing = estimate_recall(0, 0, [])
    assert (nothing.missed, nothing.recall, nothing.recall_high) == (None, None, None)


@given(st.integers(0, 60), st.floats(0.001, 1.0), st.floats(0.001, 0.5))
def test_the_interval_holds_the_estimate_and_widens(found: int, chance: float, error: float) -> None:
    low, high = totals(found, chance, error)
    assert found <= low <= found / chance + 1e-6
    assert high >= int(found / chance) if chance < 1 else high == found
    wider = totals(found, chance, error / 10)
    assert wider[0] <= low
    assert high <= wider[1]
