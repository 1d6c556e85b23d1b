"""The student's objective: answers for the right rows, terms that carry a signal, a student that comes nearer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from riskdistill.augmentation.encodings import Mixture
from riskdistill.config import DistillationConfig, TermConfig, TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.distillation.terms import TERMS, Taught
from riskdistill.errors import DegenerateTermError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import Trainer, TrainingRows, gradient_shares, score_logits

DEFAULT = tiny.CONFIG.distillation


def objective(
    rows: TrainingRows, cache: TeacherCache, config: DistillationConfig = DEFAULT
) -> DistillationObjective:
    return DistillationObjective(
        rows, cache, config, epochs=8, label_smoothing=0.05, student_width=tiny.CONFIG.student.width
    )


def only(*names: str, **more: Any) -> DistillationConfig:
    terms = [{"name": name, "weight": 1.0} for name in names]
    return DistillationConfig.model_validate({"terms": terms, **more})


def train(made: DistillationObjective, dataset: Dataset, epochs: int) -> list[dict[str, float]]:
    """Each epoch's terms of a training of the tiny student."""
    config = TrainingConfig(epochs=epochs, batch_size=128, patience=epochs, learning_rate=3e-3)
    validation = dataset.validation.encoded, dataset.validation.label
    student = tiny.network(dataset, tiny.CONFIG.student)
    training = Trainer("student", student, dataset.train, validation, config).run(made)
    return [entry.terms for entry in training.epochs]


