"""Encoded transactions: what a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoded:
    """A batch of transactions as numbers.

    Attributes:
        context: float32 [n, features], in the order of `FeatureSpec.context`.
        events: float32 [n, 2 * events_per_party, channels]; the sender's recent events, newest first, then the
            receiver's. Channel 0 is 0 where there is no event.
    """

    context: NDArray[np.float32]
    events: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.context)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Encoded:
        """The chosen rows, in the given order."""
        return Encoded(self.context[rows], self.events[rows])

    @staticmethod
    def concat(parts: Sequence[Encoded]) -> Encoded:
        """All rows of `parts`, one after another."""
        return Encoded(
            np.concatenate([part.context for part in parts]), np.concatenate([part.events for part in parts])
        )
