"""What the sections of the distillation benchmark share: a data set with its teachers, students and peers.

Everything that takes long is kept below one folder and used again there: networks by their checkpoints, trees and
peers by files named after what decides them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from feature_data import ROOT, SETS, Library
from feature_peer import Peer
from fitted_trees import CANDIDATES, RAW, Fitted, tuned
from numpy.typing import NDArray

from pipelines.distillation_evidence import scheme_names
from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.students import School
from pipelines.study import Study
from pipelines.teachers import Teachers, fit_teachers
from riskdistill.config import ExperimentConfig, load_config
from riskdistill.dataset import Dataset, Period, RowCache, build_dataset
from riskdistill.evaluation.comparison import Comparison, Resampled, resample
from riskdistill.models.training import Training, score_logits

STUDENT_SEEDS: Final = (7, 8, 9, 10, 11)
TREE_SEEDS: Final = (7,)
ENSEMBLE: Final = "ensemble"
QUICK: Final = ("mix.max_rows=12000", "training.epochs=1", "student_training.epochs=2")
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """How much is measured, from where, and where it is kept."""

    data: Path
    library: Library
    peer: Peer
    folder: Path
    quick: bool
    steps: Steps
    most_seeds: int = len(STUDENT_SEEDS)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the students."""
        return STUDENT_SEEDS[: min(2, self.most_seeds) if self.quick else self.most_seeds]

    @property
    def names(self) -> list[str]:
        """The data sets."""
        return ["amlworld"] if self.quick else list(SETS)


class World:
    """One data set and all that is fitted on it."""

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self.data = options.library[name]
        overrides = list(QUICK) if options.quick else []
        self.config: ExperimentConfig = load_config(ROOT / "configs" / f"{name}.yaml", overrides)
        self.folder = options.folder / name
        for part in ("models", "checkpoints", "peers"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    @cached_property
    def dataset(self) -> Dataset:
        """Labels as known when the test begins, as in `riskdistill run`."""
        cache = RowCache(self.folder / "rows")
        return build_dataset(self.data.transactions, self.data.labels, self.config, cache=cache)

    @cached_property
    def workshop(self) -> Workshop:
        """Where networks are trained."""
        return Workshop(self.dataset, self.folder, self.options.steps)

    @cached_property
    def teachers(self) -> Teachers:
        """As in `riskdistill run`."""
        return fit_teachers(self.config, self.workshop)

    @cached_property
    def school(self) -> School:
        """Where students learn from those teachers."""
        return School(self.teachers, self.workshop)

    @cached_property
    def study(self) -> Study:
        """Students with all seeds."""
        return Study(self.config, self.school, self.dataset.test, self.options.seeds)

    @cached_property
    def later(self) -> Period:
        """The later half of validation, on which no teacher or student was chosen: choices are made on it."""
        return self.dataset.validation.halves()[1]

    @cached_property
    def short_study(self) -> Study:
        """As `riskdistill study` judges, with as few seeds as many recipes can afford."""
        return replace(self.study, period=self.later, seeds=self.options.seeds[:2])

    def of_network(self, trained: Training, period: Period | None = None) -> Scores:
        """Logits on a period, by default the test's."""
        return score_logits(trained.model, (period or self.dataset.test).encoded)[0]

    @cached_property
    def members(self) -> dict[str, Scores]:
        """Log-odds of the teachers on the test period: each member, and the ensemble."""
        rows, teachers = self.dataset.test.encoded, self.teachers
        trees, event = (
            teachers.trees.score_logits(rows.context),
            score_logits(teachers.event, rows)[0] + teachers.shift,
        )
        ensemble = teachers.ensemble.gate.combine(np.array([trees, event]), rows)
        return {"trees, cross-fitted": trees, "event transformer": event, ENSEMBLE: ensemble}

    @cached_property
    def ours(self) -> Fitted:
        """LightGBM on our features, tuned: the baseline that everything is compared with."""
        return self._kept("ours", self._context)

    @cached_property
    def theirs(self) -> Fitted:
        """LightGBM on the transaction's columns and snapml's graph features, tuned alike."""
        made = self.options.peer.features(self.data)
        raw = self._context[:, RAW]
        forms = {"dates": made.graph, "ages": made.with_ages(self.data.seconds)}
        found = [self._kept(f"snapml {form}", np.column_stack([raw, graph])) for form, graph in forms.items()]
        return max(found, key=lambda one: float(one.validation.mean()))

    @property
    def _context(self) -> NDArray[np.float32]:
        """All rows' features, in the order of the data set."""
        dataset = self.dataset
        parts = [dataset.train_context, dataset.validation.encoded.context, dataset.test.encoded.context]
        return np.concatenate(parts)

    def _kept(self, name: str, columns: NDArray[np.float32]) -> Fitted:
        """Tuned trees, from the file that an earlier run left."""
        seeds = TREE_SEEDS[:1] if self.options.quick else TREE_SEEDS
        told = f"{name}{self.dataset.fingerprint}{seeds}{CANDIDATES}{columns.shape}"
        path = self.folder / "peers" / f"{hashlib.sha256(told.encode()).hexdigest()[:12]}.npz"
        if path.exists():
            with np.load(path) as kept:
                chosen = CANDIDATES[int(kept["candidate"])]
                return Fitted(chosen, kept["validation"], kept["test"], kept["scores"])
        found = tuned(columns, self.data, seeds)
        at = CANDIDATES.index(found.candidate)
        np.savez(path, candidate=at, validation=found.validation, test=found.test, scores=found.scores)
        return found

    def resampled(
        self, runs: dict[str, list[Scores]], period: Period | None = None, rows: NDArray[np.int64] | None = None
    ) -> Resampled:
        """Every recipe on the same draws of schemes and normal rows of a period, by default the test's.

        Args:
            rows: of the period, which were scored; None: all.
        """
        period, draws = period or self.dataset.test, 200 if self.options.quick else 1_000
        rows = np.arange(len(period)) if rows is None else rows
        return resample(period.label[rows], scheme_names(period)[rows], runs, resamples=draws)


def difference(found: Comparison) -> str:
    """PR-AUC of the first less that of the second, with its interval."""
    low, high = found.difference_interval
    return f"{found.difference:+.4f} ({low:+.4f} to {high:+.4f})"
