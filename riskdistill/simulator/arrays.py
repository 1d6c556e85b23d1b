"""Array types, log-normal values, and pools of accounts to draw from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
Accounts = npt.NDArray[np.int32]  # positions in a population


def draw(rng: np.random.Generator, pool: Ints, size: Any, weights: Floats | None = None) -> Any:
    """Members of `pool` drawn with replacement; `weights` need not sum to one."""
    if weights is None:
        return pool[rng.integers(0, len(pool), size)]
    cumulative = np.cumsum(weights)
    return pool[np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")]


def lognormal(rng: np.random.Generator, median: float | Floats, spread: float, size: Any) -> Floats:
    """Log-normal values with the given median; `spread` is the standard deviation of the logarithm."""
    return np.asarray(median * np.exp(spread * rng.standard_normal(size)))


class Pool:
    """Accounts to draw from, all alike or by weight, anywhere or in one country.

    Args:
        members: positions of the accounts; at least one.
        country: of every account of the population.
        weights: how sought each member is; all alike without.
    """

    def __init__(self, members: Ints, country: Ints, weights: Floats | None = None) -> None:
        order = np.argsort(country[members], kind="stable")
        self.members: Accounts = members[order].astype(np.int32)
        self._even = weights is None
        reached = np.arange(1.0, len(members) + 1) if weights is None else np.cumsum(weights[order])
        self._reached = reached
        edges = np.searchsorted(country[self.members], np.arange(int(country.max()) + 2))
        self._edge = np.append(0.0, reached)[edges]

    def __len__(self) -> int:
        return len(self.members)

    def draw(self, rng: np.random.Generator, size: Any) -> Accounts:
        """Members drawn with replacement."""
        return self._at(rng.random(size) * self._reached[-1])

    def near(self, rng: np.random.Generator, country: Ints, home: float) -> Accounts:
        """One member for each of `country`: of that country with probability `home` where it has one."""
        low, high = self._edge[country], self._edge[country + 1]
        away = (rng.random(country.shape) >= home) | (low == high)
        low, high = np.where(away, 0.0, low), np.where(away, self._reached[-1], high)
        return self._at(low + rng.random(country.shape) * (high - low))

    def _at(self, reached: Floats) -> Accounts:
        if self._even:
            return np.asarray(self.members[reached.astype(np.int64)])
        return np.asarray(self.members[np.searchsorted(self._reached, reached, side="right")])
