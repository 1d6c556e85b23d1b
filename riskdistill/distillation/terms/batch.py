"""Terms on how the rows of a batch stand to one another: what matters where alerts are the top of a ranking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from riskdistill.distillation.terms.logits import refuse_one_logit
from riskdistill.distillation.terms.term import Heat, Taught, Term
from riskdistill.models.event_transformer import EventTransformerOutput
from riskdistill.models.training import TrainingRows

_LEAST_VARIANCE = 1e-4  # of logits over a batch


class _AmongRows(Term):
    """A term that compares logits between rows."""

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        refuse_one_logit(self, answers)


class BatchCorrelationTerm(_AmongRows):
    """1 - Pearson's correlation of the logits over the batch, 0 for fewer than two rows.

    The term between samples of Huang et al., "Knowledge distillation from a stronger teacher" (DIST), 2022. Their
    term between classes is left out: of two classes, any two models correlate with ±1.
    """

    def forward(
        self, student: EventTransformerOutput, taught: Taught, heat: Heat, weight: Tensor | None = None
    ) -> Tensor:
        own, theirs = student.logit, taught.logit
        share = torch.ones_like(own) if weight is None else weight
        share = share / share.sum().clamp_min(1e-8)
        own, theirs = (logit - (share * logit).sum() for logit in (own, theirs))
        # a student that tells rows hardly apart would get a gradient without bound
        spread = [(share * logit.square()).sum().clamp_min(_LEAST_VARIANCE).sqrt() for logit in (own, theirs)]
        enough = (share > 0).sum() > 1
        return (1 - (share * own * theirs).sum() / (spread[0] * spread[1])) * enough


class RankingTerm(_AmongRows):
    """Every pair of rows in the teacher's order, weighted by how far apart the teacher has them.

    The loss of a pair is the KL between the teacher's and the student's probability that one row is above the
    other (Burges et al., "Learning to rank using gradient descent" (RankNet), 2005, with soft targets). A pair has
    the product of its rows' weights.
    """

    def forward(
        self, student: EventTransformerOutput, taught: Taught, heat: Heat, weight: Tensor | None = None
    ) -> Tensor:
        own, theirs = (logit[:, None] - logit[None, :] for logit in (student.logit, taught.logit))
        above = torch.sigmoid(theirs)
        cross = F.binary_cross_entropy_with_logits(own, above, reduction="none")
        pairs = cross - F.binary_cross_entropy_with_logits(theirs, above, reduction="none")
        distance = (2 * above - 1).abs()
        if weight is not None:
            pairs = pairs * weight[:, None] * weight[None, :]
        return (distance * pairs).sum() / max(1, len(own) * (len(own) - 1))
