"""Trains the networks of a run; each has a checkpoint whose name says which data and settings it belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.progress import Steps
from riskdistill import __version__
from riskdistill.config import ModelConfig, TrainingConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.features import Encoded
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, untrained
from riskdistill.models.training import Objective, Trainer, Training

STOPPING_ROWS = 40_000  # rows that early stopping looks at: all laundering, and normal rows up to this


@dataclass(frozen=True)
class Workshop:
    """Where networks are trained on a dataset, below the folder `out`."""

    dataset: Dataset
    out: Path
    steps: Steps

    def train(
        self,
        name: str,
        size: ModelConfig,
        training: TrainingConfig,
        objective: Objective,
        bins: Bins,
        key: str = "",
    ) -> Training:
        """Train one network, or take it from its checkpoint; `key` is what its objective depends on besides."""
        model = self.untrained(size, bins, training.seed)
        step = self.steps.step(name.replace("_", " "))

        def show(stage: str, done: int, total: int, best: float) -> None:
            step.at(done, total, f"best validation PR-AUC {best:.3f}" if best >= 0 else "first epoch")

        trained = Trainer(
            name,
            model,
            self.dataset.train,
            stopping_rows(self.dataset.validation.halves()[0], training.seed),
            training,
            checkpoint=self._checkpoint(name, size, training, key),
            progress=show,
        ).run(objective)
        step.done(f"validation PR-AUC {trained.best_score:.3f} in epoch {trained.best_epoch + 1}")
        folder = self.out / "models" / name
        trained.model.save_pretrained(folder)
        log = [vars(epoch) for epoch in trained.epochs]
        (folder / "training.json").write_text(json.dumps(log, indent=1))
        return trained

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

    def _checkpoint(self, name: str, size: ModelConfig, training: TrainingConfig, key: str) -> Path:
        told = f"{self.dataset.fingerprint}{size.model_dump_json()}{training.model_dump_json()}{key}{__version__}"
        return self.out / "checkpoints" / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.pt"


def stopping_rows(period: Period, seed: int) -> tuple[Encoded, NDArray[np.bool_]]:
    """Rows for early stopping: every laundering row, and normal rows up to `STOPPING_ROWS`."""
    normal = np.flatnonzero(~period.label)
    count = min(len(normal), STOPPING_ROWS)
    kept = period.label.copy()
    kept[np.random.default_rng(seed).choice(normal, count, replace=False)] = True
    return period.encoded.take(kept), period.label[kept]
