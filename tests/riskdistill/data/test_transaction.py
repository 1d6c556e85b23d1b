"""What a canonical transaction accepts, what it refuses, and how the refusal reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import MAX_AMOUNT, TRANSACTIONS
from riskdistill.data.transaction import Transaction, parse_transaction, to_table, transactions_from
from riskdistill.errors import TransactionError


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "tx_id": "t1",
        "timestamp": "2026-01-01T12:00:00+02:00",
        "sender_account": "a",
        "sender_bank": "b1",
        "receiver_account": "c",
        "receiver_bank": "b2",
        "amount_paid": 10.5,
        "currency_paid": "EUR",
        "amount_received": 11,
        "currency_received": "USD",
        "payment_format": "Wire",
    } | changes


def test_fields_are_the_columns_of_the_canonical_schema() -> None:
    assert list(Transaction.model_fields) == TRANSACTIONS.names


def test_times_become_utc() -> None:
    assert parse_transaction(payload()).timestamp == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert parse_transaction(payload()).timestamp.tzinfo is UTC


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"timestamp": "2026-01-01T00:00:00"}, "add a UTC offset, e.g. 2026-01-01T00:00:00Z"),
        ({"timestamp": 1_700_000_000}, "ISO 8601"),
        ({"timestamp": "1700000000"}, "ISO 8601"),
        ({"timestamp": "1889-01-01T00:00:00Z"}, "is not between"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "is not between"),
        ({"currency_paid": "EURO"}, "did you mean EUR?"),
        ({"currency_received": "US Dollars"}, "did you mean USD?"),
        ({"currency_received": "?"}, "known codes: USD"),
        ({"amount_paid": -1.0}, "greater than or equal to 0"),
        ({"amount_paid": float("nan")}, "finite"),
        ({"amount_paid": float("inf")}, "finite"),
        ({"amount_paid": MAX_AMOUNT * 1.01}, "less than or equal to"),
        ({"amount_paid": "12"}, "valid number"),
        ({"amount_paid": True}, "valid number"),
        ({"sender_account": "  "}, "must not be empty"),
        ({"sender_account": "x" * 129}, "at most 128"),
        ({"sender_bank": "a\x00b"}, "control characters"),
        ({"sender_bank": "a\ud800"}, "surrogate"),
        ({"receiver_account": 12}, "valid string"),
        ({"payment_format": "x" * 65}, "at most 64"),
        ({"sender_country": "Spain"}, "two capitals"),
        ({"sender_balance": float("nan")}, "finite"),
        ({"sender_balance": -1.01 * MAX_AMOUNT}, "greater than or equal to"),
        ({"receiver_balance": 1.01 * MAX_AMOUNT}, "less than or equal to"),
        ({"receiver_balance": "12"}, "valid number"),
        ({"sender_tenure_days": -0.1}, "greater than or equal to 0"),
        ({"receiver_contact_changes": -1}, "greater than or equal to 0"),
        ({"receiver_contact_changes": float("inf")}, "finite"),
        ({"is_laundering": True}, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_field_is_named_with_what_to_do(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(TransactionError) as caught:
        parse_transaction(payload(**changes), where="row 7")
    message = str(caught.value)
    assert message.startswith(f"row 7: {next(iter(changes))}: ")
    assert told in message
    assert "\n" not in message


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(TransactionError, match=r"tx_id: .*; amount_paid: "):
        parse_transaction(payload(tx_id="", amount_paid=-1.0))


def test_a_missing_field_is_named() -> None:
    broken = payload()
    del broken["receiver_bank"]
    with pytest.raises(TransactionError, match="receiver_bank: Field required"):
        parse_transaction(broken)


def test_a_transaction_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_transaction(payload()).amount_paid = 1.0  # type: ignore[misc]


transactions = st.builds(
    lambda **fields: parse_transaction(fields),
    tx_id=st.text("abc123-", min_size=1),
    timestamp=st.datetimes(
        datetime(1992, 1, 1), datetime(2098, 1, 1), timezones=st.just(timezone(timedelta(hours=5)))
    ),
    sender_account=st.text("xyzé0", min_size=1),
    sender_bank=st.text("xyz0", min_size=1),
    receiver_account=st.text("xyz0", min_size=1),
    receiver_bank=st.text("xyz0", min_size=1),
    amount_paid=st.floats(0, MAX_AMOUNT),
    currency_paid=st.sampled_from(CURRENCY_CODES),
    amount_received=st.floats(0, MAX_AMOUNT),
    currency_received=st.sampled_from(CURRENCY_CODES),
    payment_format=st.text("Wire ACH", min_size=1).filter(str.strip),
    sender_country=st.sampled_from([None, "GB", "DE"]),
    receiver_balance=st.none() | st.floats(-MAX_AMOUNT, MAX_AMOUNT),
    sender_tenure_days=st.none() | st.floats(0, 1e5),
    receiver_contact_changes=st.none() | st.integers(0, 9),
    sender_class=st.sampled_from([None, "retail", "pep"]),
)


@settings(deadline=None)
@given(st.lists(transactions, max_size=5))
def test_a_table_gives_back_the_transactions_it_was_made_of(given_ones: list[Transaction]) -> None:
    table = to_table(given_ones)
    assert table.schema == TRANSACTIONS
    assert list(transactions_from(table)) == given_ones


def test_what_is_not_known_of_the_accounts_is_left_out_of_a_dump() -> None:
    plain = parse_transaction(payload(sender_balance=None))
    assert plain.model_dump().keys() == {*payload(), "sender_country", "receiver_country"}
    assert parse_transaction(payload(sender_balance=-3)).model_dump(mode="json")["sender_balance"] == -3.0


@settings(deadline=None)
@given(transactions)
def test_json_round_trip_keeps_a_transaction(entry: Transaction) -> None:
    assert Transaction.model_validate_json(entry.model_dump_json()) == entry
