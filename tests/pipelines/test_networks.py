"""The workshop: a teacher trained in phases, and rows that a student meets in the order of their difficulty."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from pipelines.networks import Workshop
from pipelines.progress import Steps
from riskdistill.config import PhasesConfig, PretrainingConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.models.bins import Bins
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import Trainer, Training

PHASES = PhasesConfig(steps=6, general=0.4, domain=0.4, alignment=0.2, pretraining=PretrainingConfig(rows=200))
TRAINING = TrainingConfig(batch_size=128, rows_per_epoch=256)


@dataclass
class Shop:
    workshop: Workshop
    bins: Bins

    def phased(self, budget: float = 0.01, phases: PhasesConfig = PHASES) -> Training:
        return self.workshop.train_in_phases("teacher", tiny.CONFIG.student, TRAINING, phases, self.bins, budget)


@pytest.fixture
def shop(tiny_dataset: Dataset, tmp_path: Path) -> Shop:
    (tmp_path / "checkpoints").mkdir()
    bins = Bins.of_quantiles(tiny_dataset.train.encoded.context, 500)
    return Shop(Workshop(tiny_dataset, tmp_path, Steps()), bins)


def test_every_phase_is_logged_under_its_name_and_kept_below_the_checkpoints(shop: Shop) -> None:
    trained = shop.phased()
    out = shop.workshop.out
    log = json.loads((out / "models" / "teacher" / "training.json").read_text())
    assert list(log) == ["general", "domain", "alignment"]
    assert all("feedback" in epoch["terms"] for epoch in log["alignment"])  # the dataset has reviewed rows
    assert trained.best_score == max(epoch["score"] for name in ("domain", "alignment") for epoch in log[name])
    (folder,) = (out / "checkpoints").iterdir()
    assert {path.name for path in folder.iterdir()} == {"general.pt", "domain.pt", "alignment.pt"}


def test_finished_phases_are_taken_up_and_those_of_another_budget_are_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.phased()
    monkeypatch.setattr(Trainer, "_epoch", lambda *_: pytest.fail("trained again"))
    assert shop.phased().best_score == first.best_score
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        shop.phased(budget=0.02)


def test_a_curriculum_learns_from_the_rows_that_say_how_hard_they_are(shop: Shop, tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.train
    hard = replace(rows, difficulty=np.linspace(0, 1, len(rows.label), dtype=np.float32))
    training = TRAINING.model_copy(update={"curriculum": "easy_first", "epochs": 1})
    objective = LabelObjective(rows, label_smoothing=0.05)
    trained = shop.workshop.train("student", tiny.CONFIG.student, training, objective, shop.bins, rows=hard)
    assert len(trained.epochs) == 1
