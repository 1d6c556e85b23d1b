"""Which training rows count when, and how much: easy rows first, and every laundering scheme alike.

The order is a curriculum (Bengio et al., "Curriculum learning", 2009).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FIRST_COMPETENCE = 0.2  # share of the rows that the first epoch draws from


def competence(epoch: int, epochs: int) -> float:
    """Share of the rows, the easiest first, that an epoch (from 0) draws from; 1 from the middle epoch on.

    It grows with the square root of time (Platanios et al., "Competence-based curriculum learning", 2019).

    >>> [round(competence(epoch, 6), 2) for epoch in range(6)]
    [0.2, 0.6, 0.82, 1.0, 1.0, 1.0]
    """
    grown = 2 * epoch / epochs
    return min(1.0, math.sqrt(grown * (1 - FIRST_COMPETENCE**2) + FIRST_COMPETENCE**2))


def easiest(
    draw: NDArray[np.int64], label: NDArray[np.float32], difficulty: NDArray[np.float32], share: float
) -> NDArray[np.int64]:
    """As many rows as `draw` [m] holds, from the easiest `share` of it; labels keep their proportion.

    Args:
        label, difficulty: [n], by row.
    """
    pools = []
    for laundering in (False, True):
        pool = draw[(label[draw] > 0.5) == laundering]
        ordered = pool[np.argsort(difficulty[pool], kind="stable")]
        pools.append(np.resize(ordered[: math.ceil(share * len(pool))], len(pool)))
    return np.concatenate(pools)


def scheme_weights(scheme: NDArray[np.int64], draw: NDArray[np.int64], power: float) -> NDArray[np.float32] | None:
    """float32 [n]: 1 / (rows of the row's scheme) ** power; None where all rows weigh alike.

    Rows of schemes weigh 1 on the average over a draw, so that laundering as a whole weighs what it did.

    Args:
        scheme: [n], -1 where a row belongs to none.
        draw: [m], the rows of an epoch.
    """
    known = scheme >= 0
    if power == 0 or not known[draw].any():
        return None
    weight = np.ones(len(scheme))
    weight[known] = np.bincount(scheme[known])[scheme[known]] ** -power
    weight[known] /= weight[draw[known[draw]]].mean()
    return weight.astype(np.float32)
