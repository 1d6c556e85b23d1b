"""The same payments, a few per cent larger or smaller."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import Floats, Ints, derived, numbers
from riskdistill.data.schema import MAX_AMOUNT

MONEY: Final = ("amount_paid", "amount_received", "sender_balance", "receiver_balance")


class AmountJitter(Perturbation):
    """A payment's amounts and balances times one factor, from 1 - bound to 1 + bound, rounded as they were."""

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"count", "accounts", "shape", "time_order", "gaps", "times"}
    )

    name: Literal["amount_jitter"] = "amount_jitter"
    bound: float = Field(default=0.05, gt=0, le=0.5)

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        row = np.arange(transactions.num_rows)
        factor = 1 + self.bound * rng.uniform(-1, 1, len(row))
        return derived(self.name, transactions, labels, row, **scaled_money(transactions, row, factor))


def scaled_money(transactions: pa.Table, rows: Ints, factor: Floats) -> dict[str, Floats]:
    """Amounts and balances of the rows at `rows`, times `factor` but never beyond the schema's limit."""
    money = {name: numbers(transactions, name)[rows] for name in MONEY}
    largest = np.max([np.abs(np.nan_to_num(column)) for column in money.values()], axis=0, initial=1.0)
    factor = np.minimum(factor, MAX_AMOUNT / largest)
    return {name: _scaled(column, factor) for name, column in money.items()}


def _scaled(amount: Floats, factor: Floats) -> Floats:
    """`amount` times `factor`: whole cents stay whole cents and at least one; coins keep their fractions."""
    product = amount * factor
    cents = np.round(amount, 2) == amount
    return np.where(cents & (amount > 0), np.round(product, 2).clip(0.01), product)
