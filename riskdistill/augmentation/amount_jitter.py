"""The same payments, a few per cent larger or smaller."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import Floats, derived, numbers
from riskdistill.data.schema import MAX_AMOUNT


class AmountJitter(Perturbation):
    """Both amounts of a payment times the same factor, from 1 - bound to 1 + bound, rounded as they were."""

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"count", "accounts", "time_order"})

    name: Literal["amount_jitter"] = "amount_jitter"
    bound: float = Field(default=0.05, gt=0, le=0.5)

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator
    ) -> tuple[pa.Table, pa.Table]:
        paid, received = numbers(transactions, "amount_paid"), numbers(transactions, "amount_received")
        factor = 1 + self.bound * rng.uniform(-1, 1, len(paid))
        factor = np.minimum(factor, MAX_AMOUNT / np.maximum(np.maximum(paid, received), 1.0))
        return derived(
            self.name,
            transactions,
            labels,
            np.arange(len(paid)),
            amount_paid=scaled(paid, factor),
            amount_received=scaled(received, factor),
        )


def scaled(amount: Floats, factor: Floats) -> Floats:
    """`amount` times `factor`: whole cents stay whole cents and at least one; coins keep their fractions."""
    product = amount * factor
    cents = np.round(amount, 2) == amount
    return np.where(cents & (amount > 0), np.round(product, 2).clip(0.01), product)
