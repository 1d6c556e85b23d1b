"""Terms on the outputs: the laundering logit, the typologies, and the labels beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from riskdistill.distillation.terms.term import Heat, RowTerm, Taught, Term, given
from riskdistill.models.event_transformer import EventTransformerOutput
from riskdistill.models.training import TrainingRows


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: Heat) -> Tensor:
    """T² · KL(teacher ‖ student) of each row between Bernoulli distributions at temperature T, from logits [n].

    With one logit there are two classes; summed over both, not averaged, so that the term keeps its full weight.
    T² makes the gradient's size independent of T (Hinton et al., "Distilling the knowledge in a neural
    network", 2015).
    """
    target = torch.sigmoid(teacher / temperature)
    cross = F.binary_cross_entropy_with_logits(student / temperature, target, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher / temperature, target, reduction="none")
    return temperature**2 * (cross - entropy)


def typology_kl(student: Tensor, teacher: Tensor, temperature: Heat) -> Tensor:
    """T² · KL(teacher ‖ student) of each row between typology distributions, from logits [n, typologies]."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        reduction="none",
        log_target=True,
    )
    return temperature**2 * divergence.sum(-1)


def smoothed_labels(student: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy of logits [n] on labels [n] moved towards a half by `smoothing`; 0 where one is NaN."""
    known = ~label.isnan()
    target = torch.where(known, label, 0.0) * (1 - smoothing) + 0.5 * smoothing
    return F.binary_cross_entropy_with_logits(student, target, reduction="none") * known


def refuse_one_logit(term: Term, answers: Any) -> None:
    """Refuse a teacher that gives every row the same logit."""
    if float(np.std(np.asarray(answers.logit))) < 1e-6:
        raise term.degenerate("the teacher gives every training row the same logit", "train the teacher")


class LogitTerm(RowTerm):
    """Bernoulli KL between the laundering logits at a temperature."""

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        return bernoulli_kl(student.logit, taught.logit, heat)

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        refuse_one_logit(self, answers)


class TypologyTerm(RowTerm):
    """KL between the typology distributions at a temperature: more classes carry more than two."""

    answers = ("typology_logits",)

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        return typology_kl(student.typology_logits, given(taught.typology_logits), heat)

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        if answers.typology_logits.shape[1] < 2:
            raise self.degenerate("there is only one typology", "leave the term out")
        if np.isnan(np.asarray(answers.typology_logits)).any():
            raise self.degenerate("the teacher gives some rows no typology logits")


class LabelTerm(RowTerm):
    """Binary cross-entropy on what is known, beside the teacher; rows without a label take no part."""

    answers = ()

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        return smoothed_labels(student.logit, taught.label, self.setting.label_smoothing)

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        if np.isnan(rows.label).all():
            raise self.degenerate("no training row has a label", "leave the term out")
