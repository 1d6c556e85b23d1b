"""AMLGentex: `tx_log_full.parquet` as the generator writes it.

`step` is a day, here counted from 2017-01-01, and nothing says what came first within it. The file writes each
day's laundering last: a row's place within its day tells its label with a ROC-AUC of 0.998 on 5,000 accounts over
180 days. So the clock is declared coarse, and ingest orders the rows of a day by what they say. Lost with it: the
order within a day of the steps of one scheme.

INITALBALANCE rows (the generator's spelling) set up the accounts and are no traffic: they are counted and
left out. Account -1 at the bank `sink` is the outside world as receiver, -2 at `source` as sender.
`patternID` is the scheme and `typology` the shape of what is laundering; both are answers and never inputs.
Money is simulated, so its currency is ISO's XTS. Laundering is taken as known when it happens.

Of what the file says of accounts, contact changes are taken (`phoneChanges*`; one of those 5,000 accounts ever had
one), and tenure where it is one. `daysInBank*` of an account that is there from the first day is the day of the row
plus one: it counts the simulation and not the customer, a model would read the date off it, and so it is not known.
(It is so in every row of the 5,000 accounts.) The outside world is no customer. Balances are left out: they are
taken between two payments of one day, in the file's order, which is no fact and would come back through them.

AMLGentex, https://github.com/aidotse/AMLGentex (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.source import Rows, locate, read_rows
from riskdistill.data.validate import Batch, Draft, canonicalise

CURRENCY: Final = "XTS"
SET_UP: Final = "INITALBALANCE"
OUTSIDE: Final = pa.array(["-1", "-2"])  # accounts
ORIGIN: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("step",),
    "sender_account": ("nameOrig",),
    "sender_bank": ("bankOrig",),
    "receiver_account": ("nameDest",),
    "receiver_bank": ("bankDest",),
    "amount_paid": ("amount",),
    "amount_received": ("amount",),
    "payment_format": ("type",),
    "is_laundering": ("isSAR",),
    "typology": ("typology",),
    "scheme_id": ("patternID",),
}
OF_CUSTOMERS: Final[dict[str, tuple[str, ...]]] = {  # where the file has them
    "sender_tenure_days": ("daysInBankOrig",),
    "receiver_tenure_days": ("daysInBankDest",),
    "sender_contact_changes": ("phoneChangesOrig",),
    "receiver_contact_changes": ("phoneChangesDest",),
}


def read(path: Path) -> Iterator[Batch]:
    """Reads `tx_log_full.parquet`, or `tx_log.parquet` from older versions of the generator."""
    file = locate(path, "tx_log_full.parquet", "tx_log.parquet", "tx_log*.csv*")
    for rows in read_rows(file, [name for names in ORIGIN.values() for name in names]):
        traffic = pc.fill_null(pc.not_equal(columns.text(rows.table["type"]), SET_UP), True)
        kept = rows.where(traffic)
        yield canonicalise(_draft(kept, set_up=len(rows.numbers) - len(kept.numbers)))


def _draft(rows: Rows, set_up: int) -> Draft:
    raw, count = rows.table, len(rows.numbers)
    amount = columns.number(raw["amount"])
    laundering = columns.flag(raw["isSAR"])
    made = {
        "tx_id": columns.row_ids("amlgentex", rows.numbers),
        "timestamp": columns.elapsed_time(raw["step"], timedelta(days=1)),
        "sender_account": columns.text(raw["nameOrig"]),
        "sender_bank": columns.text(raw["bankOrig"]),
        "receiver_account": columns.text(raw["nameDest"]),
        "receiver_bank": columns.text(raw["bankDest"]),
        "amount_paid": amount,
        "currency_paid": columns.repeated(CURRENCY, count),
        "amount_received": amount,
        "currency_received": columns.repeated(CURRENCY, count),
        "payment_format": columns.text(raw["type"]),
    }
    made |= _of_customers(raw)
    shape = pc.replace_substring_regex(columns.words(raw["typology"]), r"^sar_", "")
    labels = {
        "is_laundering": laundering,
        "typology": columns.typology(laundering, shape),
        "scheme_id": columns.only_where(laundering, columns.text(raw["patternID"])),
    }
    return Draft(rows, made, labels, ORIGIN | OF_CUSTOMERS, set_up=set_up, coarse=True)


def _of_customers(raw: pa.Table) -> dict[str, Column]:
    """What is known of the parties; see the module's text for what is not."""
    of_the_simulation = pc.add(columns.number(raw["step"]), 1.0)
    made = {}
    for name, (source,) in OF_CUSTOMERS.items():
        if source in raw.column_names:
            value = columns.number_or_null(raw[source])
            account = columns.text(raw["nameOrig" if name.startswith("sender") else "nameDest"])
            known = pc.invert(pc.is_in(account, value_set=OUTSIDE))
            if name.endswith("tenure_days"):
                known = pc.and_(known, pc.fill_null(pc.not_equal(value, of_the_simulation), True))
            made[name] = columns.only_where(known, value)
    return made
