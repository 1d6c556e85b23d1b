"""How the tests of augmentation apply one perturbation to a history, and look at what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from augmentation_histories import START

from riskdistill.augmentation import PERTURBATIONS, sources
from riskdistill.augmentation.rows import aligned
from riskdistill.data.schema import LABELS, TRANSACTIONS

Row = dict[str, Any]
History = tuple[pa.Table, pa.Table]
NAMES = sorted(PERTURBATIONS)


def conserving(promise: str) -> list[str]:
    """The perturbations that make a promise; a promise that nobody makes is a slip in the test."""
    names = [name for name in NAMES if promise in PERTURBATIONS[name].conserves]
    assert names
    return names


def applied(name: str, history: History, seed: int, **bounds: Any) -> tuple[pa.Table, pa.Table]:
    """What the perturbation makes of the whole history, whatever stories it would choose."""
    transactions, labels = history
    labels = aligned(transactions, labels)
    perturbation = PERTURBATIONS[name](name=name, **bounds)
    ordinary = transactions.filter(pc.invert(labels["is_laundering"]))
    return perturbation.apply(transactions, labels, np.random.default_rng(seed), ordinary)


def by_source(new: pa.Table) -> dict[str, list[Row]]:
    told: dict[str, list[Row]] = defaultdict(list)
    for source, row in zip(sources(new), new.to_pylist(), strict=True):
        told[source].append(row)
    return told


def by_story(name: str, history: History) -> list[list[Row]]:
    """The rows of each story as the perturbation sees it, in order of time."""
    transactions, labels = history
    story = PERTURBATIONS[name](name=name).stories(transactions, aligned(transactions, labels))
    told: dict[int, list[Row]] = defaultdict(list)
    for number, row in zip(story.tolist(), transactions.to_pylist(), strict=True):
        told[number].append(row)
    return list(told.values())


def retold(name: str, history: History, seed: int, **bounds: Any) -> list[tuple[list[Row], list[tuple[Row, Row]]]]:
    """For each story that the perturbation tells anew its rows, and pairs of a source and a row made from it."""
    made = by_source(applied(name, history, seed, **bounds)[0])
    pairs = [
        (rows, [(row, made_row) for row in rows for made_row in made.get(row["tx_id"], [])])
        for rows in by_story(name, history)
    ]
    return [(rows, new_rows) for rows, new_rows in pairs if new_rows]


def by_id(table: pa.Table) -> dict[str, Row]:
    return {row["tx_id"]: row for row in table.to_pylist()}


def sender(row: Row) -> tuple[str, str]:
    return row["sender_bank"], row["sender_account"]


def receiver(row: Row) -> tuple[str, str]:
    return row["receiver_bank"], row["receiver_account"]


def payment(tx_id: str, when: datetime = START, payer: str = "A1", payee: str = "A2", **said: Any) -> Row:
    """A payment of 10 euros by wire, but for what is said of it."""
    return {
        "tx_id": tx_id,
        "timestamp": when,
        "sender_account": payer,
        "sender_bank": "B",
        "receiver_account": payee,
        "receiver_bank": "B",
        "amount_paid": 10.0,
        "currency_paid": "EUR",
        "amount_received": 10.0,
        "currency_received": "EUR",
        "payment_format": "wire",
    } | said


def history_of(scheme: list[Row], ordinary: Sequence[Row] = ()) -> History:
    """A history of one scheme and some ordinary payments, in order of time."""
    rows = sorted([*scheme, *ordinary], key=lambda row: row["timestamp"])
    bad = {row["tx_id"] for row in scheme}
    labels = [
        {
            "tx_id": row["tx_id"],
            "is_laundering": row["tx_id"] in bad,
            "typology": "cycle" if row["tx_id"] in bad else "normal",
            "scheme_id": "S" if row["tx_id"] in bad else None,
            "known_at": row["timestamp"],
        }
        for row in rows
    ]
    return pa.Table.from_pylist(rows, TRANSACTIONS), pa.Table.from_pylist(labels, LABELS)
