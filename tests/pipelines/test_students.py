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
    teachers = SimpleNamespace(event=event, shift=0.0, taught={"all_trees": said}, text=None)
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


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_with_and_without_a_teacher_labels_are_learned_alike(
    school: School, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, power: float
) -> None:
    """The losses differ by the term's weight alone, and what trains the score weighs 1 in both."""
    made: list[Any] = []
    monkeypatch.setattr(Workshop, "train", lambda *arguments: made.append(arguments[4]))
    training = CONFIG.student_training.model_copy(update={"scheme_power": power})
    school.untaught("alone", CONFIG.student, training)
    answers = school.answers(CONFIG.student, CONFIG.distillation)
    school.taught("student", CONFIG.student, training, CONFIG.distillation, answers)
    weight = {term.name: term.weight for term in CONFIG.distillation.terms}
    assert weight["logits"] + weight["labels"] == pytest.approx(1)
    model = tiny.network(dataset, CONFIG.student).train(False)
    rows = dataset.train.draw[::3]
    alone, taught = (objective.loss(model, rows, 0) for objective in made)
    assert taught["labels"].item() == pytest.approx(weight["labels"] * alone["labels"].item(), rel=1e-5)
    assert set(alone) == {"labels", "typology"}


def test_schemes_weigh_no_labels_of_students_unless_it_is_asked_for() -> None:
    assert tiny.CONFIG.student_training.scheme_power == 0
    assert tiny.CONFIG.training.scheme_power > 0


def test_a_student_without_a_teacher_learns_from_labelled_rows_alone(
    school: School, dataset: Dataset, learned: list[int]
) -> None:
    school.untaught("alone", CONFIG.student, CONFIG.student_training)
    assert sorted(learned) == sorted(dataset.train.draw.tolist())
