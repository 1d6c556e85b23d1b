"""The same payments, later."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import derived, stories, times


class Delay(Perturbation):
    """Each payment up to `max_hours` later; in a scheme, what comes later waits longer, so order is kept."""

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"amount", "total", "count", "accounts", "shape", "time_order"}
    )

    name: Literal["delay"] = "delay"
    max_hours: Hours = 48.0

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        time, story = times(transactions), stories(labels)
        drawn = rng.integers(0, int(self.max_hours * MICROSECONDS_AN_HOUR), len(time), endpoint=True)
        delay = np.empty_like(drawn)
        delay[np.lexsort((time, story))] = drawn[np.lexsort((drawn, story))]
        return derived(self.name, transactions, labels, np.arange(len(time)), timestamp=time + delay)
