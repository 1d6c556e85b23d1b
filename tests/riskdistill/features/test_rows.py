"""A transaction and the same row of a table are encoded to the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import CURRENCIES, RATES, Payment, histories, payment, table, transaction

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.rates import Rates
from riskdistill.data.schema import MAX_AMOUNT, MAX_FORMAT_LENGTH, MAX_ID_LENGTH
from riskdistill.data.transaction import to_table
from riskdistill.features.rows import RowEncoder, account_key, format_bucket
from riskdistill.features.spec import FORMAT_BUCKETS


def texts(most: int) -> st.SearchStrategy[str]:
    """Any text that a transaction takes: printable, trimmed, not empty."""
    letters = st.characters(exclude_categories=["Cs", "Cc"])
    return st.text(letters, min_size=1, max_size=most).filter(lambda text: text.strip() == text)


IDS = texts(MAX_ID_LENGTH)
AMOUNTS = st.floats(0, MAX_AMOUNT)
TALLIES = st.none() | st.floats(0, 1e6)
BALANCES = st.none() | st.floats(-MAX_AMOUNT, MAX_AMOUNT)
COUNTRIES = st.none() | st.sampled_from(["DE", "FR"])
CODES = st.sampled_from(CURRENCIES) | st.sampled_from(CURRENCY_CODES)
ANY_PAYMENT = st.fixed_dictionaries(
    {
        "tx_id": IDS,
        "timestamp": st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)),
        **{f"{side}_{part}": IDS for side in ("sender", "receiver") for part in ("bank", "account")},
        **{f"amount_{side}": AMOUNTS for side in ("paid", "received")},
        **{f"currency_{side}": CODES for side in ("paid", "received")},
        "payment_format": texts(MAX_FORMAT_LENGTH),
        **{f"{side}_country": COUNTRIES for side in ("sender", "receiver")},
        **{f"{side}_balance": BALANCES for side in ("sender", "receiver")},
        **{f"{side}_tenure_days": TALLIES for side in ("sender", "receiver")},
        **{f"{side}_contact_changes": TALLIES for side in ("sender", "receiver")},
    }
)


def nowhere(key: int) -> int:
    return 0


def one_by_one(rows: list[Payment], rates: Rates) -> bytes:
    encoder = RowEncoder(rates)
    return b"".join(encoder.one(transaction(row), nowhere).tobytes() for row in rows)


@settings(max_examples=80)
@given(st.lists(ANY_PAYMENT, min_size=1, max_size=5), st.sampled_from([Rates.fixed(), RATES]))
def test_a_row_of_a_table_is_encoded_as_the_transaction_bit_by_bit(rows: list[Payment], rates: Rates) -> None:
    canonical = to_table([transaction(row) for row in rows])
    assert RowEncoder(rates).table(canonical).tobytes() == one_by_one(rows, rates)


@settings(max_examples=20)
@given(histories(late=0.2))
def test_a_history_is_encoded_as_its_transactions_bit_by_bit(rows: list[Payment]) -> None:
    assert RowEncoder(RATES).table(table(rows)).tobytes() == one_by_one(rows, RATES)


def test_a_column_without_any_value_is_unknown_in_every_row() -> None:
    rows = RowEncoder(RATES).table(table([payment(number, 0, 1, 0) for number in range(3)]))
    assert np.isnan(rows["facts"]).all()
    assert np.isnan(rows["cross_border"]).all()


def test_a_slice_of_a_table_is_encoded_as_its_rows() -> None:
    rows = [payment(number, number % 5, 1, 60.5 * number, sender_balance=float(number)) for number in range(20)]
    whole = RowEncoder(RATES).table(table(rows))
    assert RowEncoder(RATES).table(table(rows).slice(7, 6)).tobytes() == whole[7:13].tobytes()


def test_an_empty_table_has_no_rows() -> None:
    assert len(RowEncoder(RATES).table(table([]))) == 0


def test_the_sender_is_placed_before_the_receiver() -> None:
    asked: list[int] = []

    def place(key: int) -> int:
        asked.append(key)
        return len(asked)

    row = RowEncoder(RATES).one(transaction(payment(0, 0, 3, 0)), place)[0]
    assert asked == [account_key("b1", "a"), account_key("b2", "c")]
    assert asked == [row["sender_key"], row["receiver_key"]]
    assert (row["sender"], row["receiver"]) == (1, 2)


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [(-86_400.0, 1.053), (0.0, 1.25), (30 * 86_400.0 - 7_200.000_001 - 79_200, 1.25), (31 * 86_400.0, 0.8)],
)
def test_a_row_is_worth_the_rate_of_its_day(seconds: float, rate: float) -> None:
    euros: dict[str, Any] = {"currency_paid": "EUR", "sender_balance": -10.0}
    row = RowEncoder(RATES).table(table([payment(0, 0, 1, seconds, 100.0, **euros)]))[0]
    assert row["usd_paid"] == pytest.approx(100 * rate)
    assert row["facts"][0] == pytest.approx(-10 * rate)
    assert row["amount"] == row["usd_received"] == 100


@given(st.text(max_size=30))
def test_a_format_has_a_bucket_that_is_never_that_of_no_event(name: str) -> None:
    assert 1 <= format_bucket(name) < FORMAT_BUCKETS
