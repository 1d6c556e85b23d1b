"""Labels beside their transactions: what was known at a moment, and what is true.

`labels` are what a bank has recorded in the end: late, incomplete, partly wrong. `truth`, which only simulated
sources have, is complete, and is for judging alone: nothing learns from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskdistill.data.schema import LABELS, NORMAL
from riskdistill.errors import DataError

Bools = NDArray[np.bool_]


class Tables(NamedTuple):
    """The canonical tables of one source, row for row and in order of arrival."""

    transactions: pa.Table
    labels: pa.Table
    truth: pa.Table | None = None

    @property
    def judged_by(self) -> pa.Table:
        """The labels that say how good a model is: the truth, or where there is none, all that was recorded."""
        return self.labels if self.truth is None else self.truth

    def require_order(self) -> None:
        """Refuse labels or a truth that are not the transactions', row for row.

        Raises:
            DataError: they are missing, or in another order.
        """
        for name, told in (("labels", self.labels), ("true labels", self.truth)):
            if told is None:
                continue
            if told.num_rows != self.transactions.num_rows:
                raise DataError(
                    f"{told.num_rows} {name} for {self.transactions.num_rows} transactions",
                    mend="training needs a source with labels",
                )
            if not told["tx_id"].equals(self.transactions["tx_id"]):
                raise DataError(f"{name} are not in the order of the transactions", mend="ingest the source again")


def as_known_at(labels: pa.Table, moment: datetime) -> pa.Table:
    """The labels as an observer had them at `moment`: what was found later still counts as normal."""
    known = pc.less_equal(labels["known_at"], pa.scalar(moment, LABELS.field("known_at").type))
    laundering = pc.and_(labels["is_laundering"], known)
    typology = pc.if_else(laundering, labels["typology"], NORMAL)
    scheme = pc.if_else(laundering, labels["scheme_id"], pa.scalar(None, pa.string()))
    columns = {"is_laundering": laundering, "typology": typology, "scheme_id": scheme}
    return pa.Table.from_arrays([columns.get(name, labels[name]) for name in LABELS.names], schema=LABELS)


def completed(transactions: pa.Table, cases: pa.Table, recorded: pa.Table, moment: datetime) -> pa.Table:
    """One label for each transaction, row for row, as known at `moment`.

    What became known last holds, a case before what was `recorded` elsewhere at the same time. A transaction that
    neither tells of is normal, and counts as known when it was paid: nobody looked at it.

    Args:
        transactions: canonical.
        cases, recorded: canonical labels, of any transactions in any order.
    """
    told = pa.concat_tables([cases, recorded])
    told = told.filter(pc.less_equal(told["known_at"], pa.scalar(moment, LABELS.field("known_at").type)))
    told = told.take(pc.sort_indices(told, [("known_at", "descending")]))  # stable: the cases come first
    ids = told["tx_id"].to_pylist()
    latest = {tx_id: place for place, tx_id in zip(reversed(range(len(ids))), reversed(ids), strict=True)}
    place = pa.array([latest.get(tx_id) for tx_id in transactions["tx_id"].to_pylist()], pa.int64())
    found = told.take(place)
    columns = {
        "tx_id": transactions["tx_id"],
        "is_laundering": pc.fill_null(found["is_laundering"], False),
        "typology": pc.fill_null(found["typology"], NORMAL),
        "scheme_id": found["scheme_id"],
        "known_at": pc.coalesce(found["known_at"], transactions["timestamp"]),
    }
    return pa.Table.from_arrays([columns[name] for name in LABELS.names], schema=LABELS)


def matured(tables: Tables, now: datetime, share: float) -> Tables:
    """What is known at `now` of the payments that are old enough for it to be nearly all: no truth, nothing later.

    Args:
        share: of the labels known at `now`, how many had arrived after the time that is waited for them.

    Raises:
        DataError: no laundering is known at `now`.
    """
    labels = as_known_at(tables.labels, now)
    found = labels["is_laundering"].to_numpy()
    if not found.any():
        raise DataError(f"no laundering is known at {now:%Y-%m-%d %H:%M}", mend="give labels, or a later date")
    paid, known = (
        table[name].cast(pa.int64()).to_numpy()
        for table, name in ((tables.transactions, "timestamp"), (labels, "known_at"))
    )
    waiting = np.quantile((known - paid)[found], share)
    rows = int(np.searchsorted(paid, now.timestamp() * 1e6 - waiting))
    return Tables(tables.transactions.slice(0, rows), labels.slice(0, rows))


def reviewed(tables: Tables, moment: datetime) -> Bools:
    """bool [n]: rows whose label became known after the payment, but not after `moment`: somebody looked at it.

    The label of a row that nobody looked at counts as known when the payment was made.
    """
    known = tables.labels["known_at"]
    later = pc.and_(
        pc.greater(known, tables.transactions["timestamp"]), pc.less_equal(known, pa.scalar(moment, known.type))
    )
    return np.asarray(later.to_numpy(), np.bool_)


def of_typologies(labels: pa.Table, typologies: Sequence[str]) -> Bools:
    """bool [n]: laundering of one of the typologies, or of a scheme that has such a row."""
    named = pc.and_(labels["is_laundering"], pc.is_in(labels["typology"], pa.array(typologies, pa.string())))
    schemes = labels.filter(named)["scheme_id"].drop_null().unique()
    within = pc.and_(labels["is_laundering"], pc.is_in(labels["scheme_id"], schemes))
    return np.asarray(pc.or_(named, within).to_numpy(), np.bool_)
