"""The same story, earlier or later as a whole."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import derived, stories, times


class TimeShift(Perturbation):
    """All payments of a story up to `max_hours` earlier or later, by one and the same time."""

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"amount", "total", "count", "accounts", "shape", "time_order", "gaps"}
    )

    name: Literal["time_shift"] = "time_shift"
    max_hours: Hours = 24.0

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        story = stories(labels)
        most = int(self.max_hours * MICROSECONDS_AN_HOUR)
        shift = rng.integers(-most, most, int(story.max(initial=-1)) + 1, endpoint=True)
        time = times(transactions) + shift[story]
        return derived(self.name, transactions, labels, np.arange(len(time)), timestamp=time)
