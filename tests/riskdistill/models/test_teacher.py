"""Teachers behind one protocol: what they answer, for which rows, on which scale."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest
import tiny
import torch

from riskdistill.config import TreeCandidate
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models import teacher as teachers
from riskdistill.models.boosted_trees import BoostedTrees
from riskdistill.models.teacher import (
    Answers,
    EventTeacher,
    TreesTeacher,
    Wanted,
    shared_tokens,
    weights_fingerprint,
)
from riskdistill.models.training import score_logits

EVERYTHING = Wanted(4, 4, relations=True, attention=True, hidden=True, embedding=True)


@pytest.fixture
def event(tiny_dataset: Dataset) -> EventTeacher:
    return EventTeacher(tiny.network(tiny_dataset, tiny.CONFIG.teacher.network), -1.5)


@pytest.fixture
def rows(tiny_dataset: Dataset) -> Encoded:
    return tiny_dataset.train.encoded.take(slice(0, 30))


def test_logits_are_the_networks_at_natural_prevalence(event: EventTeacher, rows: Encoded) -> None:
    logits, typologies = score_logits(event.model, rows)
    answers = event.answer(rows, Wanted(4, 4))
    np.testing.assert_allclose(answers.logit, logits - 1.5, atol=1e-5)
    np.testing.assert_allclose(answers.typology_logits, typologies, atol=1e-5)
    assert set(answers.parts()) == {"logit", "typology_logits"}


def test_everything_wanted_is_given_between_the_students_tokens(event: EventTeacher, rows: Encoded) -> None:
    answers = event.answer(rows, EVERYTHING)
    width, tokens = tiny.CONFIG.teacher.width, 1 + 2 * 4
    assert {name: part.shape[1:] for name, part in answers.parts().items()} == {
        "logit": (),
        "typology_logits": (len(event.model.config.typologies),),
        "relations": (3, 4, tokens, tokens),
        "attention": (1, tokens, tokens),
        "hidden": (tokens, width),
        "embedding": (width,),
    }
    assert answers.relations is not None
    np.testing.assert_allclose(answers.relations.astype(np.float64).sum(-1), 1.0, atol=0.01)


def test_attention_is_given_by_head_where_it_is_wanted_so(event: EventTeacher, rows: Encoded) -> None:
    averaged = event.answer(rows, EVERYTHING).attention
    heads = event.answer(rows, replace(EVERYTHING, by_head=True)).attention
    assert averaged is not None
    assert heads is not None
    assert heads.shape[1] == tiny.CONFIG.teacher.heads > averaged.shape[1] == 1
    np.testing.assert_allclose(heads.astype(np.float32).mean(1, keepdims=True), averaged, atol=1e-3)
    assert np.abs(heads - averaged).max() > 0.01


def test_batches_do_not_show(event: EventTeacher, rows: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = event.answer(rows, EVERYTHING)
    monkeypatch.setattr(teachers, "BATCH_ROWS", 7)
    for name, part in event.answer(rows, EVERYTHING).parts().items():
        np.testing.assert_allclose(part.astype(np.float32), whole.parts()[name].astype(np.float32), atol=2e-3)


def test_a_student_that_reads_more_events_than_its_teacher_is_refused(event: EventTeacher, rows: Encoded) -> None:
    with pytest.raises(TrainingError, match="the student reads 9 events"):
        event.answer(rows, Wanted(9, 4))


def test_tokens_are_paired_by_what_they_stand_for() -> None:
    assert shared_tokens(4, 2).tolist() == [0, 1, 2, 5, 6]
    assert shared_tokens(3, 3).tolist() == list(range(7))


def test_the_fingerprint_follows_weights_and_scale(event: EventTeacher) -> None:
    assert EventTeacher(event.model, -1.5).fingerprint == event.fingerprint
    assert EventTeacher(event.model, -1.4).fingerprint != event.fingerprint
    before = weights_fingerprint(event.model)
    with torch.no_grad():
        event.model.sides[0, 0, 0] += 1e-6
    assert weights_fingerprint(event.model) != before


def test_trees_give_their_log_odds_alone() -> None:
    random = np.random.default_rng(1)
    context = random.normal(size=(200, 3)).astype(np.float32)
    data = lgb.Dataset(context, (context[:, 0] > 0).astype(np.float32))
    booster = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 3)
    trees = TreesTeacher(BoostedTrees(booster, TreeCandidate(), 0.0))
    answers = trees.answer(Encoded(context, np.zeros((200, 2, 1), np.float32)), EVERYTHING)
    assert set(answers.parts()) == {"logit"}
    np.testing.assert_allclose(answers.logit, booster.predict(context, raw_score=True), rtol=1e-6)
    assert len(trees.fingerprint) == 16


def test_parts_of_other_shapes_are_refused() -> None:
    logit = np.zeros(3, np.float32)
    with pytest.raises(TrainingError, match="hidden has the shape"):
        Answers(logit, hidden=np.zeros((2, 5, 4), np.float16))
    with pytest.raises(TrainingError, match="5 dimensions are due"):
        Answers(logit, relations=np.zeros((3, 5, 5), np.float16))


def test_answers_are_taken_and_joined_by_row() -> None:
    answers = Answers(np.arange(4, dtype=np.float32), embedding=np.arange(8, dtype=np.float32).reshape(4, 2))
    swapped = Answers.concat([answers.take(slice(2, 4)), answers.take(np.array([True, True, False, False]))])
    assert swapped.logit.tolist() == [2, 3, 0, 1]
    assert swapped.embedding is not None
    assert swapped.embedding[0].tolist() == [4, 5]
    with pytest.raises(TrainingError, match="same parts"):
        Answers.concat([answers, Answers(answers.logit)])
    with pytest.raises(TrainingError, match="same parts"):
        Answers.concat([])
