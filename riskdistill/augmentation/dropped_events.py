"""A scheme of which some payments were never made, or never seen."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import amounts, derived, moved_balances, occurrence, stories, times


class DroppedEvents(Perturbation):
    """A scheme less some of its payments: at least one, and at most a share `most` of them.

    What is left is as it was, but that balances know nothing of the payments that are gone. A scheme of one payment
    is not told anew, and an ordinary payment is a story of one.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"amount", "accounts", "shape", "time_order", "gaps"})

    name: Literal["dropped_events"] = "dropped_events"
    among: Literal["laundering"] = "laundering"
    most: float = Field(default=0.3, gt=0, le=0.9)

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The rows that are left and their labels, as `Perturbation.apply` says."""
        time, story = times(transactions), stories(labels)
        size = np.bincount(story)
        dropped = rng.integers(1, np.maximum(1, np.floor(self.most * size).astype(np.int64)), endpoint=True)
        shuffled = rng.permutation(len(story))
        rank = np.empty(len(story), dtype=np.int64)
        rank[shuffled] = occurrence(story[shuffled])
        rows = np.flatnonzero((size[story] > 1) & (rank >= dropped[story]))
        balances = moved_balances(transactions, story, rows, time[rows], amounts(transactions)[:, rows])
        return derived(self.name, transactions, labels, rows, **balances)
