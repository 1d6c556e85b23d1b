"""Labels as known at a moment, and labels that do not fit their transactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.schema import LABELS, NORMAL
from riskdistill.dataset import Tables, as_known_at
from riskdistill.errors import DataError


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


def test_a_truth_in_another_order_is_refused(tiny_tables: tuple[pa.Table, pa.Table]) -> None:
    transactions, labels = tiny_tables
    Tables(transactions, labels, labels).require_order()
    with pytest.raises(DataError, match="rows of truth are not in the order"):
        Tables(transactions, labels, labels.take([*range(1, labels.num_rows), 0])).require_order()
    with pytest.raises(DataError, match="rows of truth for"):
        Tables(transactions, labels, labels.slice(1)).require_order()
