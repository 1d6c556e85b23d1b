"""Any table that Arrow can read becomes the same canonical table, or is refused with the place and the mend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from riskdistill.data.canonical import canonical_table
from riskdistill.data.columns import pc
from riskdistill.data.schema import (
    ACCOUNT_FIELDS,
    CUSTOMER_CLASSES,
    EARLIEST,
    LATEST,
    MAX_AMOUNT,
    MAX_FORMAT_LENGTH,
    MAX_ID_LENGTH,
    MAX_TALLY,
    TIMESTAMP,
    TRANSACTIONS,
)
from riskdistill.data.transaction import Transaction, to_table, transactions_from
from riskdistill.data.validate import COUNTRIES, CURRENCIES, TEXT_LIMITS
from riskdistill.errors import TransactionError

MICROSECOND = timedelta(microseconds=1)
SAME_KEY = (("x\x1fy", "z"), ("x", "y\x1fz"))  # bank and account


def payment(number: int, **changes: Any) -> Transaction:
    fields: dict[str, Any] = {
        "tx_id": f"t{number}",
        "timestamp": datetime(2026, 7, 1, 12, 0, number, 250, tzinfo=UTC),
        "sender_account": f"{4711 + number}",
        "sender_bank": "b",
        "receiver_account": "é, x",
        "receiver_bank": "c",
        "amount_paid": 10.5 + number,
        "currency_paid": "EUR",
        "amount_received": 11.0,
        "currency_received": "USD",
        "payment_format": "wire",
        "sender_country": "DE",
    }
    return Transaction(**fields | changes)


TABLE = to_table([payment(0, sender_balance=-5.0, receiver_tenure_days=3.0), payment(1), payment(2)])


def replaced(name: str, values: Any) -> pa.Table:
    """TABLE with another column of that name, of whatever type; None: without it."""
    place = TABLE.schema.get_field_index(name)
    return TABLE.drop_columns([name]) if values is None else TABLE.set_column(place, name, values)


def as_pandas(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


def as_polars(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(table)


class OnlyAStream:
    """A table of a library that nobody here knows."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "given",
    [
        as_pandas,
        as_polars,
        OnlyAStream,
        lambda table: table.combine_chunks().to_batches()[0],
        lambda table: pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
        lambda table: as_pandas(table).astype({"sender_bank": "category", "sender_account": object}),
        lambda table: as_polars(table).with_columns(pl.col("sender_bank", "currency_paid").cast(pl.Categorical)),
        lambda table: as_pandas(table).set_index("tx_id"),
        lambda table: as_pandas(table).assign(
            note="x", timestamp=lambda f: f.timestamp.dt.tz_convert("Asia/Tokyo")
        ),
        lambda table: table.cast(pa.schema([(f.name, f.type) for f in reversed(TABLE.schema)][::-1])),
        lambda table: table.select(TABLE.column_names[::-1]),
    ],
    ids=[
        "pandas",
        "polars",
        "stream",
        "batch",
        "reader",
        "pandas categories",
        "polars categories",
        "pandas index",
        "pandas, other zone and column",
        "nullable",
        "other order",
    ],
)
def test_every_kind_of_table_becomes_the_same_one(given: Callable[[pa.Table], object]) -> None:
    made = canonical_table(given(TABLE))
    assert made.schema == TRANSACTIONS
    assert made == TABLE
    assert list(transactions_from(made)) == list(transactions_from(TABLE))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tx_id", TABLE["tx_id"].cast(pa.large_string())),
        ("tx_id", TABLE["tx_id"].cast(pa.string_view())),
        ("tx_id", TABLE["tx_id"].dictionary_encode()),
        ("sender_account", pa.chunked_array([[4711, 4712], [4713]])),
        ("timestamp", TABLE["timestamp"].cast(pa.timestamp("ns", "Europe/Berlin"))),
        ("amount_received", pa.array([11, 11, 11], pa.int32())),
        ("amount_paid", pa.array([10.5, 11.5, 12.5], pa.float32())),
        ("amount_paid", pa.array([Decimal("10.5"), Decimal("11.5"), Decimal("12.5")])),
        ("sender_balance", pa.array([-5, None, None])),
    ],
)
def test_types_that_say_the_same_are_taken(name: str, values: Any) -> None:
    assert canonical_table(replaced(name, values)) == TABLE


