"""What becomes of whole schemes, and how soon they are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.errors import DataError
from riskdistill.evaluation.schemes import HOUR, SchemeRows, alerted_within, detection, kaplan_meier


def rows(scheme: list[int], hours: list[int], usd: list[float]) -> SchemeRows:
    return SchemeRows(
        np.array(scheme), np.full(len(scheme), "cycle"), np.array(hours, np.int64) * HOUR, np.array(usd, float)
    )


def test_a_scheme_is_found_with_its_first_alert() -> None:
    told = detection(
        rows([7, 7, 7, 9], [0, 2, 5, 1], [10, 20, 70, 100]), np.array([False, True, True, False]), 0.01
    )
    assert (told.schemes, told.found, told.median_hours) == (2, 1, 2)
    assert told.median_transactions_before == pytest.approx(1 / 3)
    assert told.median_value_before == pytest.approx(0.1)
    assert told.value_alerted == told.value_stoppable == pytest.approx(0.45)
    assert told.typologies["cycle"].model_dump() == {"schemes": 2, "found": 1, "transactions": 4, "alerted": 2}


def test_no_scheme_found_leaves_no_median_and_no_curve() -> None:
    told = detection(rows([1, 2], [0, 1], [5, 5]), np.zeros(2, bool), 0.01)
    assert told.found == 0
    assert told.median_hours is None
    assert told.curve_found == ()
    assert told.value_stoppable == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.integers(0, 9), st.booleans()), min_size=1))
def test_shares_are_shares_and_no_scheme_is_found_before_it_begins(payments: list[tuple]) -> None:
    scheme, hours, usd, alerted = (list(part) for part in zip(*payments, strict=True))
    told = detection(rows(scheme, hours, usd), np.array(alerted, bool), 0.01)
    assert 0 <= told.found <= told.schemes
    assert all(hour >= 0 for hour in told.curve_hours)
    assert list(told.curve_found) == sorted(told.curve_found)
    assert all(0 <= share <= 1 for share in (*told.curve_found, told.value_alerted, told.value_stoppable))
    assert told.value_alerted <= told.value_stoppable + 1e-12
    if told.found:
        assert told.median_transactions_before is not None
        assert 0 <= told.median_transactions_before < 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_without_censoring_the_curve_is_the_plain_share(hours: list[int]) -> None:
    found_after = np.array(hours, float)
    times, shares = kaplan_meier(found_after, np.ones(len(hours), bool))
    assert shares == pytest.approx([(found_after <= time).mean() for time in times])


def test_ties_at_the_cut_are_not_alerted() -> None:
    assert alerted_within(np.array([0.9, 0.5, 0.5, 0.1]), 0.5).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("hours", "usd"), [([], []), ([1], [-1.0]), ([1], [float("nan")]), ([1], [1.0, 2.0])], ids=str
)
def test_rows_that_are_no_payments_are_refused(hours: list[int], usd: list[float]) -> None:
    with pytest.raises(DataError):
        rows([1] * len(hours), hours, usd)


def test_times_in_fractions_are_refused() -> None:
    with pytest.raises(DataError, match="whole microseconds"):
        SchemeRows(np.array([1]), np.array(["fan_in"]), np.array([1.5]), np.array([1.0]))
