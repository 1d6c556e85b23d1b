"""Labels as they were known, and tables that do not belong together refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.schema import LABELS, NORMAL
from riskdistill.dataset import Tables, as_known_at
from riskdistill.dataset.labels import completed, matured, of_typologies
from riskdistill.errors import DataError

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), max_size=20))
def test_what_is_found_later_counts_as_normal(rows: list[tuple[bool, int]]) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    told = [
        {
            "tx_id": str(number),
            "is_laundering": bad,
            "typology": "cycle" if bad else NORMAL,
            "scheme_id": "s" if bad else None,
            "known_at": moment + timedelta(days=days),
        }
        for number, (bad, days) in enumerate(rows)
    ]
    known = as_known_at(pa.Table.from_pylist(told, LABELS), moment)
    assert known.schema.equals(LABELS)
    for row, (bad, days) in zip(known.to_pylist(), rows, strict=True):
        seen = bad and days <= 0
        assert row["is_laundering"] == seen
        assert (row["typology"], row["scheme_id"]) == (("cycle", "s") if seen else (NORMAL, None))


def test_a_scheme_is_of_a_typology_as_a_whole() -> None:
    named = [(NORMAL, None), ("cycle", "a"), ("fan_in", "a"), ("fan_in", "b"), ("cycle", None), (NORMAL, "a")]
    told = [
        {
            "tx_id": str(row),
            "is_laundering": name != NORMAL,
            "typology": name,
            "scheme_id": scheme,
            "known_at": MOMENT,
        }
        for row, (name, scheme) in enumerate(named)
    ]
    labels = pa.Table.from_pylist(told, LABELS)
    assert of_typologies(labels, ["cycle"]).tolist() == [False, True, True, False, True, False]
    assert of_typologies(labels, ["fan_in"]).tolist() == [False, True, True, True, False, False]
    assert not of_typologies(labels, [NORMAL]).any()


@pytest.mark.parametrize("what", ["labels", "truth"])
def test_missing_or_misplaced_rows_are_refused(tiny_tables: tuple[pa.Table, pa.Table], what: str) -> None:
    transactions, labels = tiny_tables
    tables = Tables(transactions, labels, labels)
    backwards = labels.take(pa.array(np.arange(labels.num_rows)[::-1]))
    with pytest.raises(DataError, match="not in the order"):
        tables._replace(**{what: backwards}).require_order()
    with pytest.raises(DataError, match=f"labels for {transactions.num_rows} transactions"):
        tables._replace(**{what: labels.slice(1)}).require_order()
    tables.require_order()


def _paid(days: list[int], known: list[int | None]) -> Tables:
    """Payments on these days, laundering where it ever becomes known, so many days after the payment."""
    bad = [delay is not None for delay in known]
    times = [MOMENT + timedelta(days=day) for day in days]
    labels = {
        "tx_id": [str(number) for number in range(len(days))],
        "is_laundering": bad,
        "typology": ["cycle" if one else NORMAL for one in bad],
        "scheme_id": ["s" if one else None for one in bad],
        "known_at": [time + timedelta(days=delay or 0) for time, delay in zip(times, known, strict=True)],
    }
    transactions = {"tx_id": labels["tx_id"], "timestamp": pa.array(times, LABELS.field("known_at").type)}
    return Tables(pa.table(transactions), pa.table(labels, LABELS))


def test_what_is_too_young_for_its_labels_is_left_out_and_what_is_found_later_is_not_known() -> None:
    tables = _paid(list(range(20)), [10, None, 10, None, 10, None, 10, 30, *[None] * 10, 1, None])
    seen = matured(tables, MOMENT + timedelta(days=20), 0.5)
    assert seen.transactions.num_rows == seen.labels.num_rows == 10  # half of what is found takes ten days
    assert [row for row, bad in enumerate(seen.labels["is_laundering"].to_pylist()) if bad] == [0, 2, 4, 6]
    assert seen.truth is None


def test_before_anything_is_known_nothing_is_mature() -> None:
    with pytest.raises(DataError, match="no laundering is known at 2026-01-03"):
        matured(_paid([0, 1], [10, None]), MOMENT + timedelta(days=2), 0.9)


def labels_of(*told: tuple[str, str | None, int]) -> pa.Table:
    """Labels by transaction, scheme (None: normal) and the day on which they became known."""
    rows = [
        {
            "tx_id": tx_id,
            "is_laundering": scheme is not None,
            "typology": NORMAL if scheme is None else "cycle",
            "scheme_id": scheme,
            "known_at": MOMENT + timedelta(days=day),
        }
        for tx_id, scheme, day in told
    ]
    return pa.Table.from_pylist(rows, LABELS)


def paid(*tx_ids: str) -> pa.Table:
    stamps = pa.array([MOMENT - timedelta(days=9)] * len(tx_ids), LABELS.field("known_at").type)
    return pa.table({"tx_id": pa.array(tx_ids, pa.string()), "timestamp": stamps})


def test_every_transaction_has_the_label_that_became_known_last_or_none_looked_at_it() -> None:
    cases = labels_of(
        ("both", None, -1), ("case", "c1", -3), ("late", "c2", 1), ("tie", "c3", -5), ("alien", None, -5)
    )
    recorded = labels_of(("both", "s1", -2), ("older", "s2", -8), ("tie", None, -5), ("late", None, -4))
    found = completed(paid("tie", "unseen", "late", "older", "both", "case"), cases, recorded, MOMENT)
    assert found.schema.equals(LABELS)
    schemes = dict(zip(found["tx_id"].to_pylist(), found["scheme_id"].to_pylist(), strict=True))
    assert schemes == {"tie": "c3", "unseen": None, "late": None, "older": "s2", "both": None, "case": "c1"}
    assert found["tx_id"].to_pylist() == ["tie", "unseen", "late", "older", "both", "case"]
    days = [(known - MOMENT).days for known in found["known_at"].to_pylist()]
    assert days == [-5, -9, -4, -8, -1, -3]


@given(st.lists(st.sampled_from("abcde"), unique=True), st.lists(st.sampled_from("abcdefg"), unique=True))
def test_completed_labels_are_the_transactions_row_for_row(tx_ids: list[str], told: list[str]) -> None:
    found = completed(paid(*tx_ids), labels_of(*((one, "s", -1) for one in told)), LABELS.empty_table(), MOMENT)
    assert found["tx_id"].to_pylist() == tx_ids
    assert found["is_laundering"].to_pylist() == [one in told for one in tx_ids]
