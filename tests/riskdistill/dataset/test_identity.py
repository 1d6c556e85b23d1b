"""A table's digest is of its rows: how they lie in memory does not matter, and every value does."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.dataset.identity import table_digest

SCHEMA = pa.schema(
    [
        ("word", pa.string()),
        ("number", pa.float64()),
        ("flag", pa.bool_()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "word": st.none() | st.text(max_size=3),
            "number": st.none() | st.sampled_from([0.0, 1.5, -2.0]),
            "flag": st.none() | st.booleans(),
            "time": st.none() | st.integers(0, 3),
        }
    ),
    max_size=12,
)


def table(content: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(content, SCHEMA)


@given(rows, rows, st.integers(0, 12))
def test_equal_rows_have_equal_digests(
    content: list[dict[str, object]], other: list[dict[str, object]], cut: int
) -> None:
    whole = table(content)
    inside = table([*other, *content, *other]).slice(len(other), len(content))
    in_pieces = pa.concat_tables([inside.slice(0, cut), inside.slice(cut)])
    assert table_digest(whole, SCHEMA) == table_digest(inside, SCHEMA) == table_digest(in_pieces, SCHEMA)


@given(rows, rows)
def test_other_rows_have_another_digest(one: list[dict[str, object]], other: list[dict[str, object]]) -> None:
    assert (table_digest(table(one), SCHEMA) == table_digest(table(other), SCHEMA)) == (one == other)
