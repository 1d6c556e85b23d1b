"""Made-up histories of few accounts, so that pairs, cycles and shared counterparties are common."""

from __future__ import annotations

import collections
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from riskdistill.data.rates import Rates
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import Transaction
from riskdistill.features.rows import account_key

Payment = dict[str, Any]
DAY = 86_400.0

START = datetime(2024, 2, 27, 22, tzinfo=UTC)  # near a leap day
# the first six share banks and account numbers; the others are there for histories of many accounts
ACCOUNTS = [
    *(("b1", "a"), ("b1", "b"), ("b2", "a"), ("b2", "c"), ("b3", "d"), ("b4", "a")),
    *((f"b{number % 7}", f"n{number}") for number in range(6, 80)),
]
FEW = 5
AMOUNTS = (0.0, 0.37, 100.1, 100.2, 100.9, 105.0, 950.0, 1_000.0, 2_999.99, 7_300.0, 9_500.5, 20_000.0, 1e12)
STEPS = (0.0, 0.0, 1.5, 600.0, 3_600.0, 40_000.0, DAY, 3 * DAY, 15 * DAY, 30 * DAY)
CURRENCIES = ("USD", "USD", "USD", "EUR", "JPY", "XBT")
FORMATS = ("Wire", "Wire", "ACH", "Cheque")
COUNTRIES = (None, "DE", "FR")
BALANCES = (None, None, -40.0, 0.0, 3_000.25)
# a rate that changes at midnight, two hours after START, and one that does so 30 days later
RATES = Rates({"EUR": {19_780: 1.25, 19_810: 0.8}, "JPY": {19_781: 0.01}})


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
    }
    return {**dict.fromkeys(TRANSACTIONS.names), **fields, **changes}


def history(
    rng: np.random.Generator,
    count: int,
    steps: tuple[float, ...] = STEPS,
    *,
    accounts: int = FEW,
    late: float = 0.0,
    again: float = 0.0,
) -> list[Payment]:
    """`count` payments between the first `accounts` of `ACCOUNTS`, in order of arrival.

    The share `late` of them is stamped up to two days back; the share `again` repeats the id of an earlier one.
    """
    rows: list[Payment] = []
    now = 0.0
    for number in range(count):
        now += float(rng.choice(steps))
        stamp = now - float(rng.integers(0, 2 * 86_400)) * (rng.random() < late)
        sender, receiver = (int(number) for number in rng.integers(0, accounts, 2))
        row = payment(number, sender, receiver, stamp, float(rng.choice(AMOUNTS)), **_details(rng))
        if rows and rng.random() < again:
            row["tx_id"] = rows[rng.integers(len(rows))]["tx_id"]
        rows.append(row)
    return rows


def _details(rng: np.random.Generator) -> Payment:
    def one_of(values: tuple[Any, ...]) -> Any:
        return values[rng.integers(len(values))]

    details: Payment = {"payment_format": one_of(FORMATS), "currency_paid": one_of(CURRENCIES)}
    details["currency_received"] = details["currency_paid"]
    if rng.random() < 0.3:
        details |= {"currency_received": one_of(CURRENCIES), "amount_received": 50.0}
    for side in ("sender", "receiver"):
        details |= {f"{side}_country": one_of(COUNTRIES), f"{side}_balance": one_of(BALANCES)}
        details |= {f"{side}_tenure_days": one_of((None, 700.5)), f"{side}_contact_changes": one_of((None, 2.0))}
    return details


def histories(most: int = 24, **options: Any) -> st.SearchStrategy[list[Payment]]:
    """Histories of 1 to `most` payments; `options` are those of `history`."""

    def build(seed: int, count: int) -> list[Payment]:
        return history(np.random.default_rng(seed), count, **options)

    return st.builds(build, st.integers(0, 2**32 - 1), st.integers(1, most))


def with_colliding_keys(rows: list[Payment]) -> list[Payment]:
    """The same history between accounts whose keys are equal in the bits by which the engine skips searches."""
    free = (number for number in itertools.count() if account_key("b1", f"c{number}") % 256 == 0)
    names: dict[tuple[str, str], str] = collections.defaultdict(lambda: f"c{next(free)}")
    sides = ("sender", "receiver")
    accounts = [{side: names[row[f"{side}_bank"], row[f"{side}_account"]] for side in sides} for row in rows]
    return [
        row | {f"{side}_bank": "b1" for side in sides} | {f"{side}_account": name for side, name in new.items()}
        for row, new in zip(rows, accounts, strict=True)
    ]


def table(rows: list[Payment]) -> pa.Table:
    return pa.Table.from_pylist(rows, TRANSACTIONS)


def transaction(row: Payment) -> Transaction:
    return Transaction.model_validate(row)
