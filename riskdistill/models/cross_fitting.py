"""Boosted trees fitted several times, each time without one block of the training period.

Trees answer over-confidently on the rows that they were fitted on: on AMLGentex their PR-AUC is 0.98 there and 0.5
on rows that they have not seen. A student that learns such answers learns labels. Here every training row is
answered by trees that were fitted without its block of time (cross-fitting: Chernozhukov et al., "Double/debiased
machine learning", 2018), and a new row by the mean of them all, which is also a better model than one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from riskdistill import __version__
from riskdistill.errors import TrainingError, UnreadableFileError
from riskdistill.models.boosted_trees import BoostedTrees, Rows, fit_rounds, further, load_booster

BLOCKS: Final = 5


@dataclass(frozen=True)
class CrossFittedTrees:
    """The trees of all blocks.

    Attributes:
        members: each fitted without one block.
        block: int64 [training rows], which of them has not seen a row.
    """

    members: tuple[BoostedTrees, ...]
    block: NDArray[np.int64]

    def score_logits(self, context: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds [n] of rows that none of them has seen: the mean."""
        return np.asarray(np.mean([trees.score_logits(context) for trees in self.members], axis=0))

    def out_of_fold(self, context: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-odds [n] of training rows, each from the trees that have not seen it.

        Args:
            place: int64 [n], the place of each row in the training period; -1 for a row made from others of them,
                which the mean answers.
        """
        answers = np.array([trees.score_logits(context) for trees in self.members])
        unseen = answers[self.block[place], np.arange(len(place))]
        return np.asarray(np.where(place >= 0, unseen, answers.mean(axis=0)))

    @property
    def parameters(self) -> int:
        """Split thresholds and leaf values of all members."""
        return sum(trees.parameters for trees in self.members)

    def thresholds(self) -> dict[int, NDArray[np.float64]]:
        """Where all members split each column, ascending."""
        found = [trees.thresholds() for trees in self.members]
        columns = sorted(set().union(*found))
        return {
            column: np.sort(np.concatenate([each[column] for each in found if column in each]))
            for column in columns
        }


def cross_fit(
    train: Rows,
    trees: BoostedTrees,
    *,
    seed: int,
    dataset: str,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossFittedTrees:
    """Fit the setting and the rounds of `trees` once for each of `BLOCKS` blocks of time.

    Args:
        train: rows in order of time.
        dataset: fingerprint of the dataset.
        folder: where each member is kept when it is fitted, so that a stopped run goes on with the next.
        progress: hears rounds done and rounds in all.

    Raises:
        TrainingError: outside of a block there is no laundering.
    """
    context, label = train
    block = np.arange(len(label)) * BLOCKS // max(1, len(label))
    rounds = trees.booster.num_trees()
    members = []
    for number in range(BLOCKS):
        kept = block != number
        if not label[kept].any():
            raise TrainingError(
                f"all laundering of the training period is in block {number + 1} of {BLOCKS}",
                mend="give a longer history",
            )
        name = (
            f"{dataset} {__version__} {trees.chosen.model_dump_json()} {rounds} {seed} block {number} of {BLOCKS}"
        )
        path = folder / f"boosted_trees_{number}.txt" if folder is not None else None
        booster = _kept(path, name)
        if booster is None:
            booster = fit_rounds(
                (context[kept], label[kept]),
                trees.chosen,
                rounds,
                seed=seed + number,
                progress=progress and partial(further, progress, number * rounds, BLOCKS * rounds),
            )
        members.append(BoostedTrees(booster, trees.chosen, trees.validation_pr_auc))
        if path is not None:
            members[-1].save(path, dataset=name)
    return CrossFittedTrees(tuple(members), block)


def _kept(path: Path | None, name: str) -> lgb.Booster | None:
    """The member that an earlier run left, if it is of the same rows and settings."""
    if path is None or not path.exists():
        return None
    try:
        return load_booster(path, dataset=name)
    except (TrainingError, UnreadableFileError):
        return None
