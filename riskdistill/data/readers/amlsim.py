"""IBM's AMLSim, in its two forms: the published CSV tables and the simulator's own log.

Published: `transactions.csv`, with `alerts.csv` (the shape of each alert) and `accounts.csv` (the bank of
each account) beside it. Log: one table with `step` (a day from 2017-01-01, the simulator's own start),
`nameOrig` and `nameDest`; `typology`, `bankOrig` and `bankDest` where it has them. Money is simulated, so its
currency is ISO's XTS; an account without a bank is at the bank `bank`; the alert is the scheme. Laundering is
taken as known when it happens.

Both forms stamp by the day and do not say what came first within it: the clock is declared coarse, and ingest
orders the rows of a day by what they say. (A row's place within its day told nothing of its label on 10,000
accounts over two years: ROC-AUC 0.499. That is no promise for other runs of the simulator.) The log's balances are
left out: they are taken between two payments of one day, in the file's order, and would bring it back.

Suzumura and Kanezashi, "Anti-Money Laundering Datasets", https://github.com/IBM/AMLSim, 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.source import Rows, column_names, locate, read_rows
from riskdistill.data.validate import Batch, Draft, SeenIds, canonicalise

CURRENCY: Final = "XTS"
BANK: Final = "bank"
_PLACES: Final = ("transactions.csv*", "transactions.parquet", "tx_log.csv*", "tx_log.parquet")
PUBLISHED: Final[dict[str, tuple[str, ...]]] = {
    "tx_id": ("tran_id",),
    "timestamp": ("tran_timestamp",),
    "sender_account": ("orig_acct",),
    "receiver_account": ("bene_acct",),
    "amount_paid": ("base_amt",),
    "amount_received": ("base_amt",),
    "payment_format": ("tx_type",),
    "is_laundering": ("is_sar",),
    "scheme_id": ("alert_id",),
}
LOG: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("step",),
    "sender_account": ("nameOrig",),
    "receiver_account": ("nameDest",),
    "amount_paid": ("amount",),
    "amount_received": ("amount",),
    "payment_format": ("type",),
    "is_laundering": ("isSAR",),
    "scheme_id": ("alertID",),
}


def read(path: Path, *, beside: Path | None = None) -> Iterator[Batch]:
    """Reads either form; the columns tell which one it is.

    Args:
        beside: the source that alerts and accounts lie beside, if not `path`.
    """
    file = locate(path, *_PLACES)
    if "nameOrig" in column_names(file):
        return _read_log(file)
    return _read_published(file, file if beside is None else locate(beside, *_PLACES))


def _read_published(file: Path, home: Path) -> Iterator[Batch]:
    shapes = _lookup(home, "alerts", "alert_id", "alert_type")
    banks = _lookup(home, "accounts", "acct_id", "bank_id")
    seen = SeenIds()
    for rows in read_rows(file, [name for names in PUBLISHED.values() for name in names]):
        raw = rows.table
        alert = columns.text(raw["alert_id"])
        made = _money(rows, columns.text(raw["orig_acct"]), columns.text(raw["bene_acct"]), raw["base_amt"]) | {
            "tx_id": columns.text(raw["tran_id"]),
            "timestamp": columns.offset_time(raw["tran_timestamp"]),
            "payment_format": columns.text(raw["tx_type"]),
        }
        made["sender_bank"] = _found(made["sender_account"], banks, BANK)
        made["receiver_bank"] = _found(made["receiver_account"], banks, BANK)
        labels = _labels(raw["is_sar"], alert, columns.words(_found(alert, shapes, "")))
        yield canonicalise(Draft(rows, made, labels, PUBLISHED, coarse=True), seen)


def _read_log(file: Path) -> Iterator[Batch]:
    for rows in read_rows(file, [name for names in LOG.values() for name in names]):
        raw, count = rows.table, len(rows.numbers)
        made = _money(rows, columns.text(raw["nameOrig"]), columns.text(raw["nameDest"]), raw["amount"]) | {
            "tx_id": columns.row_ids("amlsim", rows.numbers),
            "timestamp": columns.elapsed_time(raw["step"], timedelta(days=1)),
            "payment_format": columns.text(raw["type"]),
        }
        for field, name in (("sender_bank", "bankOrig"), ("receiver_bank", "bankDest")):
            made[field] = columns.text(raw[name]) if name in raw.column_names else made[field]
        shape = columns.words(raw["typology"]) if "typology" in raw.column_names else pa.nulls(count, pa.string())
        labels = _labels(raw["isSAR"], columns.text(raw["alertID"]), shape)
        yield canonicalise(Draft(rows, made, labels, LOG, coarse=True))


def _money(rows: Rows, sender: Column, receiver: Column, amount: Column) -> dict[str, Column]:
    count, figure = len(rows.numbers), columns.number(amount)
    return {
        "sender_account": sender,
        "sender_bank": columns.repeated(BANK, count),
        "receiver_account": receiver,
        "receiver_bank": columns.repeated(BANK, count),
        "amount_paid": figure,
        "currency_paid": columns.repeated(CURRENCY, count),
        "amount_received": figure,
        "currency_received": columns.repeated(CURRENCY, count),
    }


def _labels(is_sar: Column, alert: Column, shape: Column) -> dict[str, Column]:
    laundering = columns.flag(is_sar)
    return {
        "is_laundering": laundering,
        "typology": columns.typology(laundering, shape),
        "scheme_id": columns.only_where(laundering, alert),
    }


def _lookup(transactions: Path, table: str, key: str, value: str) -> dict[str, str]:
    """key → value from the `table` beside `transactions`; empty where there is none, or it lacks `value`."""
    beside = sorted(transactions.parent.glob(f"{table}.csv*"))
    if not beside or value not in column_names(beside[0]):
        return {}
    found: dict[str, str] = {}
    for rows in read_rows(beside[0], [key, value]):
        keys, values = columns.text(rows.table[key]), columns.text(rows.table[value])
        found.update(zip(keys.to_pylist(), values.to_pylist(), strict=True))
    return found


def _found(keys: Column, lookup: dict[str, str], otherwise: str) -> Column:
    places = pc.index_in(keys, value_set=pa.array(list(lookup), pa.string()))
    return pc.fill_null(pc.take(pa.array(list(lookup.values()), pa.string()), places), otherwise)
