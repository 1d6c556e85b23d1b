"""Learn from one source, be judged on another: both brought to what they share.

Generators differ in what they tell and how finely they stamp, and no model should learn that. So both get the
coarser of their clocks, with rows of one coarse stamp in the order that ingest gives them (`data.order`); and an
optional column that either lacks is taken from the other. Amounts stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import FeaturesConfig
from riskdistill.data.order import time_order
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.dataset.build import Progress, feature_engine
from riskdistill.dataset.clock import HOUR, Ints, clock_unit, microseconds, on_the_clock
from riskdistill.dataset.labels import Bools, Tables
from riskdistill.features import FeatureSpec

OF_ONE_SOURCE: Final = (
    "payment_format",
    "currency_paid",
    "currency_received",
)  # numbers that mean nothing elsewhere


@dataclass(frozen=True)
class Side:
    """One of two sources, brought to what it shares with the other; row for row, in order of time.

    Attributes:
        tables: canonical.
        spec: what the features are.
        context: float32 [n, features]; NaN throughout in what the tables do not tell.
        label: bool [n]: all that was recorded, to learn from; what is true where there is a truth, to be judged by.
        typology: object [n], names.
        times: int64 [n], microseconds since 1970.
    """

    tables: Tables
    spec: FeatureSpec
    context: NDArray[np.float32]
    label: Bools
    typology: NDArray[np.object_]
    times: Ints


def cross_generator(
    train: Tables, test: Tables, features: FeaturesConfig, *, progress: Progress | None = None
) -> tuple[Side, Side]:
    """Both sources as models see them, with nothing in one that the other does not tell.

    Args:
        train: what is learned from, with labels as recorded.
        test: what is judged on, by its truth, or without one by all of its labels.
        features: of the engine, which starts anew for each.
        progress: see `Progress`; there are the rows of both.

    Raises:
        DataError: labels are missing or in another order.
    """
    learned, judged = _aligned(train, test)
    return (
        _side(learned, learned.labels, features, progress),
        _side(judged, judged.judged_by, features, progress),
    )


def shared_features(train: Side, test: Side) -> Ints:
    """Columns of the context that both sources tell something of, and that mean the same in both."""
    told = [~np.isnan(side.context).all(axis=0) for side in (train, test)]
    return np.flatnonzero(told[0] & told[1] & ~np.isin(train.spec.names, OF_ONE_SOURCE))


def _aligned(*sources: Tables) -> list[Tables]:
    for tables in sources:
        tables.require_order()
    unit = max(clock_unit(microseconds(tables.transactions)) for tables in sources)
    untold = [
        field
        for field in TRANSACTIONS
        if field.nullable
        and any(tables.transactions[field.name].null_count == len(tables.transactions) for tables in sources)
    ]
    return [_on(tables, unit, untold) for tables in sources]


def _on(tables: Tables, unit: int, untold: list[pa.Field]) -> Tables:
    """The tables without what is untold; stamped in whole `unit`s and in that clock's order if theirs is finer."""
    transactions, labels, truth = tables
    for field in untold:
        at = TRANSACTIONS.get_field_index(field.name)
        transactions = transactions.set_column(at, field, pa.nulls(len(transactions), field.type))
    if clock_unit(microseconds(transactions)) == unit:
        return Tables(transactions, labels, truth)
    stamped = on_the_clock(transactions, unit)
    order = time_order(stamped, coarse=unit >= HOUR)
    return Tables(stamped.take(order), labels.take(order), None if truth is None else truth.take(order))


def _side(tables: Tables, labels: pa.Table, features: FeaturesConfig, progress: Progress | None) -> Side:
    engine = feature_engine(features)
    return Side(
        tables=tables,
        spec=engine.spec,
        context=engine.encode(tables.transactions, tokens=False, progress=progress).context,
        label=labels["is_laundering"].to_numpy(),
        typology=labels["typology"].to_numpy(zero_copy_only=False),
        times=microseconds(tables.transactions),
    )