@pytest.fixture(scope="module")
def full_cache(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> TeacherCache:
    """Answers for every term."""
    wanted = wanted_by(only(*TERMS), tiny.CONFIG.student.events_per_party)
    return ask(EventTeacher(tiny_run.teacher, 0.0), tiny_dataset.train.encoded, wanted)


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
    cache = ask(EventTeacher(tiny_run.teacher, 0.0), bare, wanted_by(DEFAULT, 4))
    with pytest.raises(DegenerateTermError, match="term attention_relations"):
        objective(rows, cache)


def test_a_term_of_no_weight_is_left_out(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    terms = (TermConfig(name="logits", weight=1.0), TermConfig(name="labels", weight=0.0))
    config = DEFAULT.model_copy(update={"terms": terms})
    loss = objective(tiny_dataset.train, tiny_run.cache, config).loss(tiny_run.student, np.arange(8), 0)
    assert list(loss) == ["logits"]


# ---- learning


@pytest.mark.parametrize("size", [1, 7])
def test_every_term_reaches_the_student(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset, full_cache: TeacherCache, size: int
) -> None:
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    rows = np.flatnonzero(tiny_dataset.train.encoded.events[:, 0, 0] != 0)[:size]
    terms = objective(tiny_dataset.train, full_cache, only(*TERMS)).loss(student, rows, 0)
    assert set(terms) == set(TERMS)
    shares = gradient_shares(student, terms)
    silent = {"batch_correlation", "ranking"} if size == 1 else set()
    assert {name for name, share in shares.items() if not share > 0} == silent
    assert sum(shares.values()) == pytest.approx(1)


def test_weights_scale_their_terms(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    plain = objective(tiny_dataset.train, tiny_run.cache, only("logits", "typology"))
    weighted = objective(tiny_dataset.train, tiny_run.cache, DEFAULT)
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


def test_attention_is_learned_head_by_head_where_it_is_asked_for(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset
) -> None:
    student = tiny.network(
        tiny_dataset, tiny.CONFIG.student.model_copy(update={"heads": tiny.CONFIG.teacher.heads})
    )
    student.train(False)
    rows = np.flatnonzero(tiny_dataset.train.encoded.events[:, 0, 0] != 0)[:16]
    matter = {}
    for by_head in (False, True):
        terms = [{"name": "logits", "weight": 1.0}, {"name": "attention_maps", "weight": 1.0, "by_head": by_head}]
        config = DistillationConfig.model_validate({"terms": terms})
        wanted = wanted_by(config, tiny.CONFIG.student.events_per_party)
        cache = ask(EventTeacher(tiny_run.teacher, 0.0), tiny_dataset.train.encoded, wanted)
        assert cache.attention is not None
        swapped = dataclasses.replace(cache, attention=cache.attention[:, ::-1])
        one, other = (
            objective(tiny_dataset.train, answers, config).loss(student, rows, 0)["attention_maps"].item()
            for answers in (cache, swapped)
        )
        matter[by_head] = one != pytest.approx(other, rel=1e-4)
    assert matter == {False: False, True: True}


# ---- what the teacher says


def test_unlabelled_rows_teach_everything_but_labels(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    train = tiny_dataset.train
    unlabelled = dataclasses.replace(
        train, label=np.full_like(train.label, np.nan), typology=np.full_like(train.typology, -1)
    )
    rows = np.arange(8)
    with pytest.raises(DegenerateTermError, match="no training row has a label"):
        objective(unlabelled, tiny_run.cache, only("logits", "labels"))
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    student.train(False)
    others = only("logits", "attention_relations", "typology")
    without = objective(unlabelled, tiny_run.cache, others).loss(student, rows, 0)
    labelled = objective(train, tiny_run.cache, others).loss(student, rows, 0)
    assert {name: term.item() for name, term in without.items()} == pytest.approx(
        {name: term.item() for name, term in labelled.items()}
    )
    unlabelled.label[1::2] = train.label[1::2]
    half = objective(unlabelled, tiny_run.cache, only("logits", "labels")).loss(student, rows, 0)
    assert half["labels"].isfinite()


def test_mixed_rows_are_taught_mixed_logits_and_unknown_labels_stay_unknown() -> None:
    logit, label = torch.tensor([0.0, 4.0, 8.0, 2.0]), torch.tensor([np.nan, 1.0, 0.0, 0.0])
    found = Taught(logit, label, hidden=torch.ones(4, 3, 2)).mixed(
        Mixture(torch.tensor([0.75] * 4), torch.tensor([1, 2, 3, 0]))
    )
    assert found.logit.tolist() == [1.0, 5.0, 6.5, 1.5]
    assert found.label.isnan().tolist() == [True, False, False, True]
    assert found.label[1].item() == 0.75
    assert found.hidden is None


# ---- what the objective learns itself


@pytest.mark.parametrize(
    ("more", "learned"),
    [
        ({}, set()),
        ({"weights": "dynamic"}, {"row_weights.alpha_beta_gamma"}),
        ({"temperature": {"schedule": "learned"}}, {"learned_heat.position"}),
    ],
)
def test_only_what_is_learned_is_a_parameter_and_training_moves_it(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset, more: dict[str, Any], learned: set[str]
) -> None:
    made = objective(tiny_dataset.train, tiny_run.cache, only("logits", **more))
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    assert set(before) == learned
    train(made, tiny_dataset, epochs=1)
    assert all(not torch.equal(before[name], parameter) for name, parameter in made.named_parameters())


def test_adapters_are_trained_along(tiny_dataset: Dataset, full_cache: TeacherCache) -> None:
    made = objective(tiny_dataset.train, full_cache, only("logits", "feature", "hidden_states"))
    wide, narrow = tiny.CONFIG.teacher.width, tiny.CONFIG.student.width
    assert made.terms["feature"].adapter.weight.shape == (wide, narrow)
    first, *_, last = train(made, tiny_dataset, epochs=3)
    assert all(last[name] < first[name] for name in first)


# ---- epochs


def test_mixed_rows_move_with_their_teacher(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    made = objective(tiny_dataset.train, tiny_run.cache, only("logits", "labels", "typology", mixup=0.4))
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    student.train(False)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(made.loss(student, np.arange(16), 0)["logits"].item())
    assert losses[0] == losses[1] != losses[2]


def test_rows_far_from_the_teacher_are_drawn_more_often_and_a_resumed_epoch_draws_the_same(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset
) -> None:
    config = only("logits", mining={"share": 0.5, "by": "disagreement"})
    made = objective(tiny_dataset.train, tiny_run.cache, config)
    made.disagreement.zero_()
    hard = int(tiny_dataset.train.draw[0])
    made.disagreement[hard] = 1.0
    drawn = made.draw(1, np.random.default_rng(0))
    assert (drawn == hard).sum() >= len(drawn) // 2
    student = tiny.network(tiny_dataset, tiny.CONFIG.student)
    made.loss(student, np.arange(32), 1)
    resumed = objective(tiny_dataset.train, tiny_run.cache, config)
    resumed.load_state_dict(made.state_dict())
    np.testing.assert_array_equal(resumed.draw(1, np.random.default_rng(0)), drawn)
    assert (resumed.draw(2, np.random.default_rng(0)) != drawn).any()


def test_the_whole_of_it_trains_together(tiny_dataset: Dataset, full_cache: TeacherCache) -> None:
    config = only(
        *TERMS,
        temperature={"schedule": "learned"},
        weights="dynamic",
        stages="output_intermediate_adversarial",
        adversarial=0.3,
        mining={"share": 0.3, "by": "disagreement"},
        selection={"confident": 0.8, "otherwise": 0.2},
    )
    made = DistillationObjective(
        tiny_dataset.train,
        full_cache,
        config,
        epochs=3,
        label_smoothing=0.05,
        student_width=tiny.CONFIG.student.width,
    )
    epochs = train(made, tiny_dataset, epochs=3)
    assert [len(terms) for terms in epochs] == [5, 9, 10]
    assert all(np.isfinite(list(terms.values())).all() for terms in epochs)
