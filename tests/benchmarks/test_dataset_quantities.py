"""The distributions that sources are compared by, on schemes small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from dataset_quantities import QUANTITIES, Floats, Source, distance, gaps, source
from feature_data import payments
from hypothesis import given
from hypothesis import strategies as st
from made_up import DAY, chain

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30).map(np.array)


def measured(of: str, title: str, one: Source) -> Floats:
    (quantity,) = (quantity for quantity in QUANTITIES if (quantity.of, quantity.title) == (of, title))
    return np.sort(quantity.measure(one))


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("payments of a scheme", [4]),
        ("accounts of a scheme", [4]),
        ("duration of a scheme", [DAY + 60]),
        ("gap between payments of a scheme", [60, 60, DAY - 60]),
        ("payees of an account in a scheme", [1, 1, 2]),
        ("payers of an account in a scheme", [1, 1, 2]),
        ("sent on / received in a scheme", [0.9, 0.9]),
    ],
)
def test_a_scheme_is_counted_as_by_hand(title: str, expected: list[float]) -> None:
    np.testing.assert_allclose(measured("schemes", title, chain()), expected)


def test_laundering_amounts_relate_to_the_median_normal_amount() -> None:
    np.testing.assert_allclose(measured("laundering", "amounts / median normal amount", chain()), [4.5, 5, 9, 10])


def test_a_coarse_clock_tells_no_hours_and_floors_gaps() -> None:
    by_day = chain().on_clock(DAY)
    assert len(measured("normal", "hour of the day", by_day)) == 0
    np.testing.assert_array_equal(measured("schemes", "gap between payments of a scheme", by_day), [0, 0, DAY])


def test_chosen_normal_payments_tell_nothing_of_whole_accounts() -> None:
    title = "gap between payments that an account sends"
    np.testing.assert_array_equal(measured("normal", title, chain()), [DAY])
    assert len(measured("normal", title, chain(natural=False))) == 0


def test_days_of_the_month_count_from_one_and_need_a_month() -> None:
    seconds = np.array([0.0, 30 * DAY, 31 * DAY, 31 * DAY, 31 * DAY, 31 * DAY])
    np.testing.assert_array_equal(measured("normal", "day of the month", chain(seconds=seconds)), [1, 31])
    assert len(measured("normal", "day of the month", chain())) == 0


def test_gaps_join_no_two_owners_and_leave_out_who_owns_nothing() -> None:
    owner, seconds = np.array([0, 1, 0, 1, -1, -1]), np.array([0.0, 1.0, 5.0, 9.0, 10.0, 11.0])
    np.testing.assert_array_equal(np.sort(gaps(owner, seconds)), [5, 8])


def test_a_source_of_tables_leaves_out_payments_to_oneself() -> None:
    table = payments("p", np.array([1, 2, 3]), np.array([2, 2, 1]))
    count = table.num_rows
    labels = {
        "is_laundering": [False, True, True],
        "typology": ["normal", "unlisted", "cycle"],
        "scheme_id": [None, None, "S1"],
    }
    found = source("p", table, pa.table({"tx_id": table["tx_id"], **labels}))
    assert (count, len(found.seconds)) == (3, 2)
    np.testing.assert_array_equal(found.scheme >= 0, [False, True])
    assert found.sender[0] != found.receiver[0]
    assert found.receiver[1] == found.sender[0]  # one account is one number on both sides


@given(left=numbers, right=numbers)
def test_the_distance_is_symmetric_and_zero_only_for_itself(left: Floats, right: Floats) -> None:
    assert distance(left, right) == distance(right, left)
    assert distance(left, left) == 0
    assert 0 <= distance(left, right) <= 1
    assert distance(left, left + 1e7) == 1
