"""Across generators: learn from one source, be judged on another, both brought to what they share.

What only one of them says would tell the two apart instead of laundering from ordinary payments: a finer clock, or
balances. Names stay: payment formats are hashed and currencies numbered, so that a model that reads them learns the
names of its own source; whoever compares sources may leave these three features out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import FeaturesConfig
from riskdistill.data.order import time_order
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.dataset.clock import HOUR, Ints, clock_unit, microseconds, moment, on_the_clock
from riskdistill.dataset.labels import Bools, Tables, as_known_at
from riskdistill.dataset.replay import Progress, feature_engine
from riskdistill.features import Encoded


@dataclass(frozen=True)
class Side:
    """All rows of one source, in order of time.

    Attributes:
        encoded: context only; `events` is empty.
        label: bool [n].
        typology: object [n], names.
        times: int64 [n], microseconds since 1970, in whole units of the coarser clock.
    """

    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]
    times: Ints

    def __len__(self) -> int:
        return len(self.label)


def cross_generator(
    train: Tables, test: Tables, features: FeaturesConfig, *, progress: Progress | None = None
) -> tuple[Side, Side]:
    """Both sources encoded after they were brought to what they share, each by an engine of its own.

    Stamps are cut to the coarser of the two clocks. Where that is an hour or more, the order within a stamp is no
    fact, and content orders the rows as ingest does (see `data.order`). An optional column that is empty in one
    source is emptied in the other.

    Args:
        train: to learn from: its labels are as known when its last transaction comes, its truth is not looked at.
        test: to be judged on: by its truth, or where there is none by all that was recorded.
        features: of both engines.
        progress: see `Progress`; there are as many rows as transactions in both.

    Raises:
        DataError: labels are missing or in another order.
        TransactionError: a table is not canonical.
    """
    for tables in (train, test):
        tables.require_order()
    unit = max(clock_unit(microseconds(tables.transactions)) for tables in (train, test))
    absent = [
        field.name
        for field in TRANSACTIONS
        if field.nullable
        and any(tables.transactions[field.name].null_count == len(tables.labels) for tables in (train, test))
    ]
    last = microseconds(train.transactions)[-1:].max(initial=0)
    told = as_known_at(train.labels, moment(last)), test.judged_by
    first, second = (
        _side(_shared(tables.transactions, unit, absent), labels, unit, features, progress)
        for tables, labels in zip((train, test), told, strict=True)
    )
    return first, second


def _shared(transactions: pa.Table, unit: int, absent: list[str]) -> pa.Table:
    """The rows on the shared clock, without the columns that only one source has."""
    stamped = on_the_clock(transactions, unit)
    for name in absent:
        at, field = TRANSACTIONS.get_field_index(name), TRANSACTIONS.field(name)
        stamped = stamped.set_column(at, field, pa.nulls(len(stamped), field.type))
    return stamped


def _side(
    transactions: pa.Table, labels: pa.Table, unit: int, features: FeaturesConfig, progress: Progress | None
) -> Side:
    order = time_order(transactions, coarse=unit >= HOUR)
    ordered, told = transactions.take(order), labels.take(order)
    return Side(
        encoded=feature_engine(features).encode(ordered, tokens=False, progress=progress),
        label=told["is_laundering"].to_numpy(),
        typology=told["typology"].to_numpy(zero_copy_only=False),
        times=microseconds(ordered),
    )
