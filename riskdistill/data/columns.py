"""Whole columns from text or loose types to canonical types. What cannot be read becomes null, not an error.

Null is how a column says "this row is not readable" to `validate`, which finds the row's own spelling for
the reason. All functions take and give Arrow arrays of the same length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import xxhash

from riskdistill.data.currencies import CODE_BY_NAME
from riskdistill.data.schema import NORMAL, TIMESTAMP, UNLISTED

Column = Any  # an Arrow Array or ChunkedArray; the compute functions take either
pc: Final[Any] = pyarrow.compute  # untyped on purpose: its published stubs refuse plain Python scalars

SIMULATION_START: Final = datetime(2017, 1, 1, tzinfo=UTC)  # AMLSim's own base date; the others give none
_MICROSECOND: Final = timedelta(microseconds=1)
_EXACT_IN_FLOAT: Final = 2.0**53
_TRUE: Final = pa.array(["1", "true", "yes", "y", "t", "1.0"])
_FALSE: Final = pa.array(["0", "false", "no", "n", "f", "0.0"])
_PARTS: Final = 16  # of a column that cannot be cast as a whole


def by_distinct(function: Callable[[Column], Column], column: Column) -> Column:
    """`function(column)`, worked out once for each distinct value where the column is dictionary-encoded."""
    if not pa.types.is_dictionary(column.type):
        return function(column)
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return function(encoded.dictionary).take(encoded.indices)


def text(column: Column) -> Column:
    """Trimmed text of a column of any type."""
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def text_or_null(column: Column) -> Column:
    """Trimmed text, null where there is none."""
    trimmed = text(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def repeated(value: str, count: int) -> Column:
    return pa.repeat(pa.scalar(value), count)


def row_ids(source: str, numbers: Column) -> Column:
    """`<source>-<row number>`: the ids of transactions whose source gives none."""
    return pc.binary_join_element_wise(pa.scalar(source), pa.array(numbers).cast(pa.string()), pa.scalar("-"))


def hash64(column: Column) -> npt.NDArray[np.uint64]:
    """uint64[n]: the XXH3 of each text's UTF-8 bytes; the same on every machine and in every run."""
    spelled = column.cast(pa.binary()).to_pylist()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, spelled), np.uint64, len(spelled))


def number(column: Column) -> Column:
    """float64; null where the text is not a number."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64(), safe=False)
    return _leniently(text(column), pa.float64())


def number_or_null(column: Column) -> Column:
    """float64; null where there is no text, NaN where the text is not a number."""
    read = number(column)
    unreadable = pc.and_(pc.is_null(read), pc.is_valid(text_or_null(column)))
    return pc.if_else(unreadable, pa.scalar(math.nan), read)


def flag(column: Column) -> Column:
    """bool from 0/1, true/false, yes/no in any case; null for anything else."""
    spelled = pc.utf8_lower(text(column))
    yes = pc.is_in(spelled, value_set=_TRUE)
    known = pc.or_(yes, pc.is_in(spelled, value_set=_FALSE))
    return pc.if_else(known, yes, pa.scalar(None, pa.bool_()))


def utc_time(column: Column) -> Column:
    """UTC times from ISO 8601 texts that carry no offset and are known to be UTC; slashes pass for dashes."""
    return naive_time(column).cast(TIMESTAMP)


def naive_time(column: Column) -> Column:
    """Times without a zone, from ISO 8601 texts without an offset; slashes pass for dashes."""
    return _leniently(pc.replace_substring(text(column), "/", "-"), pa.timestamp("us"))


def offset_time(column: Column) -> Column:
    """UTC times from ISO 8601 texts that each carry a UTC offset; null where one does not."""
    return _leniently(text(column), TIMESTAMP)


def elapsed_time(column: Column, unit: timedelta, start: datetime = SIMULATION_START) -> Column:
    """UTC times from numbers that count `unit`s since `start`."""
    steps = number(column)
    micros = pc.multiply(steps, pa.scalar(unit / _MICROSECOND))
    readable = pc.less(pc.abs(micros), _EXACT_IN_FLOAT)
    whole = pc.if_else(readable, micros, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)
    began = (start - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    return pc.add(whole, pa.scalar(began)).cast(TIMESTAMP)


def currency(column: Column) -> Column:
    """ISO codes for the currency names that published data sets use; other texts as they are."""
    return translated(column, CODE_BY_NAME)


def words(column: Column) -> Column:
    """Lower case words joined by underscores: `Fan-Out`, `fan out` and `FAN_OUT` as `fan_out`."""
    return pc.utf8_lower(pc.replace_substring_regex(text(column), r"[-\s]+", "_"))


def translated(column: Column, names: dict[str, str]) -> Column:
    """Trimmed text, with the texts that are keys of `names` exchanged for their values."""
    column = text(column)
    found = pc.index_in(column, value_set=pa.array(list(names)))
    return pc.coalesce(pc.take(pa.array(list(names.values())), found), column)


def typology(is_laundering: Column, shape: Column) -> Column:
    """`shape` where there is laundering and a shape is known, else UNLISTED or NORMAL."""
    named = pc.and_(pc.is_valid(shape), pc.not_equal(shape, ""))
    shape = pc.if_else(pc.fill_null(named, False), shape, pa.scalar(UNLISTED))
    return pc.if_else(pc.fill_null(is_laundering, False), shape, pa.scalar(NORMAL))


def only_where(mask: Column, column: Column) -> Column:
    """`column` where `mask` is true, null elsewhere."""
    return pc.if_else(pc.fill_null(mask, False), column, pa.scalar(None, column.type))


def _leniently(column: Column, target: Any) -> Column:
    """Casts what can be cast. A column that fails is parted, so that a bad row costs a few casts of its part."""
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, target)
    size = -(-len(column) // _PARTS)
    parts = [_leniently(column.slice(start, size), target) for start in range(0, len(column), size)]
    return pa.concat_arrays(
        [chunk for part in parts for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
    )
