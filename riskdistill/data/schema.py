"""The canonical tables that every source is read into, and the limits that every row must keep.

`transactions` says what happened; `labels` says what is known of it and since when. They are apart because
labels arrive late: a training set is always built *as known at* a time.

Countries, balances and customer fields are optional: null is "not known", and a file may lack their columns
altogether (`canonical.canonical_table` adds them).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

_TRANSACTIONS: list[pa.Field[Any]] = [
    pa.field("tx_id", pa.string(), nullable=False),
    pa.field("timestamp", TIMESTAMP, nullable=False),
    pa.field("sender_account", pa.string(), nullable=False),
    pa.field("sender_bank", pa.string(), nullable=False),
    pa.field("receiver_account", pa.string(), nullable=False),
    pa.field("receiver_bank", pa.string(), nullable=False),
    pa.field("amount_paid", pa.float64(), nullable=False),
    pa.field("currency_paid", pa.string(), nullable=False),
    pa.field("amount_received", pa.float64(), nullable=False),
    pa.field("currency_received", pa.string(), nullable=False),
    pa.field("payment_format", pa.string(), nullable=False),
    pa.field("sender_country", pa.string()),
    pa.field("receiver_country", pa.string()),
    # just before the payment, in units of currency_paid and of currency_received; an overdraft is negative
    pa.field("sender_balance", pa.float64()),
    pa.field("receiver_balance", pa.float64()),
    # since the party became a customer
    pa.field("sender_tenure_days", pa.float64()),
    pa.field("receiver_tenure_days", pa.float64()),
    # how often the party changed its phone number, e-mail or address so far
    pa.field("sender_contact_changes", pa.float64()),
    pa.field("receiver_contact_changes", pa.float64()),
    # what kind of customer its bank says the party is, in the source's words; watched, and no feature
    pa.field("sender_class", pa.string()),
    pa.field("receiver_class", pa.string()),
]
TRANSACTIONS: Final = pa.schema(_TRANSACTIONS)

_LABELS: list[pa.Field[Any]] = [
    pa.field("tx_id", pa.string(), nullable=False),
    pa.field("is_laundering", pa.bool_(), nullable=False),
    pa.field("typology", pa.string(), nullable=False),  # NORMAL where there is none
    pa.field("scheme_id", pa.string()),
    pa.field("known_at", TIMESTAMP, nullable=False),
]
LABELS: Final = pa.schema(_LABELS)

NORMAL: Final = "normal"  # typology of a transaction that is not laundering
UNLISTED: Final = "unlisted"  # typology of laundering that belongs to no named shape

MAX_AMOUNT: Final = 1e13  # the largest real payments are below 1e12; AMLworld rupee and yen rows reach 1e12
MAX_TALLY: Final = 1e6  # 2,700 years as a customer; far inside float32, which features are kept in
RANGES: Final[dict[str, tuple[float, float]]] = {  # of the numbers, both ends included; all are finite
    "amount_paid": (0.0, MAX_AMOUNT),
    "amount_received": (0.0, MAX_AMOUNT),
    "sender_balance": (-MAX_AMOUNT, MAX_AMOUNT),
    "receiver_balance": (-MAX_AMOUNT, MAX_AMOUNT),
    "sender_tenure_days": (0.0, MAX_TALLY),
    "receiver_tenure_days": (0.0, MAX_TALLY),
    "sender_contact_changes": (0.0, MAX_TALLY),
    "receiver_contact_changes": (0.0, MAX_TALLY),
}
CUSTOMER_CLASSES: Final = ("sender_class", "receiver_class")
ACCOUNT_FIELDS: Final = (*(name for name in RANGES if TRANSACTIONS.field(name).nullable), *CUSTOMER_CLASSES)
MAX_ID_LENGTH: Final = 128
MIN_YEAR: Final = 1990
MAX_YEAR: Final = 2100
EARLIEST: Final = datetime(MIN_YEAR, 1, 1, tzinfo=UTC)  # inclusive
LATEST: Final = datetime(MAX_YEAR, 1, 1, tzinfo=UTC)  # exclusive
MAX_FORMAT_LENGTH: Final = 64
MAX_CLASS_LENGTH: Final = 64

_QUARANTINE: list[pa.Field[Any]] = [
    pa.field("source_row", pa.int64(), nullable=False),  # counted from 1, a header not counted
    pa.field("reason", pa.string(), nullable=False),  # "<field> <problem>: <value>"
    pa.field("raw", pa.string(), nullable=False),  # the row as the source has it, as a JSON object
]
QUARANTINE: Final = pa.schema(_QUARANTINE)
