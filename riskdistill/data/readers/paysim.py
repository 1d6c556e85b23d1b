"""PaySim: mobile money, one CSV.

`step` is an hour, here counted from 2017-01-01, and nothing says what came first within it: the clock is declared
coarse, and ingest orders the rows of an hour by what they say. A CASH_IN moves money from the merchant
(`nameDest`) to the customer (`nameOrig`), as the balances show: there, and only there, the two are exchanged. Its
fraud is marked and not described, so it is UNLISTED, without a scheme, and taken as known when it happens.
`isFlaggedFraud` is the output of a rule and no label. Balances are left out: they are taken between two payments of
one hour, in the file's order, which is no fact and would come back through them. Money is simulated (ISO's XTS), at
the bank `bank`.

Lopez-Rojas et al., "PaySim: a financial mobile money simulator for fraud detection", EMSS 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import pc
from riskdistill.data.source import Rows, locate, read_rows
from riskdistill.data.validate import Batch, Draft, canonicalise

CURRENCY: Final = "XTS"
BANK: Final = "bank"
ORIGIN: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("step",),
    "sender_account": ("nameOrig",),
    "receiver_account": ("nameDest",),
    "amount_paid": ("amount",),
    "amount_received": ("amount",),
    "payment_format": ("type",),
    "is_laundering": ("isFraud",),
}


def read(path: Path) -> Iterator[Batch]:
    """Reads the log: `PS_*_log.csv` as published, or the only CSV or Parquet file of a folder."""
    file = locate(path, "PS_*.csv*", "paysim.*", "*.csv", "*.csv.gz", "*.parquet")
    for rows in read_rows(file, [name for names in ORIGIN.values() for name in names]):
        yield canonicalise(_draft(rows))


def _draft(rows: Rows) -> Draft:
    raw, count = rows.table, len(rows.numbers)
    amount, kind = columns.number(raw["amount"]), columns.text(raw["type"])
    customer, other = columns.text(raw["nameOrig"]), columns.text(raw["nameDest"])
    paid_in = pc.fill_null(pc.is_in(kind, value_set=pa.array(["CASH_IN", "CASH-IN"])), False)
    laundering = columns.flag(raw["isFraud"])
    made = {
        "tx_id": columns.row_ids("paysim", rows.numbers),
        "timestamp": columns.elapsed_time(raw["step"], timedelta(hours=1)),
        "sender_account": pc.if_else(paid_in, other, customer),
        "sender_bank": columns.repeated(BANK, count),
        "receiver_account": pc.if_else(paid_in, customer, other),
        "receiver_bank": columns.repeated(BANK, count),
        "amount_paid": amount,
        "currency_paid": columns.repeated(CURRENCY, count),
        "amount_received": amount,
        "currency_received": columns.repeated(CURRENCY, count),
        "payment_format": kind,
    }
    none = pa.nulls(count, pa.string())
    labels = {
        "is_laundering": laundering,
        "typology": columns.typology(laundering, none),
        "scheme_id": none,
    }
    return Draft(rows, made, labels, ORIGIN, coarse=True)
