"""Is one recipe better than another? PR-AUC over several seeds, with intervals that respect schemes.

The payments of a scheme stand and fall together, so a draw takes whole schemes (cluster bootstrap: Davison and
Hinkley, "Bootstrap methods and their application", 1997, section 3.8) and, apart from them, single normal payments.
Every model sees the same draws, and so do the seeds of every recipe: differences and ratios are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import average_precision_score

from riskdistill.errors import DataError
from riskdistill.evaluation.metrics import Interval
from riskdistill.evaluation.ranking import Floats, Labels, Ranking


class Estimate(BaseModel):
    """PR-AUC of one recipe, averaged over its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    interval: Interval
    seeds: int


class Comparison(BaseModel):
    """PR-AUC of `first` against `second`, each averaged over its seeds; intervals are of 95 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    difference: float
    difference_interval: Interval
    ratio: float
    ratio_interval: Interval
    seeds: int

    @property
    def verdict(self) -> str:
        """What the difference shows, in a sentence; a result that shows nothing says so."""
        low, high = self.difference_interval
        if low <= 0 <= high:
            return f"the interval holds zero: these runs do not show that {self.first} and {self.second} differ"
        return f"{self.first} ranks {'better' if low > 0 else 'worse'} than {self.second}"


@dataclass(frozen=True)
class Resampled:
    """PR-AUC of every recipe and seed on the test period (float64[seeds]) and on its draws ([draws, seeds])."""

    measured: Mapping[str, Floats]
    drawn: Mapping[str, Floats]
    seed: int

    def estimate(self, name: str) -> Estimate:
        """PR-AUC of the recipe `name`; with one seed the interval tells of the test rows only."""
        seeds = len(self.measured[name])
        return Estimate(
            value=float(self.measured[name].mean()),
            interval=_middle(self._over_seeds(name, seeds)),
            seeds=seeds,
        )

    def compare(self, first: str, second: str) -> Comparison:
        """The recipe `first` against `second`; a recipe with one run stands against every seed of the other.

        Raises:
            DataError: both have several seeds, and not as many: they cannot be paired.
        """
        counts = len(self.measured[first]), len(self.measured[second])
        seeds = max(counts)
        if min(counts) not in (1, seeds):
            raise DataError(
                f"{first} has {counts[0]} seeds and {second} {counts[1]}",
                mend="train both with the same seeds, in the same order",
            )
        one, other = self._over_seeds(first, seeds), self._over_seeds(second, seeds)
        value, base = float(self.measured[first].mean()), float(self.measured[second].mean())
        return Comparison(
            first=first,
            second=second,
            difference=value - base,
            difference_interval=_middle(one - other),
            ratio=value / base,
            ratio_interval=_middle(one / other),
            seeds=seeds,
        )

    def _over_seeds(self, name: str, seeds: int) -> Floats:
        """The mean over seeds drawn with replacement, float64[draws]; the same seeds for every recipe."""
        drawn = self.drawn[name]
        picked = np.random.default_rng(self.seed).integers(seeds, size=(len(drawn), seeds))
        mean: Floats = np.take_along_axis(drawn, picked % drawn.shape[1], axis=1).mean(axis=1)
        return mean


def resample(
    labels: Labels,
    schemes: NDArray[np.generic],
    runs: Mapping[str, Sequence[Floats]],
    *,
    resamples: int = 1_000,
    seed: int = 7,
) -> Resampled:
    """Measures every run on the test period and on the same `resamples` draws of schemes and normal payments.

    Args:
        labels: bool[n].
        schemes: the scheme of each row, [n]; read where the label is laundering.
        runs: the scores, float64[n], of every seed of every recipe.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        DataError: no laundering, or a recipe without runs.
    """
    if not labels.any():
        raise DataError("the test period holds no laundering", mend="test on a longer period")
    for name, seeds in runs.items():
        if not seeds:
            raise DataError(f"{name} has no runs", mend="leave it out or train it")
    rankings = {name: [Ranking(labels, scores) for scores in seeds] for name, seeds in runs.items()}
    drawn = {name: np.empty((resamples, len(seeds))) for name, seeds in runs.items()}
    for draw, counts in enumerate(draws(labels, schemes, resamples, seed)):
        for name, seeds_of in rankings.items():
            drawn[name][draw] = [ranking.pr_auc(counts) for ranking in seeds_of]
    measured = {
        name: np.array([average_precision_score(labels, scores) for scores in seeds])
        for name, seeds in runs.items()
    }
    return Resampled(measured, drawn, seed)


def draws(labels: Labels, schemes: NDArray[np.generic], resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each row stands in each of `resamples` draws of schemes and normal payments.

    The same array is given out again with the next draw.

    Args:
        labels, schemes, seed: as for `resample`.
    """
    _, scheme_of = np.unique(schemes[labels], return_inverse=True)
    normal, groups = int((~labels).sum()), int(scheme_of.max()) + 1
    random, counts = np.random.default_rng(seed), np.empty(len(labels), np.int64)
    for _ in range(resamples):
        counts[~labels] = _counts(random, normal)
        counts[labels] = _counts(random, groups)[scheme_of]
        yield counts


def _counts(random: np.random.Generator, size: int) -> NDArray[np.int64]:
    """How often each of `size` things is drawn in as many draws with replacement."""
    return np.bincount(random.integers(size, size=size) if size else np.empty(0, np.int64), minlength=size)


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
