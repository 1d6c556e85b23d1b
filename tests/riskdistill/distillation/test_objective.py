"""The student's objective: answers for the right rows, terms that carry a signal, a student that comes nearer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from riskdistill.config import DistillationConfig, TermConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import (
    TeacherCache,
    ask_teacher,
    shared_tokens,
    weights_fingerprint,
)
from riskdistill.errors import DegenerateTermError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.training import Trainer, TrainingRows, gradient_shares, score_logits

DEFAULT_TERMS = tiny.CONFIG.distillation


def objective(
    rows: TrainingRows, cache: TeacherCache, config: DistillationConfig = DEFAULT_TERMS
) -> DistillationObjective:
    return DistillationObjective(rows, cache, config, epochs=8, label_smoothing=0.05)


def only(*names: str) -> DistillationConfig:
    terms = [{"name": name, "weight": 1.0} for name in names]
    return DistillationConfig.model_validate({"terms": terms})


# ---- the teacher's answers


def test_answers_are_those_of_the_teacher_on_those_rows(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    logits, typologies = score_logits(tiny_run.teacher, tiny_dataset.train.encoded)
    np.testing.assert_allclose(tiny_run.cache.logit, logits, atol=1e-5)
    np.testing.assert_allclose(tiny_run.cache.typology_logits, typologies, atol=1e-5)
    assert tiny_run.cache.teacher == weights_fingerprint(tiny_run.teacher)
    heads, tokens = DEFAULT_TERMS.relation_heads, 1 + 2 * tiny.CONFIG.student.events_per_party
    assert tiny_run.cache.relations.shape == (len(logits), 3, heads, tokens, tokens)


def test_tokens_are_paired_by_what_they_stand_for() -> None:
    assert shared_tokens(4, 2).tolist() == [0, 1, 2, 5, 6]
    assert shared_tokens(3, 3).tolist() == list(range(7))


def test_a_student_that_reads_more_events_than_its_teacher_is_refused(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset
) -> None:
    with pytest.raises(TrainingError, match="events"):
        ask_teacher(tiny_run.teacher, tiny_dataset.train.encoded, relation_heads=4, student_events=9)


def test_another_teacher_has_another_fingerprint(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    other = tiny.network(tiny_dataset, tiny.CONFIG.teacher)
    assert weights_fingerprint(other) != weights_fingerprint(tiny_run.teacher)
    before = weights_fingerprint(other)
    with torch.no_grad():
        other.sides[0, 0, 0] += 1e-6
    assert weights_fingerprint(other) != before


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_second_teacher_moves_the_logits_alone(tiny_run: tiny.TinyRun, share: float) -> None:
    first = tiny_run.cache
    second = np.linspace(-8.0, 8.0, len(first.logit))
    blended = first.blended(second, share)
    np.testing.assert_allclose(blended.logit, (1 - share) * first.logit.numpy() + share * second, atol=1e-5)
    assert blended.relations is first.relations
    assert blended.rows == first.rows


def test_a_second_teacher_of_other_rows_is_refused(tiny_run: tiny.TinyRun) -> None:
    with pytest.raises(TrainingError, match="logits of a second teacher"):
        tiny_run.cache.blended(np.zeros(3), 0.5)


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
    flat = dataclasses.replace(tiny_run.cache, logit=torch.full_like(tiny_run.cache.logit, -2.0))
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
    cache = ask_teacher(tiny_run.teacher, bare, relation_heads=4, student_events=4)
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
    teacher = tiny_run.cache.logit.numpy()
    assert np.square(after - teacher).mean() < 0.5 * np.square(before - teacher).mean()
