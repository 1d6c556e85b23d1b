"""What students learn from: the mix, and beside it rows without labels, for those that have a teacher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import tiny

from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.students import School
from riskdistill.dataset import Dataset, build_dataset
from riskdistill.models.bins import Bins
from riskdistill.models.training import Trainer

UNLABELLED = 300
CONFIG = tiny.configured(
    mix={**tiny.CONFIG.mix.model_dump(), "max_rows": 500, "unlabelled": UNLABELLED},
    student_training={"epochs": 1, "rows_per_epoch": None, "batch_size": 128},
)


@pytest.fixture(scope="module")
def dataset(tiny_tables: tuple[pa.Table, pa.Table]) -> Dataset:
    return build_dataset(*tiny_tables, CONFIG)


@pytest.fixture
def school(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> School:
    """Its teacher is untrained."""
    for name in ("models", "checkpoints"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(School, "bins", lambda *_: Bins.of_quantiles(dataset.train.encoded.context, 64))
    said = np.linspace(-4, 4, len(dataset.train.label), dtype=np.float32)
    event = tiny.network(dataset, CONFIG.teacher.network)
    teachers = SimpleNamespace(event=event, shift=0.0, taught={"all_trees": said})
    return School(cast(Any, teachers), Workshop(dataset, tmp_path, Steps()))


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of all steps that are taken."""
    seen: list[int] = []
    step = Trainer._step

    def noted(trainer: Trainer, objective: Any, rows: Any, epoch: int, number: int) -> None:
        seen.extend(rows.tolist())
        step(trainer, objective, rows, epoch, number)

    monkeypatch.setattr(Trainer, "_step", noted)
    return seen


def test_a_taught_student_learns_from_unlabelled_rows_too(
    school: School, dataset: Dataset, learned: list[int]
) -> None:
    answers = school.answers(CONFIG.student, CONFIG.distillation)
    trained = school.taught("student", CONFIG.student, CONFIG.student_training, CONFIG.distillation, answers)
    assert len(dataset.train.unlabelled) == UNLABELLED
    assert sorted(learned) == sorted([*dataset.train.draw.tolist(), *dataset.train.unlabelled.tolist()])
    assert all(np.isfinite(value) for epoch in trained.epochs for value in epoch.terms.values())


def test_a_student_without_a_teacher_learns_from_labelled_rows_alone(
    school: School, dataset: Dataset, learned: list[int]
) -> None:
    school.untaught("alone", CONFIG.student, CONFIG.student_training)
    assert sorted(learned) == sorted(dataset.train.draw.tolist())
