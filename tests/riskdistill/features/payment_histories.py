"""Made-up histories of few accounts, so that pairs, cycles and shared counterparties are common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import Transaction

Payment = dict[str, Any]

START = datetime(2024, 2, 27, 22, tzinfo=UTC)  # near a leap day
ACCOUNTS = [("b1", "a"), ("b1", "b"), ("b2", "a"), ("b2", "c"), ("b3", "d")]
AMOUNTS = (0.0, 0.37, 100.1, 100.2, 100.9, 950.0, 1_000.0, 2_999.99, 7_300.0, 9_500.5, 20_000.0, 1e12)
STEPS = (0.0, 0.0, 1.5, 600.0, 3_600.0, 40_000.0, 86_400.0, 3 * 86_400.0, 15 * 86_400.0, 30 * 86_400.0)
COUNTRIES = (None, "DE", "FR")


def payment(
    number: int, sender: int, receiver: int, seconds: float, amount: float = 100.0, **changes: Any
) -> Payment:
    """A canonical row between two of `ACCOUNTS`, `seconds` after START."""
    fields = {
        "tx_id": f"t{number}",
        "timestamp": START + timedelta(seconds=seconds),
        "sender_bank": ACCOUNTS[sender][0],
        "sender_account": ACCOUNTS[sender][1],
        "receiver_bank": ACCOUNTS[receiver][0],
        "receiver_account": ACCOUNTS[receiver][1],
        "amount_paid": amount,
        "currency_paid": "USD",
        "amount_received": amount,
        "currency_received": "USD",
        "payment_format": "Wire",
        "sender_country": None,
        "receiver_country": None,
    }
    return fields | changes


def history(
    rng: np.random.Generator, count: int, steps: tuple[float, ...] = STEPS, late: float = 0.0
) -> list[Payment]:
    """`count` payments in order of arrival; the share `late` of them is stamped up to two days back."""
    rows, now = [], 0.0
    for number in range(count):
        now += float(rng.choice(steps))
        stamp = now - float(rng.integers(0, 2 * 86_400)) * (rng.random() < late)
        changes: Payment = {}
        if rng.random() < 0.3:
            changes = {"currency_received": "EUR", "amount_received": 50.0, "payment_format": "ACH"}
        countries = rng.choice(len(COUNTRIES), 2)
        changes |= {"sender_country": COUNTRIES[countries[0]], "receiver_country": COUNTRIES[countries[1]]}
        sender, receiver = (int(number) for number in rng.integers(0, len(ACCOUNTS), 2))
        rows.append(payment(number, sender, receiver, stamp, float(rng.choice(AMOUNTS)), **changes))
    return rows


def histories(most: int = 24, late: float = 0.0) -> st.SearchStrategy[list[Payment]]:
    build: Callable[[int, int], list[Payment]] = lambda seed, count: history(  # noqa: E731
        np.random.default_rng(seed), count, late=late
    )
    return st.builds(build, st.integers(0, 2**32 - 1), st.integers(1, most))


def table(rows: list[Payment]) -> pa.Table:
    return pa.Table.from_pylist(rows, TRANSACTIONS)


def transaction(row: Payment) -> Transaction:
    return Transaction.model_validate(row)
