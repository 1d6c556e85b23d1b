"""Made-up histories for the tests of augmentation: ordinary payments and a few schemes, ids in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from riskdistill.data.schema import LABELS, NORMAL, TRANSACTIONS

START = datetime(2024, 3, 1, tzinfo=UTC)
UNTIL = START + timedelta(days=10)  # histories go on for two days after it
CURRENCIES = ("USD", "EUR", "XBT")
FORMATS = ("wire", "card", "cheque")

amounts = st.one_of(
    st.integers(1, 10**9).map(lambda cents: cents / 100),
    st.floats(1e-6, 3.0),  # coins are paid in fractions
    st.sampled_from([0.01, 0.02, 1e12, 1e13]),
)
seeds = st.integers(0, 2**32 - 1)
CLASSES = ("retail", "business")


@st.composite
def histories(draw: st.DrawFn, laundering: bool = False) -> tuple[pa.Table, pa.Table]:
    """Canonical tables of up to 30 rows in order of time; labels are shuffled.

    Of the accounts either nothing is known or all; then account k is a customer since k days and a quarter before
    START, changed its contact data k times, and is of one of two CLASSES. The clock tells minutes or only days. Few
    accounts pay few others, so that pairs repeat, and some pay themselves.
    """
    known, daily = draw(st.booleans()), draw(st.booleans())
    n = draw(st.integers(1 if laundering else 0, 30))
    rng = np.random.default_rng(draw(seeds))
    paid = draw(st.lists(amounts, min_size=n, max_size=n))
    minutes = np.sort(rng.integers(0, 12 * 24 * 60, n)) if n else np.arange(0)
    scheme = rng.integers(-3, 3, n)
    if laundering:
        scheme[0], minutes[0] = 0, 0
    rows, told = [], []
    for i in range(n):
        when = START + timedelta(minutes=int(minutes[i]))
        if daily:
            when = when.replace(hour=0, minute=0)
        sender = int(rng.integers(0, 9))
        receiver = (sender + int(rng.choice([0, 1, 1, 1, 2, 5]))) % 9
        rows.append(_payment(f"T{i}", when, sender, receiver, paid[i], known, rng))
        bad = bool(scheme[i] >= 0)
        told.append(
            {
                "tx_id": f"T{i}",
                "is_laundering": bad,
                "typology": "cycle" if bad else NORMAL,
                "scheme_id": f"S{scheme[i]}" if bad else None,
                "known_at": when + timedelta(days=float(rng.uniform(0, 3))),
            }
        )
    shuffled = [told[i] for i in rng.permutation(n)]
    return pa.Table.from_pylist(rows, TRANSACTIONS), pa.Table.from_pylist(shuffled, LABELS)


def _payment(
    tx_id: str, when: datetime, sender: int, receiver: int, paid: float, known: bool, rng: np.random.Generator
) -> dict[str, Any]:
    home, away = CURRENCIES[sender % 3], CURRENCIES[receiver % 3]
    row: dict[str, Any] = {
        "tx_id": tx_id,
        "timestamp": when,
        "amount_paid": paid,
        "currency_paid": home,
        "amount_received": paid if home == away else round(min(paid * 1.25, 1e13), 2) or 0.01,
        "currency_received": away,
        "payment_format": str(rng.choice(FORMATS, p=[0.6, 0.3, 0.1])),
    }
    for side, account in (("sender", sender), ("receiver", receiver)):
        row |= {f"{side}_account": f"A{account}", f"{side}_bank": f"B{account % 2}"}
        row[f"{side}_country"] = None if account == 8 else "DE"
        if known:
            row[f"{side}_balance"] = round(float(rng.uniform(-1e3, 1e6)), 2)
            row[f"{side}_tenure_days"] = (when - START).days + account + 0.25
            row[f"{side}_contact_changes"] = float(account)
            row[f"{side}_class"] = CLASSES[account % 2]
    return row