def test_a_canonical_table_is_taken_as_it_is_without_a_copy() -> None:
    assert canonical_table(TABLE) is TABLE
    known = pa.total_allocated_bytes()
    without = canonical_table(TABLE.drop_columns(["sender_balance"]))
    assert without["tx_id"].chunk(0).buffers()[2].address == TABLE["tx_id"].chunk(0).buffers()[2].address
    assert pa.total_allocated_bytes() - known < 1_000


def test_optional_columns_that_are_missing_become_null() -> None:
    optional = [field.name for field in TRANSACTIONS if field.nullable]
    made = canonical_table(TABLE.drop_columns(optional))
    assert set(optional) > set(ACCOUNT_FIELDS)
    assert made.schema == TRANSACTIONS
    assert made.select(optional).to_pylist() == [dict.fromkeys(optional)] * 3


@pytest.mark.parametrize("empty", [TABLE.slice(0, 0), TABLE.slice(0, 0).to_pandas().astype(object)])
def test_a_table_without_rows_stays_one(empty: object) -> None:
    assert canonical_table(empty) == TRANSACTIONS.empty_table()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("amount_paid", float("nan")),
        ("amount_received", float("inf")),
        ("amount_received", -0.01),
        ("amount_paid", MAX_AMOUNT * 1.01),
        ("sender_balance", -MAX_AMOUNT * 1.01),
        ("receiver_tenure_days", -1.0),
        ("receiver_tenure_days", float("inf")),
        ("receiver_tenure_days", MAX_TALLY * 1.01),
        ("sender_contact_changes", MAX_TALLY * 1.01),
        ("sender_contact_changes", float("nan")),
    ],
)
def test_the_first_number_that_is_none_or_out_of_range_is_named(name: str, number: float) -> None:
    values = pa.chunked_array([[1.0], [1.0, number]])
    with pytest.raises(TransactionError, match=rf"column '{name}', row 2: it is {number} \(mend: give a number"):
        canonical_table(replaced(name, values))


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("amount_paid", None, "column 'amount_paid': it is missing; the table has 'tx_id', "),
        ("sender_bank", pa.array(["a", None, None]), "column 'sender_bank', row 1: it is null (mend: fill it in"),
        ("sender_bank", pa.nulls(3), "column 'sender_bank', row 0: it is null"),
        (
            "sender_balance",
            pa.array([None, float("nan"), 1.0]),
            "row 1: it is nan (mend: give a number from -1e+13",
        ),
        ("timestamp", TABLE["timestamp"].cast(pa.timestamp("us")), "no time zone (mend: say which zone"),
        ("timestamp", pa.array(["2026-01-01T00:00:00Z"] * 3), "it is of type string (mend: give times with a zone"),
        ("timestamp", pa.array([1, 2, 3]), "it is of type int64 (mend: give times"),
        ("timestamp", pa.array([2**60] * 3, pa.timestamp("s", "UTC")), "it cannot be read: "),
        ("amount_paid", pa.array(["1", "2", "3"]), "it is of type string (mend: give numbers"),
        ("sender_account", pa.array([4711.0, 4712.0, None]), "it is of type double (mend: give texts"),
    ],
)
def test_what_cannot_be_canonical_is_refused_with_its_place_and_the_mend(name: str, values: Any, told: str) -> None:
    with pytest.raises(TransactionError) as caught:
        canonical_table(replaced(name, values))
    assert told in str(caught.value)
    assert f"column '{name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


