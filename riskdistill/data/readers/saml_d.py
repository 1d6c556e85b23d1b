"""SAML-D: one CSV of transactions with a `Laundering_type`, of which only the laundering ones are shapes.

Times are taken as UTC, by the second; rows of one second keep the file's order. The set names the countries of
the banks and not the banks, so every account is at the bank `bank`. `Amount` is one figure in the currency of the
payment; what was received is that amount at the fixed rates of `currencies`, so that an exchange is not mistaken
for a loss. Schemes are not told apart and no date says when laundering became known: the transaction's own time
stands for it.

Oztas et al., "Enhancing Anti-Money Laundering: Development of a Synthetic Transaction Monitoring Dataset",
IEEE ICEBE 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.currencies import USD_PER_UNIT
from riskdistill.data.source import Rows, locate, read_rows
from riskdistill.data.validate import Batch, Draft, canonicalise

ORIGIN: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("Date", "Time"),
    "sender_account": ("Sender_account",),
    "receiver_account": ("Receiver_account",),
    "amount_paid": ("Amount",),
    "amount_received": ("Amount",),
    "currency_paid": ("Payment_currency",),
    "currency_received": ("Received_currency",),
    "sender_country": ("Sender_bank_location",),
    "receiver_country": ("Receiver_bank_location",),
    "payment_format": ("Payment_type",),
    "is_laundering": ("Is_laundering",),
    "typology": ("Laundering_type",),
}
COUNTRIES: Final[dict[str, str]] = {
    "Albania": "AL",
    "Austria": "AT",
    "France": "FR",
    "Germany": "DE",
    "India": "IN",
    "Italy": "IT",
    "Japan": "JP",
    "Mexico": "MX",
    "Morocco": "MA",
    "Netherlands": "NL",
    "Nigeria": "NG",
    "Pakistan": "PK",
    "Spain": "ES",
    "Switzerland": "CH",
    "Turkey": "TR",
    "UAE": "AE",
    "UK": "GB",
    "USA": "US",
}


def read(path: Path) -> Iterator[Batch]:
    """Reads `SAML-D.csv[.gz]`."""
    file = locate(path, "SAML-D.*", "*.csv", "*.csv.gz", "*.parquet")
    for rows in read_rows(file, [name for names in ORIGIN.values() for name in names]):
        yield canonicalise(_draft(rows))


def _draft(rows: Rows) -> Draft:
    raw, count = rows.table, len(rows.numbers)
    amount = columns.number(raw["Amount"])
    paid, received = columns.currency(raw["Payment_currency"]), columns.currency(raw["Received_currency"])
    same = pc.fill_null(pc.equal(paid, received), True)
    exchanged = pc.multiply(amount, pc.divide(_rate(paid), _rate(received)))
    laundering = columns.flag(raw["Is_laundering"])
    made = {
        "tx_id": columns.row_ids("saml-d", rows.numbers),
        "timestamp": columns.utc_time(
            pc.binary_join_element_wise(columns.text(raw["Date"]), columns.text(raw["Time"]), pa.scalar(" "))
        ),
        "sender_account": columns.text(raw["Sender_account"]),
        "sender_bank": columns.repeated("bank", count),
        "receiver_account": columns.text(raw["Receiver_account"]),
        "receiver_bank": columns.repeated("bank", count),
        "amount_paid": amount,
        "currency_paid": paid,
        "amount_received": pc.if_else(same, amount, pc.round(exchanged, 2)),
        "currency_received": received,
        "payment_format": columns.text(raw["Payment_type"]),
        "sender_country": columns.translated(raw["Sender_bank_location"], COUNTRIES),
        "receiver_country": columns.translated(raw["Receiver_bank_location"], COUNTRIES),
    }
    labels = {
        "is_laundering": laundering,
        "typology": columns.typology(laundering, columns.words(raw["Laundering_type"])),
        "scheme_id": pa.nulls(count, pa.string()),
    }
    return Draft(rows, made, labels, ORIGIN)


def _rate(codes: Column) -> Column:
    """US dollars per unit; 1 for a code that is not known, whose row will not pass anyway."""
    found = pc.index_in(codes, value_set=pa.array(list(USD_PER_UNIT)))
    return pc.fill_null(pc.take(pa.array(list(USD_PER_UNIT.values())), found), 1.0)
