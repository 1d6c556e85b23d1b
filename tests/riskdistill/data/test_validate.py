"""Whole-column checks: the verdict of `Transaction` for every row, a reason for every rejection."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from riskdistill.data import columns
from riskdistill.data.schema import (
    LABELS,
    MAX_AMOUNT,
    MAX_CLASS_LENGTH,
    MAX_FORMAT_LENGTH,
    MAX_ID_LENGTH,
    MAX_TALLY,
    TRANSACTIONS,
)
from riskdistill.data.source import Rows
from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.data.validate import Batch, Draft, SeenIds, canonicalise

GOOD: dict[str, Any] = {
    "tx_id": "t",
    "timestamp": "2026-01-01T00:00:00Z",
    "sender_account": "a",
    "sender_bank": "b",
    "receiver_account": "a",
    "receiver_bank": "b",
    "amount_paid": 0.0,
    "currency_paid": "EUR",
    "amount_received": 1.5,
    "currency_received": "XTS",
    "payment_format": "ACH",
    "sender_country": None,
    "receiver_country": "GB",
    "sender_balance": -12.5,
    "receiver_balance": None,
    "sender_tenure_days": 400.0,
    "receiver_tenure_days": 0.5,
    "sender_contact_changes": None,
    "receiver_contact_changes": 2.0,
    "sender_class": None,
    "receiver_class": "retail",
}


def validated(payloads: list[dict[str, Any]], seen: SeenIds | None = None) -> Batch:
    made: dict[str, Any] = {}
    for field in TRANSACTIONS:
        values = [payload[field.name] for payload in payloads]
        if field.name == "timestamp":
            made[field.name] = columns.offset_time(pa.array(values, pa.string()))
        else:
            array = pa.array(values, field.type)
            made[field.name] = columns.text(array) if field.type == pa.string() else array
    rows = Rows(pa.Table.from_pylist(payloads), np.arange(1, len(payloads) + 1))
    return canonicalise(Draft(rows, made, {}, {"amount_paid": ("amount_paid",)}), seen)


values = {
    "tx_id": st.sampled_from(["t", "", "  ", "x" * MAX_ID_LENGTH, "x" * (MAX_ID_LENGTH + 1), "a\x07b", " é "]),
    "sender_account": st.sampled_from(
        ["a", "", "é" * MAX_ID_LENGTH, "é" * (MAX_ID_LENGTH + 1), "a\x1fb", "é\x7fb"]
    ),
    "timestamp": st.sampled_from(
        [
            "2026-01-01T00:00:00+02:00",
            "2026-01-01T00:00:00",
            "1989-12-31T23:59:59Z",
            "2100-01-01T00:00:00Z",
            "x",
            "1990-01-01T00:00:00Z",
            "2099-12-31T23:59:59Z",
        ]
    ),
    "amount_paid": st.sampled_from([0.0, -0.01, 1.0, MAX_AMOUNT, MAX_AMOUNT * 1.01, float("nan"), float("inf")]),
    "currency_paid": st.sampled_from(["EUR", "eur", "EURO", "", "XTS"]),
    "payment_format": st.sampled_from(["Wire", "", "x" * MAX_FORMAT_LENGTH, "x" * (MAX_FORMAT_LENGTH + 1)]),
    "receiver_country": st.sampled_from([None, "GB", "gb", "GBR"]),
    "sender_class": st.sampled_from(
        [None, "pep", "", "a\tb", "é" * MAX_CLASS_LENGTH, "é" * (MAX_CLASS_LENGTH + 1)]
    ),
    "receiver_balance": st.sampled_from(
        [None, 0.0, -MAX_AMOUNT, -1.01 * MAX_AMOUNT, 1.01 * MAX_AMOUNT, float("nan")]
    ),
    "sender_tenure_days": st.sampled_from(
        [None, 0.0, MAX_TALLY, 1.01 * MAX_TALLY, -0.5, float("inf"), float("nan")]
    ),
    "sender_contact_changes": st.sampled_from([None, 0.0, 3.0, -1.0, MAX_TALLY, 1.01 * MAX_TALLY, float("inf")]),
}


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=values), min_size=1, max_size=20))
def test_tables_and_single_transactions_are_judged_alike(changes: list[dict[str, Any]]) -> None:
    payloads = [GOOD | change for change in changes]
    good = []
    for payload in payloads:
        with contextlib.suppress(ValidationError):
            good.append(Transaction.model_validate(payload))
    batch = validated(payloads)
    assert list(transactions_from(batch.transactions)) == good
    assert batch.rows_read == len(payloads)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount_paid": -5.0}, "amount_paid is negative: '-5.0'"),
        (
            {"currency_received": "EURO"},
            "currency_received is not a known currency: 'EURO'; did you mean EUR?",
        ),
        ({"sender_account": ""}, "sender_account is empty: ''"),
        ({"sender_tenure_days": -1.0}, "sender_tenure_days is negative: '-1.0'"),
        ({"receiver_tenure_days": 2e6}, "receiver_tenure_days is above 1e+06: '2000000.0'"),
        ({"receiver_contact_changes": 2e6}, "receiver_contact_changes is above 1e+06: '2000000.0'"),
        ({"sender_account": "a\x1fb"}, "sender_account holds control characters: 'a\\x1fb'"),
        ({"sender_balance": -1e14}, "sender_balance is below -1e+13: '-100000000000000.0'"),
        ({"receiver_balance": float("inf")}, "receiver_balance is not a finite number: 'inf'"),
        ({"sender_class": "a\x1fb"}, "sender_class holds control characters: 'a\\x1fb'"),
        ({"receiver_country": "Spain"}, "receiver_country is not an ISO 3166 code of two capitals: 'Spain'"),
    ],
)
def test_a_reason_names_the_field_and_its_value(change: dict[str, Any], reason: str) -> None:
    batch = validated([GOOD, GOOD | change])
    (entry,) = batch.rejected.to_pylist()
    assert (entry["source_row"], entry["reason"]) == (2, reason)
    assert json.loads(entry["raw"]) == GOOD | change
    assert batch.labels.equals(LABELS.empty_table())


def test_the_first_of_two_rows_with_one_id_is_kept() -> None:
    seen = SeenIds()
    broken_first = validated([GOOD | {"amount_paid": -1.0}, GOOD, GOOD], seen)
    assert broken_first.transactions.num_rows == 1
    later = validated([GOOD, GOOD | {"tx_id": "u"}], seen)
    assert later.transactions["tx_id"].to_pylist() == ["u"]
    assert later.rejected["reason"].to_pylist() == ["tx_id is a duplicate of an earlier row's: 't'"]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=12))
def test_repeated_ids_are_found_across_stretches(stretches: list[list[str]]) -> None:
    seen, known = SeenIds(), set[str]()
    for stretch in stretches:
        expected = []
        for one in stretch:
            expected.append(one in known)
            known.add(one)
        assert seen.repeats(pa.array(stretch, pa.string())).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1", " 2.5 ", "x", "", "1e400", "nan", None]), max_size=30))
def test_one_unreadable_number_spoils_no_other(texts: list[str | None]) -> None:
    def readable(text: str | None) -> bool:
        return text is not None and text.strip() not in ("x", "")

    column = pa.array(texts, pa.string())
    got = columns.number(column).to_pylist()
    assert [value is not None for value in got] == [readable(text) for text in texts]
    optional = columns.number_or_null(column).to_pylist()
    assert [value is None for value in optional] == [not (text or "").strip() for text in texts]
    unreadable = [value != value for value in optional]
    assert unreadable == [(text or "").strip() in ("x", "nan") for text in texts]
