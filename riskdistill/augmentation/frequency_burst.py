"""The same pattern of payments, several times over and faster."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import derived, spans, stories, times


class FrequencyBurst(Perturbation):
    """A scheme's pattern `copies` times, one after the other, inside the time that it took once.

    Each repetition takes between `tightest` and the whole of its part of that time. Payments that took no
    time, such as a single one, are repeated at most `gap_hours` apart. By default only laundering is told
    this way: an honest payment made again and again would be a new story whose label nobody knows.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"accounts", "shape"})

    name: Literal["frequency_burst"] = "frequency_burst"
    among: Literal["laundering", "ordinary", "all"] = "laundering"
    copies: int = Field(default=2, ge=2, le=10)
    tightest: float = Field(default=0.2, gt=0, le=1)
    gap_hours: Hours = 1.0

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        time, story = times(transactions), stories(labels)
        start, end = spans(story, time)
        part = (end - start) / self.copies
        pace = rng.uniform(self.tightest, 1, len(start)) / self.copies
        gap = np.where(part > 0, part, rng.uniform(0.02, 1, len(start)) * self.gap_hours * MICROSECONDS_AN_HOUR)
        copy = np.repeat(np.arange(self.copies), len(time))
        row = np.tile(np.arange(len(time)), self.copies)
        offset = copy * gap[story[row]] + (time - start[story])[row] * pace[story[row]]
        return derived(
            self.name,
            transactions,
            labels,
            row,
            timestamp=start[story[row]] + np.floor(offset).astype(np.int64),
        )
