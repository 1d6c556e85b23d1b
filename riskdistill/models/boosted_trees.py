"""Gradient-boosted trees (LightGBM) on the context vector: the baseline that every network here has to face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.errors import TrainingError, UnreadableFileError

_DATASET: Final = "riskdistill_dataset:"
Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]  # context [n, features], label [n]


@dataclass(frozen=True)
class BoostedTrees:
    """A fitted LightGBM classifier and the candidate that validation chose."""

    booster: lgb.Booster
    chosen: TreeCandidate
    validation_pr_auc: float

    def score_logits(self, context: NDArray[np.float32], threads: int = 1) -> NDArray[np.float64]:
        """Raw log-odds [n] of laundering."""
        return np.asarray(self.booster.predict(context, raw_score=True, num_threads=threads), np.float64)

    @property
    def parameters(self) -> int:
        """Split thresholds and leaf values: the numbers that training set."""
        trees = self.booster.dump_model()["tree_info"]
        return int(sum(2 * tree["num_leaves"] - 1 for tree in trees))

    def thresholds(self) -> dict[int, NDArray[np.float64]]:
        """Where the trees split each column, ascending; a threshold stands as often as it is used."""
        splits = self.booster.trees_to_dataframe().dropna(subset="split_feature")
        column = splits["split_feature"].str.removeprefix("Column_").astype(int)
        return {
            int(which): np.sort(found.to_numpy(np.float64)) for which, found in splits["threshold"].groupby(column)
        }

    def save(self, path: Path, *, dataset: str) -> None:
        """Write the trees as LightGBM's text, atomically; the last line is the dataset's fingerprint."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(f"{self.booster.model_to_string()}\n{_DATASET}{dataset}\n", encoding="utf-8")
        temporary.replace(path)


def load_booster(path: Path, *, dataset: str) -> lgb.Booster:
    """Read trees that `BoostedTrees.save` wrote.

    Args:
        dataset: fingerprint of the dataset that they must have been trained on.

    Raises:
        UnreadableFileError: the file is absent or not LightGBM's.
        TrainingError: they were trained on another dataset.
    """
    try:
        booster = lgb.Booster(model_file=str(path))
    except lgb.basic.LightGBMError as error:
        raise UnreadableFileError(str(error), where=str(path), mend="run the training again") from error
    last = path.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    found = last.removeprefix(_DATASET) if last.startswith(_DATASET) else "that is not named"
    if found != dataset:
        raise TrainingError(
            f"trees of a dataset {found}, not {dataset}", where=str(path), mend="run the training again"
        )
    return booster


def fit_trees(
    train: Rows,
    validation: Rows,
    config: BoostedTreesConfig,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> BoostedTrees:
    """Fit every candidate on all training rows and keep the one with the best validation PR-AUC.

    Training uses the natural prevalence: trees need no resampling, and slow learning with few columns matters
    more. `progress` hears rounds done and rounds in all.
    """
    total = sum(candidate.rounds for candidate in config.candidates)
    data = lgb.Dataset(train[0], train[1].astype(np.float32), free_raw_data=False)
    judged = lgb.Dataset(validation[0], validation[1].astype(np.float32), reference=data)
    best: BoostedTrees | None = None
    done = 0
    for candidate in config.candidates:
        booster = lgb.train(
            _parameters(candidate, seed),
            data,
            candidate.rounds,
            valid_sets=[judged],
            callbacks=[
                lgb.early_stopping(config.early_stopping_rounds, verbose=False),
                _telling(progress and partial(further, progress, done, total)),
            ],
        )
        done += candidate.rounds
        value = float(average_precision_score(validation[1], booster.predict(validation[0], raw_score=True)))
        if best is None or value > best.validation_pr_auc:
            best = BoostedTrees(booster, candidate, value)
    assert best is not None  # the configuration has at least one candidate
    return best


def fit_rounds(
    train: Rows,
    candidate: TreeCandidate,
    rounds: int,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> lgb.Booster:
    """Fit one setting for a number of rounds that is known; `progress` hears rounds done."""
    data = lgb.Dataset(train[0], train[1].astype(np.float32))
    return lgb.train(_parameters(candidate, seed), data, rounds, callbacks=[_telling(progress)])


def _parameters(candidate: TreeCandidate, seed: int) -> dict[str, object]:
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": candidate.num_leaves,
        "learning_rate": candidate.learning_rate,
        "feature_fraction": candidate.feature_fraction,
        "min_data_in_leaf": candidate.min_data_in_leaf,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
        "verbose": -1,
    }


def _telling(progress: Callable[[int], object] | None) -> Callable[[lgb.callback.CallbackEnv], None]:
    """LightGBM's callback that tells how many rounds are done."""

    def tell(env: lgb.callback.CallbackEnv) -> None:
        if progress is not None:
            progress(env.iteration + 1)

    return tell


def further(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    """Tell `progress` of `done` rounds of one fit, with `before` in the fits before it."""
    progress(before + done, total)
