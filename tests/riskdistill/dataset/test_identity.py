"""Equal content has an equal fingerprint, whatever the layout; any other content has another."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.schema import LABELS, TRANSACTIONS
from riskdistill.dataset import fingerprint
from riskdistill.dataset.identity import table_digest

texts = st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=20)
SCHEMA = pa.schema([("text", pa.string()), ("number", pa.float64()), ("flag", pa.bool_())])


def table(values: list[str | None]) -> pa.Table:
    numbers = [None if value is None else float(len(value)) for value in values]
    flags = [None if value is None else value > "a" for value in values]
    return pa.table([values, numbers, flags], schema=SCHEMA)


@given(values=texts, cuts=st.lists(st.integers(0, 20), max_size=3))
def test_layout_does_not_matter(values: list[str | None], cuts: list[int]) -> None:
    whole, edges = table(values), sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(edges)] or [whole]
    longer = pa.concat_tables([table(["before"]), whole, table([None, "after"])]).combine_chunks()
    told = table_digest(whole, SCHEMA)
    assert table_digest(pa.concat_tables(parts), SCHEMA) == told
    assert table_digest(longer.slice(1, len(values)), SCHEMA) == told


@given(one=texts, other=texts)
def test_other_content_has_another_digest(one: list[str | None], other: list[str | None]) -> None:
    assert (table_digest(table(one), SCHEMA) == table_digest(table(other), SCHEMA)) == (one == other)


@pytest.mark.parametrize("column", ["is_laundering", "known_at", "scheme_id"])
def test_labels_settings_and_truth_are_part_of_the_fingerprint(
    column: str, tiny_tables: tuple[pa.Table, pa.Table]
) -> None:
    transactions, labels = tiny_tables
    place = LABELS.get_field_index(column)
    reversed_column = labels[column].take(list(range(len(labels)))[::-1])
    changed = labels.set_column(place, LABELS.field(place), reversed_column)
    told = fingerprint(transactions, labels)
    assert fingerprint(transactions, changed) != told
    assert fingerprint(transactions, labels, "other settings") != told
    assert fingerprint(transactions, labels, truth=changed) != told
    assert len(table_digest(transactions, TRANSACTIONS)) == 64
    assert pc.any(labels["is_laundering"]).as_py()
