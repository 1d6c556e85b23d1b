"""Array types and the one way to draw from a weighted pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def draw(rng: np.random.Generator, pool: Ints, size: Any, weights: Floats | None = None) -> Ints:
    """Members of `pool` drawn with replacement; `weights` need not sum to one."""
    if weights is None:
        return np.asarray(pool[rng.integers(0, len(pool), size)])
    cumulative = np.cumsum(weights)
    return np.asarray(pool[np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")])


def lognormal(rng: np.random.Generator, median: float, spread: float, size: Any) -> Floats:
    """Log-normal values with the given median; `spread` is the standard deviation of the logarithm."""
    return np.asarray(median * np.exp(spread * rng.standard_normal(size)))
