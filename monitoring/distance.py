"""Distances between two counts over the same frozen bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Counts = NDArray[np.int64]


def psi(expected: Counts, actual: Counts) -> tuple[float, float]:
    """PSI between two counts over the same bins, and its p-value under no change.

    Each bin gets half a row (Jeffreys), so that an empty bin is a large difference and not an infinite one.
    Bins that are empty on both sides count for nothing.

    Example:
        >>> value, p_value = psi(np.array([500, 500]), np.array([900, 100]))
        >>> round(value, 2), p_value < 1e-6
        (0.88, True)
    """
    used = (expected + actual) > 0
    freedom = int(used.sum()) - 1
    if freedom < 1:
        return 0.0, 1.0
    p, q = ((counts[used] + 0.5) / (counts.sum() + 0.5 * (freedom + 1)) for counts in (actual, expected))
    value = float(((p - q) * np.log(p / q)).sum())
    scale = 1 / expected.sum() + 1 / actual.sum()
    return value, float(stats.chi2.sf(value / scale, freedom))


def gaps(expected: Counts, actual: Counts) -> tuple[float, float]:
    """Largest and mean gap between the two distribution functions at the bins' edges, missing rows left out.

    The first is Kolmogorov and Smirnov's distance as far as the bins show it, the second Wasserstein's in places
    among the reference's values: 0.1 says that values moved by a tenth of the reference's rows on average.

    Args:
        expected, actual: shape (bins + 1,), the missing rows last.
    """
    known = [counts[:-1] for counts in (expected, actual)]
    if not all(counts.sum() for counts in known):
        return 0.0, 0.0
    below = [counts.cumsum() / counts.sum() for counts in known]
    gap = np.abs(below[1] - below[0])
    return float(gap.max()), float(gap @ (known[0] / known[0].sum()))
