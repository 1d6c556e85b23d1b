"""Times of canonical tables as whole microseconds, and how finely a source stamps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data.schema import TIMESTAMP, TRANSACTIONS

SECOND: Final = 1_000_000  # microseconds
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
Ints = NDArray[np.int64]


def microseconds(table: pa.Table, name: str = "timestamp") -> Ints:
    """int64 [n]: a column of times, in microseconds since 1970."""
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), np.int64)


def moment(time: int) -> datetime:
    """A time in microseconds since 1970 with its zone, exactly."""
    seconds, rest = divmod(int(time), SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def clock_unit(times: Ints) -> int:
    """Microseconds of the coarsest unit (day, hour, minute, second) in which all times are whole; else 1.

    >>> clock_unit(np.array([0, 2 * DAY]))
    86400000000
    """
    return next((unit for unit in (DAY, HOUR, 60 * SECOND, SECOND) if not (times % unit).any()), 1)


def on_the_clock(transactions: pa.Table, unit: int) -> pa.Table:
    """The rows stamped in whole `unit`s of microseconds, each at or before its own time."""
    times = microseconds(transactions)
    stamps = pa.array(times - times % unit, pa.int64()).cast(TIMESTAMP)
    column = TRANSACTIONS.get_field_index("timestamp")
    return transactions.set_column(column, TRANSACTIONS.field(column), stamps)
