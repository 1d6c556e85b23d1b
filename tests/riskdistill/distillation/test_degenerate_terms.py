"""Answers of which a term learns nothing are refused, with the reason: it would look like training otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_distillation import RELATION_HEADS, STUDENT_WIDTH, small_answers
from small_training import small_rows

from riskdistill.config import TermConfig
from riskdistill.distillation.terms import TERMS, Setting, Term
from riskdistill.errors import DegenerateTermError, TrainingError
from riskdistill.features import Encoded


def made(name: str, student_width: int = STUDENT_WIDTH) -> Term:
    return TERMS[name](TermConfig(name=name, weight=1.0), Setting(student_width, 12, RELATION_HEADS))


@pytest.mark.parametrize("name", [name for name in TERMS if TERMS[name].answers])
def test_an_answer_that_the_teacher_does_not_give_is_missed(name: str) -> None:
    term = made(name)
    nothing = dataclasses.replace(small_answers(), **dict.fromkeys(term.answers))
    with pytest.raises(DegenerateTermError, match=f"term {name}.*the teacher gives no"):
        term.refuse_degenerate(small_rows(), nothing)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("logits", {"logit": lambda old: 0 * old - 2}, "the same logit"),
        ("batch_correlation", {"logit": lambda old: 0 * old}, "the same logit"),
        ("ranking", {"logit": lambda old: 0 * old}, "the same logit"),
        ("typology", {"typology_logits": lambda old: old[:, :1]}, "only one typology"),
        ("typology", {"typology_logits": lambda old: old * float("nan")}, "no typology logits"),
        ("attention_maps", {"attention": lambda old: 0 * old}, "are empty"),
        ("hidden_states", {"hidden": lambda old: 0 * old + 1}, "the same for every row"),
        ("feature", {"embedding": lambda old: 0 * old + 1}, "the same for every row"),
    ],
)
def test_answers_that_teach_nothing_are_refused(
    name: str, change: dict[str, Callable[[Any], Any]], why: str
) -> None:
    answers, term = small_answers(), made(name)
    term.refuse_degenerate(small_rows(), answers)
    flat = {part: changed(getattr(answers, part)) for part, changed in change.items()}
    with pytest.raises(DegenerateTermError, match=f"term {name}.*{why}"):
        term.refuse_degenerate(small_rows(), dataclasses.replace(answers, **flat))


@pytest.mark.parametrize("name", ["attention_relations", "attention_maps"])
def test_rows_without_events_are_degenerate_between_tokens(name: str) -> None:
    rows = small_rows()
    made(name).refuse_degenerate(rows, small_answers())
    bare = dataclasses.replace(rows, encoded=Encoded(rows.encoded.context, 0 * rows.encoded.events))
    with pytest.raises(DegenerateTermError, match="no training row has any event"):
        made(name).refuse_degenerate(bare, small_answers())


def test_rows_without_labels_are_degenerate_for_labels() -> None:
    rows = small_rows()
    made("labels").refuse_degenerate(rows, small_answers())
    with pytest.raises(DegenerateTermError, match="no training row has a label"):
        made("labels").refuse_degenerate(dataclasses.replace(rows, label=rows.label * torch.nan), small_answers())


@pytest.mark.parametrize("name", ["hidden_states", "feature"])
def test_an_adapter_of_unknown_width_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="an adapter needs the widths"):
        made(name, student_width=0)