LONG, TOO_LONG = "é" * MAX_ID_LENGTH, "é" * (MAX_ID_LENGTH + 1)
ODD_IDS = ["", " ", " a", "a\u3000", "a\n", "x\x1fy", "\x1c", "a\x00", "é\x7fb", "a\x85", "a\x85b", LONG, TOO_LONG]
ODD_FORMATS = ["", "wire ", "a\tb", "é" * MAX_FORMAT_LENGTH, "é" * (MAX_FORMAT_LENGTH + 1)]
ODD_COUNTRIES = [None, "GB", "gb", "GBR", "", " GB", "GB\n", "ÉÉ"]
ODD_CLASSES = [None, *ODD_FORMATS]
ODD_TIMES = [EARLIEST, EARLIEST - MICROSECOND, LATEST, LATEST - MICROSECOND]
ODD_VALUES: list[tuple[str, Any]] = [
    *((name, value) for name in TEXT_LIMITS if name != "payment_format" for value in ODD_IDS),
    *(("payment_format", value) for value in ODD_FORMATS),
    *((name, value) for name in COUNTRIES for value in ODD_COUNTRIES),
    *((name, value) for name in CUSTOMER_CLASSES for value in ODD_CLASSES),
    *((name, value) for name in CURRENCIES for value in ("JPY", "jpy", "", "EUR ")),
    *(("timestamp", value) for value in ODD_TIMES),
]


@pytest.mark.parametrize(("name", "value"), ODD_VALUES)
def test_a_table_takes_a_value_just_when_a_transaction_keeps_it_as_it_is(name: str, value: Any) -> None:
    fields = payment(1).model_dump() | {name: value}
    try:
        kept = getattr(Transaction(**fields), name) == value
    except ValidationError:
        kept = False
    given = pa.Table.from_pylist([payment(0).model_dump(), fields, fields], schema=TRANSACTIONS)
    if kept:
        assert canonical_table(given) is given
        return
    with pytest.raises(TransactionError, match=rf"column '{name}', row 1: it .*\(mend: "):
        canonical_table(given)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("sender_account", ["a", " b ", "c"], "row 1: it has spaces around it: ' b ' (mend: trim it)"),
        (
            "sender_bank",
            ["a", "x\x1fy", "c"],
            r"row 1: it holds control characters: 'x\x1fy' (mend: give printable",
        ),
        ("tx_id", ["a", "b", " "], "row 2: it is empty: ' ' (mend: give the source's own id or name)"),
        (
            "receiver_bank",
            ["a", "b" * 129, "c"],
            f"it is longer than 128 characters: '{'b' * 60}' (mend: shorten it)",
        ),
        ("payment_format", ["w", "w", "b" * 65], "row 2: it is longer than 64 characters"),
        ("currency_paid", ["EUR", "EURO", "EURO"], "row 1: it is not a known currency: 'EURO' (mend: use one of "),
        (
            "sender_country",
            [None, "gb", "GB"],
            "row 1: it is not an ISO 3166 code of two capitals: 'gb' (mend: give",
        ),
    ],
)
def test_a_text_against_a_rule_is_refused_with_its_row_its_value_and_the_mend(
    name: str, values: list[str | None], told: str
) -> None:
    with pytest.raises(TransactionError) as caught:
        canonical_table(replaced(name, pa.chunked_array([values[:1], values[1:]], pa.string())))
    assert f"column '{name}', " in str(caught.value)
    assert told in str(caught.value)


def test_a_time_of_no_calendar_is_refused_with_its_row_and_the_mend() -> None:
    stamps = pa.array([0, 2**60, 0], TIMESTAMP)  # in the year 38,505
    with pytest.raises(
        TransactionError, match=r"column 'timestamp', row 1: it is not between 1990 .*\(mend: correct"
    ):
        canonical_table(
            replaced("timestamp", pc.if_else(pa.array([True, False, True]), TABLE["timestamp"], stamps))
        )


def test_two_accounts_that_a_control_character_would_make_one_are_refused() -> None:
    rows = [
        payment(0).model_dump() | {"sender_bank": bank, "sender_account": account} for bank, account in SAME_KEY
    ]
    with pytest.raises(TransactionError, match="holds control characters"):
        canonical_table(pa.Table.from_pylist(rows, schema=TRANSACTIONS))


def test_a_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(TransactionError, match="column 'tx_id': there are 2 of that name"):
        canonical_table(TABLE.append_column("tx_id", TABLE["tx_id"]))


@pytest.mark.parametrize("nothing", [5, None, "payments.csv", [{"tx_id": "a"}], pd.DataFrame({"a": [1, "x"]})])
def test_what_is_no_table_is_refused(nothing: object) -> None:
    with pytest.raises(TransactionError, match=r"cannot be read as a table: .* \(mend: give a pyarrow, pandas"):
        canonical_table(nothing)
