"""Intervals of many comparisons that hold together: of thirty recipes, one would else look different by chance.

Max-t over the bootstrap's draws (Westfall and Young, "Resampling-based multiple testing", 1993): differences vary
together, as all recipes see the same draws, so these intervals are narrower than Bonferroni's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from riskdistill.evaluation.comparison import Resampled


class Difference(NamedTuple):
    """PR-AUC of a recipe less another's, with the interval that holds for all recipes at once."""

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def differences(found: Resampled, names: Sequence[str], against: str) -> dict[str, Difference]:
    """Every recipe against one, with simultaneous intervals of 95 %; all have the same seeds.

    A recipe whose scores are those of `against` has no width and counts for nothing.
    """
    base, value = _drawn(found, against), float(found.measured[against].mean())
    measured = np.array([found.measured[name].mean() - value for name in names])
    drawn = np.column_stack([_drawn(found, name) - base for name in names])
    error = drawn.std(axis=0)
    varies = error > 0
    widest = np.abs(drawn - measured)[:, varies] / error[varies]
    reach = float(np.quantile(widest.max(axis=1), 0.95)) * error if varies.any() else error
    return {
        name: Difference(float(one), float(one - width), float(one + width))
        for name, one, width in zip(names, measured, reach, strict=True)
    }


def _drawn(found: Resampled, name: str) -> NDArray[np.float64]:
    """PR-AUC by draw, the mean over seeds that are drawn too, the same ones for every recipe."""
    drawn = found.drawn[name]
    seeds = np.random.default_rng(found.seed).integers(drawn.shape[1], size=drawn.shape)
    mean: NDArray[np.float64] = np.take_along_axis(drawn, seeds, axis=1).mean(axis=1)
    return mean
