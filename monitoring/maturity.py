"""When labels have had their time: the delays from decisions to labels, alerts that still wait included."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY: Final = 86_400_000_000  # microseconds
FEWEST: Final = 10  # labels, below which no delay is told


def maturity(time: NDArray[np.int64], known: NDArray[np.int64], now: int, share: float) -> int | None:
    """How old alerts must be so that `share` of the labels that ever come are there; None with too few labels.

    Kaplan and Meier's curve: an alert without a label has waited at least until now. Some alerts never get one, so
    the curve is taken relative to where it ends. (Kaplan and Meier, JASA 53, 1958.)

    Args:
        time: of the alerts, microseconds since 1970.
        known: when their labels became known; 0 where that has not happened by `now`.
        now: what came later is not known.
        share: in (0, 1].

    Returns:
        Microseconds.

    Example:
        >>> time, delay = np.zeros(100, np.int64), np.arange(1, 101)
        >>> maturity(time, delay, now=1_000, share=0.9)
        90
    """
    there = (known > 0) & (known <= now)
    if there.sum() < FEWEST:
        return None
    waited = np.maximum(np.where(there, known, now) - time, 0)
    order = np.lexsort((~there, waited))  # labels before those that left at the same age
    waited, there = waited[order], there[order]
    at_risk = np.arange(len(waited), 0, -1)
    arrived = 1 - np.cumprod(np.where(there, 1 - 1 / at_risk, 1.0))
    return int(waited[np.searchsorted(arrived, share * arrived[-1] - 1e-12)])
