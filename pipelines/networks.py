"""Trains the networks of a run; each has a checkpoint whose name says which data and settings it belongs to."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.progress import Steps
from riskdistill import __version__
from riskdistill.config import DistillationConfig, ModelConfig, PhasesConfig, StudentConfig, TrainingConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.features import Encoded
from riskdistill.models.alignment import Feedback, Traffic
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, untrained
from riskdistill.models.phases import Recipe, train_in_phases
from riskdistill.models.teacher import Teacher, weights_fingerprint
from riskdistill.models.training import EpochLog, Objective, Trainer, Training, TrainingRows

STOPPING_ROWS = 40_000  # rows that early stopping looks at: all laundering, and normal rows up to this


@dataclass(frozen=True)
class Workshop:
    """Where networks are trained on a dataset, below the folder `out`.

    Attributes:
        beginnings: networks that `train` trains on from the weights that they have, by name; others begin anew.
    """

    dataset: Dataset
    out: Path
    steps: Steps
    beginnings: Mapping[str, EventTransformer] = field(default_factory=dict)

    def train(
        self,
        name: str,
        size: ModelConfig,
        training: TrainingConfig,
        objective: Objective,
        bins: Bins,
        key: str = "",
        rows: TrainingRows | None = None,
    ) -> Training:
        """Train one network, or take it from its checkpoint.

        Args:
            key: what its objective depends on besides.
            rows: the dataset's training rows with more said of them; None: as the dataset has them.
        """
        beginning = self.beginnings.get(name)
        model = self.untrained(size, bins, training.seed) if beginning is None else copy.deepcopy(beginning)
        return self.train_on(name, model, size, training, objective, key, rows)

    def train_on(
        self,
        name: str,
        model: EventTransformer,
        size: ModelConfig,
        training: TrainingConfig,
        objective: Objective,
        key: str = "",
        rows: TrainingRows | None = None,
    ) -> Training:
        """Train a network on from the weights that it has, or take it from its checkpoint.

        Args:
            size: as which the network began.
            key, rows: as for `train`.
        """
        step = self.steps.step(name.replace("_", " "))

        def show(stage: str, done: int, total: int, best: float) -> None:
            step.at(done, total, _best(best))

        trained = Trainer(
            name,
            model,
            rows or self.dataset.train,
            stopping_rows(self.dataset.validation.halves()[0], training.seed),
            training,
            checkpoint=self.out / "checkpoints" / f"{name}-{self._digest(model, size, training, key)}.pt",
            progress=show,
        ).run(objective)
        step.done(_result(trained))
        self.save(name, trained.model, _log(trained.epochs))
        return trained

    def train_in_phases(
        self,
        name: str,
        size: ModelConfig,
        training: TrainingConfig,
        phases: PhasesConfig,
        bins: Bins,
        budget: float,
    ) -> Training:
        """Train a teacher phase by phase, finished phases being taken from their checkpoints.

        Args:
            training: of the domain phase.
            budget: share of traffic that can be reviewed.

        Returns:
            The phase whose weights were kept.
        """
        dataset, model = self.dataset, self.untrained(size, bins, training.seed)
        key = f"{phases.model_dump_json()}{budget!r}"
        folder = self.out / "checkpoints" / f"{name}-{self._digest(model, size, training, key)}"
        folder.mkdir(parents=True, exist_ok=True)
        bar = cache(self.steps.step)  # a phase's bar appears when it begins

        def show(stage: str, done: int, total: int, best: float) -> None:
            bar(stage).at(done, total, _best(best))

        recipe = Recipe(
            dataset.train,
            stopping_rows(dataset.validation.halves()[0], training.seed),
            Traffic(dataset.prevalence, dataset.mixed_prevalence, budget),
            unlabelled=dataset.train.encoded.take(dataset.mixed_from >= 0),  # synthetic rows are of no real account
            feedback=Feedback.of(dataset.train),
            folder=folder,
            progress=show,
        )
        trained = train_in_phases(name.replace("_", " "), model, recipe, phases, training)
        for phase, done in trained.phases.items():
            bar(f"{name.replace('_', ' ')} ({phase} phase)").done(_result(done))
        self.save(name, trained.model, {phase: _log(done.epochs) for phase, done in trained.phases.items()})
        return trained.phases[trained.kept]

    def answers(self, teacher: Teacher, size: StudentConfig, distillation: DistillationConfig) -> TeacherCache:
        """What a teacher says of the rows of the mix, as far as such a student needs it; asked once and kept."""
        step = self.steps.step("teacher's answers")
        found = ask(
            teacher,
            self.dataset.train.encoded,
            wanted_by(distillation, size.events_per_party),
            folder=self.out / "checkpoints" / "answers",
            spec=self.dataset.spec.fingerprint,
            progress=step.at,
        )
        step.done()
        return found

    def untrained(self, size: ModelConfig, bins: Bins, seed: int) -> EventTransformer:
        """A new network for this dataset."""
        return untrained(
            size,
            bins,
            self.dataset.spec,
            self.dataset.train.encoded.events,
            typologies=self.dataset.typologies,
            dataset_fingerprint=self.dataset.fingerprint,
            seed=seed,
        )

    def _digest(self, model: EventTransformer, size: ModelConfig, training: TrainingConfig, key: str) -> str:
        """12 hex digits over all that decides the result; the network stands for its edges and beginning."""
        told = f"{self.dataset.fingerprint}{weights_fingerprint(model)}{size.model_dump_json()}"
        told += f"{training.model_dump_json()}{key}{__version__}"
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def save(self, name: str, model: EventTransformer, log: object) -> None:
        """Write the weights and what was logged below `models`."""
        folder = self.out / "models" / name
        model.save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps(log, indent=1))


def _log(epochs: Sequence[EpochLog]) -> list[dict[str, object]]:
    return [vars(epoch) for epoch in epochs]


def _score(score: float) -> str:
    """A judge's score in words; that of the general phase is minus its loss."""
    return f"validation PR-AUC {score:.3f}" if score >= 0 else f"validation loss {-score:.3f}"


def _best(score: float) -> str:
    return f"best {_score(score)}" if math.isfinite(score) else "first epoch"


def _result(trained: Training) -> str:
    return f"{_score(trained.best_score)} in epoch {trained.best_epoch + 1}"


def stopping_rows(period: Period, seed: int) -> tuple[Encoded, NDArray[np.bool_]]:
    """Rows for early stopping: every laundering row, and normal rows up to `STOPPING_ROWS`."""
    normal = np.flatnonzero(~period.label)
    count = min(len(normal), STOPPING_ROWS)
    kept = period.label.copy()
    kept[np.random.default_rng(seed).choice(normal, count, replace=False)] = True
    return period.encoded.take(kept), period.label[kept]
