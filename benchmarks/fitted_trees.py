"""Boosted trees as the benchmarks fit them: the same candidates tuned alike for every choice of columns.

Split 60/20/20 by time, all labels known, natural prevalence, no row left out. Every candidate is fitted with every
seed; the candidate with the best mean PR-AUC on the validation fifth counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from feature_data import Data
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.evaluation.ranking import bootstrap_pr_auc
from riskdistill.features.spec import TRANSACTION_FEATURES
from riskdistill.models.boosted_trees import Rows, fit_trees

CANDIDATES: Final = BoostedTreesConfig().candidates
SEEDS: Final = (7, 8, 9)
RAW: Final = slice(0, len(TRANSACTION_FEATURES))  # what the transaction says by itself
Columns = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """One candidate, fitted with every seed.

    Attributes:
        validation, test: PR-AUC by seed.
        scores: float64 [seeds, test rows].
    """

    candidate: TreeCandidate
    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __str__(self) -> str:
        chosen = f"{self.candidate.num_leaves} leaves, rate {self.candidate.learning_rate}"
        return f"seeds {spread(self.test)}; {chosen}; validation {self.validation.mean():.3f}"


def seeds_of(quick: bool) -> tuple[int, ...]:
    """Which seeds every candidate is fitted with."""
    return SEEDS[:2] if quick else SEEDS


def spread(values: NDArray[np.float64]) -> str:
    """Smallest to largest.

    >>> spread(np.array([0.5, 0.25]))
    '0.250 to 0.500'
    """
    return f"{values.min():.3f} to {values.max():.3f}"


def tuned(
    columns: Columns,
    data: Data,
    seeds: Sequence[int],
    candidates: Sequence[TreeCandidate] = CANDIDATES,
    judged_on: Rows | None = None,
) -> Fitted:
    """The candidate with the best mean validation PR-AUC; see `fit`."""
    fitted = [fit(columns, data, candidate, seeds, judged_on) for candidate in candidates]
    return max(fitted, key=lambda found: float(found.validation.mean()))


def fit(
    columns: Columns, data: Data, candidate: TreeCandidate, seeds: Sequence[int], judged_on: Rows | None = None
) -> Fitted:
    """Fit one candidate on `columns` [n, features] of all rows of a data set.

    Args:
        judged_on: rows to be judged on; the last fifth of the data set where it is not given.
    """
    train, validation, test = (
        (np.ascontiguousarray(columns[part]), data.label[part])
        for part in (slice(data.first), slice(data.first, data.second), slice(data.second, None))
    )
    test = judged_on or test
    config = BoostedTreesConfig(candidates=(candidate,))
    found = [fit_trees(train, validation, config, seed=seed) for seed in seeds]
    scores = np.array([trees.score_logits(test[0]) for trees in found])
    return Fitted(
        candidate,
        validation=np.array([trees.validation_pr_auc for trees in found]),
        test=np.array([average_precision_score(test[1], row) for row in scores]),
        scores=scores,
    )


def bootstrap(label: NDArray[np.bool_], scores: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """PR-AUC by draw of rows, the mean over seeds; the draws are paired.

    Args:
        label: bool [n].
        scores: float64 [seeds, n] of each model.
    """
    by_seed = {f"{what} {seed}": row for what, rows in scores.items() for seed, row in enumerate(rows)}
    draws = bootstrap_pr_auc(label, by_seed)
    return {
        what: np.mean([draws[f"{what} {seed}"] for seed in range(len(rows))], axis=0)
        for what, rows in scores.items()
    }


def middle(draws: NDArray[np.float64]) -> str:
    """The 95 % interval of draws.

    >>> middle(np.linspace(0, 1, 1_001))
    '0.025 to 0.975'
    """
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"{low:.3f} to {high:.3f}"
