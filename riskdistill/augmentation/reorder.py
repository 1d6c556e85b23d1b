"""The same payments of a scheme, in a slightly other order."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import amounts, derived, moved_balances, stories, times


class Reorder(Perturbation):
    """A scheme's payments change places in time; none moves by more than `tolerance_hours`.

    Every payment is put off by up to the tolerance, and the scheme's own times are given out in the order that
    results: an order statistic of the times put off is at most the tolerance above the same one of the times
    themselves, which bounds how far a payment can move. Balances follow the new order. A scheme whose order
    stays is not told anew, and an ordinary payment has none.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"amount", "total", "count", "accounts", "shape", "times"}
    )

    name: Literal["reorder"] = "reorder"
    among: Literal["laundering"] = "laundering"
    tolerance_hours: Hours = 48.0  # more than a day, for clocks that tell no hours

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        time, story = times(transactions), stories(labels)
        put_off = time + rng.integers(0, int(self.tolerance_hours * MICROSECONDS_AN_HOUR), len(time), endpoint=True)
        new = np.empty_like(time)
        new[np.lexsort((put_off, story))] = time[np.lexsort((time, story))]
        rows = np.flatnonzero(np.isin(story, story[new != time]))
        balances = moved_balances(transactions, story, rows, new[rows], amounts(transactions)[:, rows])
        return derived(self.name, transactions, labels, rows, timestamp=new[rows], **balances)
