"""The student's objective: answers for the right rows, terms that carry a signal, a student that comes nearer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny

from riskdistill.config import DistillationConfig, TermConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.errors import DegenerateTermError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import Trainer, TrainingRows, gradient_shares, score_logits

DEFAULT_TERMS = tiny.CONFIG.distillation


def objective(
    rows: TrainingRows, cache: TeacherCache, config: DistillationConfig = DEFAULT_TERMS
) -> DistillationObjective:
    return DistillationObjective(rows, cache, config, epochs=8, label_smoothing=0.05)


def only(*names: str) -> DistillationConfig:
    terms = [{"name": name, "weight": 1.0} for name in names]
    return DistillationConfig.model_validate({"terms": terms})


# ---- other rows


@pytest.mark.parametrize("change", ["shuffled", "one value", "one row fewer", "events"])
def test_answers_for_other_rows_are_refused(tiny_run: tiny.TinyRun, tiny_dataset: Dataset, change: str) -> None:
    train = tiny_dataset.train
    rows = np.arange(len(train.encoded))
    if change == "shuffled":
        rows[[3, 4]] = rows[[4, 3]]
    if change == "one row fewer":
        rows = rows[:-1]
    encoded = train.encoded.take(rows)
    if change == "one value":
        encoded.context[5, 0] += 1.0
    if change == "events":
        encoded.events[5, 0, 1] += 1.0
    changed = TrainingRows(encoded, train.label[rows], train.typology[rows], train.draw)
    with pytest.raises(TrainingError, match="ask the teacher again"):
        objective(changed, tiny_run.cache)


# ---- terms that teach nothing


def test_a_teacher_of_one_logit_is_degenerate(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    flat = dataclasses.replace(tiny_run.cache, logit=np.full_like(tiny_run.cache.logit, -2.0))
    with pytest.raises(DegenerateTermError, match="term logits"):
        objective(tiny_dataset.train, flat)
    objective(tiny_dataset.train, flat, only("labels"))


def test_one_typology_is_degenerate(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    single = dataclasses.replace(tiny_run.cache, typology_logits=tiny_run.cache.typology_logits[:, :1])
    with pytest.raises(DegenerateTermError, match="term typology"):
        objective(tiny_dataset.train, single)


def test_relations_without_events_are_degenerate(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    train = tiny_dataset.train
    bare = Encoded(train.encoded.context, np.zeros_like(train.encoded.events))
    rows = TrainingRows(bare, train.label, train.typology, train.draw)
    cache = ask(EventTeacher(tiny_run.teacher, 0.0), bare, wanted_by(DEFAULT_TERMS, 4))
    with pytest.raises(DegenerateTermError, match="term attention_relations"):
        objective(rows, cache)


def test_a_term_of_no_weight_is_left_out(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    terms = (TermConfig(name="logits", weight=1.0), TermConfig(name="labels", weight=0.0))
    config = DEFAULT_TERMS.model_copy(update={"terms": terms})
    loss = objective(tiny_dataset.train, tiny_run.cache, config).loss(tiny_run.student, np.arange(8), 0)
    assert list(loss) == ["logits"]


# ---- learning


@pytest.mark.parametrize("size", [1, 7])
def test_every_term_reaches_the_student(tiny_run: tiny.TinyRun, tiny_dataset: Dataset, size: int) -> None:
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    rows = np.flatnonzero(tiny_dataset.train.encoded.events[:, 0, 0] != 0)[:size]
    terms = objective(tiny_dataset.train, tiny_run.cache).loss(student, rows, 0)
    assert set(terms) == {"logits", "attention_relations", "typology"}
    shares = gradient_shares(student, terms)
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1)


def test_weights_scale_their_terms(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    plain = objective(tiny_dataset.train, tiny_run.cache, only("logits", "typology"))
    weighted = objective(tiny_dataset.train, tiny_run.cache, DEFAULT_TERMS)
    rows = np.arange(16)
    tiny_run.student.train(False)
    ones, parts = (one.loss(tiny_run.student, rows, 0) for one in (plain, weighted))
    assert parts["logits"].item() == pytest.approx(0.7 * ones["logits"].item(), rel=1e-5)
    assert parts["typology"].item() == pytest.approx(0.1 * ones["typology"].item(), rel=1e-5)


def test_distilling_moves_the_student_towards_the_teacher(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    """Without any label: the student's logits and relations approach the teacher's."""
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    config = TrainingConfig(epochs=6, batch_size=128, patience=6, learning_rate=3e-3)
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    taught = objective(tiny_dataset.train, tiny_run.cache, only("logits", "attention_relations", "typology"))
    before = score_logits(student, tiny_dataset.train.encoded)[0]
    trainer = Trainer("student", student, tiny_dataset.train, validation, config)
    training = trainer.run(taught)
    first, last = training.epochs[0].terms, training.epochs[-1].terms
    assert all(last[name] < first[name] for name in first)
    after = score_logits(student, tiny_dataset.train.encoded)[0]
    teacher = tiny_run.cache.logit
    assert np.square(after - teacher).mean() < 0.5 * np.square(before - teacher).mean()
