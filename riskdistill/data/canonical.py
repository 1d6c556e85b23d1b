"""Any table that Arrow can read as a canonical one, checked: the door for tables that no reader made.

    canonical_table(pandas_frame), canonical_table(polars_frame), canonical_table(parquet_batch)

Optional columns that are missing become null, other columns are left out, and types are widened where nothing can
be lost. A row that `transaction.Transaction` would refuse, or would trim, is refused with its column, its row and
the mend: an account has one spelling, whether it comes in a table or alone. A table that is canonical already
passes through as it is, without a copy. A reader of files (`readers`) does more: it reads text, and sets bad rows
aside instead of refusing the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from riskdistill.data.columns import Column, pc
from riskdistill.data.schema import CUSTOMER_CLASSES, RANGES, TIMESTAMP, TRANSACTIONS
from riskdistill.data.validate import (
    COUNTRIES,
    CURRENCIES,
    SHOWN,
    TEXT_LIMITS,
    Rule,
    class_rules,
    country_rules,
    currency_rules,
    text_rules,
    time_rules,
)
from riskdistill.errors import TransactionError

_IDS: Final = ("tx_id", "sender_account", "receiver_account")  # the texts that seldom repeat
_ZONE_MEND: Final = "say which zone its times are in, e.g. in pandas .dt.tz_localize('UTC')"
_KINDS: Final = {
    pa.string(): "give texts",
    pa.float64(): "give numbers",
    TIMESTAMP: "give times with a zone, e.g. in pandas pd.to_datetime(..., utc=True)",
}
_TO_MICROSECONDS: Final = pc.CastOptions(target_type=TIMESTAMP, allow_time_truncate=True)


def canonical_table(data: object) -> pa.Table:
    """`data` with the columns and types of `schema.TRANSACTIONS`, its rows in their order.

    Args:
        data: a `pyarrow.Table` or `RecordBatch`, a pandas or polars data frame, a dictionary of arrays, or
            anything else with `__arrow_c_stream__`. Text may be of any Arrow kind, or whole numbers; times of any
            unit and zone, but with one; amounts any numbers.

    Raises:
        TransactionError: not a table; a required column is missing, or holds a null; a column of another kind; a
            time without a zone; a number that is not finite or not in its `schema.RANGES`; a text or a time
            that breaks a rule of `validate` or is not trimmed. Names the column and the first row concerned,
            counted from 0.
    """
    table = _as_table(data)
    if not table.schema.equals(TRANSACTIONS):
        columns = [_column(table, field) for field in TRANSACTIONS]
        table = pa.Table.from_arrays(columns, schema=TRANSACTIONS)
    for name in TRANSACTIONS.names:
        _check(name, table[name])
    return table


def _as_table(data: object) -> pa.Table:
    try:
        return data if isinstance(data, pa.Table) else pa.table(data)
    except (TypeError, ValueError, pa.ArrowException) as error:
        told = " ".join(str(error).split())
        raise TransactionError(
            f"{type(data).__name__} cannot be read as a table: {told}",
            mend="give a pyarrow, pandas or polars table with the columns of the canonical schema",
        ) from error


def _column(table: pa.Table, field: Any) -> Column:
    """The column of `table` for the canonical `field`, as its type."""
    where = f"column {field.name!r}"
    places = table.schema.get_all_field_indices(field.name)
    if not places and field.nullable:
        return pa.nulls(table.num_rows, field.type)
    if len(places) != 1:
        has = ", ".join(map(repr, table.column_names))
        what = f"there are {len(places)} of that name" if places else f"it is missing; the table has {has}"
        raise TransactionError(what, where=where, mend="give it once, under this name")
    column = table.column(places[0])
    if column.type == field.type:
        return column
    column = _decoded(column) if pa.types.is_dictionary(column.type) else column
    if field.type == TIMESTAMP and pa.types.is_timestamp(column.type) and column.type.tz is None:
        raise TransactionError("its times have no time zone", where=where, mend=_ZONE_MEND)
    if not _may_become(column.type, field.type):
        raise TransactionError(f"it is of type {column.type}", where=where, mend=_KINDS[field.type])
    try:
        if field.type == TIMESTAMP:
            return pc.cast(column, options=_TO_MICROSECONDS)
        return column.cast(field.type, safe=False)
    except pa.ArrowException as error:
        raise TransactionError(f"it cannot be read: {error}", where=where, mend=_KINDS[field.type]) from error


def _may_become(found: Any, wanted: Any) -> bool:
    """Whether values of type `found` say the same as values of type `wanted`."""
    if pa.types.is_null(found):  # an empty column, or one of nulls alone, has no other type
        return True
    if wanted == TIMESTAMP:
        return bool(pa.types.is_timestamp(found))
    if wanted == pa.float64():
        return bool(pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found))
    text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    return bool(text or pa.types.is_integer(found))  # an account may be 4711, and not 4711.0


def _decoded(column: Column) -> Column:
    """Plain values of a dictionary column; Arrow cannot decode every kind of text by itself."""
    values = column.type.value_type
    wanted = pa.string() if _may_become(values, pa.string()) else values
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(wanted)).dictionary_decode()
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, wanted)


def _check(name: str, column: Column) -> None:
    """Refuses nulls where a value is required, numbers out of their range, and what breaks a rule of `validate`."""
    if column.null_count and not TRANSACTIONS.field(name).nullable:
        raise _refusal(name, pc.is_null(column), "is null", "fill it in, or leave the row out")
    if name in RANGES:
        _check_range(name, column)
        return
    values = column if name == "timestamp" or name in _IDS else pc.unique(column)
    for problem, mend, broken in _rules(name, values):
        if pc.any(broken).as_py():
            bad = broken if values is column else pc.is_in(column, value_set=values.filter(broken))
            # spelled by Arrow, for Python has no year above 9999
            value = values.filter(broken).slice(0, 1).cast(pa.string())[0].as_py()
            raise _refusal(name, bad, f"{problem}: {value[:SHOWN]!r}", mend)


def _check_range(name: str, column: Column) -> None:
    least, most = RANGES[name]
    good = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))  # NaN and infinity are in no range
    if pc.all(good).as_py() is False:
        unknown = "; null where it is not known" if TRANSACTIONS.field(name).nullable else ""
        value = column[pc.index(good, False).as_py()]
        told, mend = f"is {value}", f"give a number from {least:g} to {most:g}{unknown}"
        raise _refusal(name, pc.invert(good), told, mend)


def _rules(name: str, column: Column) -> Iterator[Rule]:
    """What `validate` asks of the column of that name, and of ids and names that they are trimmed."""
    if name in TEXT_LIMITS or name in CUSTOMER_CLASSES:
        trimmed = pc.utf8_trim_whitespace(column)
        yield from text_rules(trimmed, TEXT_LIMITS[name]) if name in TEXT_LIMITS else class_rules(trimmed)
        yield "has spaces around it", "trim it", pc.fill_null(pc.not_equal(trimmed, column), False)
    elif name in CURRENCIES:
        yield from currency_rules(column)
    elif name in COUNTRIES:
        yield from country_rules(column)
    else:
        yield from time_rules(column)


def _refusal(name: str, bad: Column, told: str, mend: str) -> TransactionError:
    row = pc.index(bad, True).as_py()
    return TransactionError(f"it {told}", where=f"column {name!r}, row {row}", mend=mend)
