"""Terms on how tokens attend to one another: relations of queries, keys and values, and attention maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from riskdistill.distillation.terms.term import RELATIONS_OF_EVERY, Heat, RowTerm, Taught, given, over_tokens
from riskdistill.models.event_transformer import EventTransformerOutput
from riskdistill.models.training import TrainingRows


def relations(projection: Tensor, heads: int, mask: Tensor) -> Tensor:
    """How each token relates to every other, by relation head: probabilities [n, heads, tokens, tokens].

    A layer's queries (or keys, or values) of all its attention heads are laid side by side and cut anew into
    `heads` relation heads, so that two models need to agree neither on attention heads nor on width (Wang et al.,
    "MiniLMv2", 2021).

    Args:
        projection: [n, tokens, width]; `heads` divides the width.
        mask: bool [n, tokens], false where there is no token.
    """
    return torch.softmax(_scores(projection, heads, mask), -1)


def _scores(projection: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Before the softmax: [..., tokens, width] and a mask [..., tokens] -> [..., heads, tokens, tokens]."""
    parts = projection.unflatten(-1, (heads, -1)).transpose(-2, -3)
    scores: Tensor = parts @ parts.transpose(-1, -2) / parts.shape[-1] ** 0.5
    return scores.masked_fill(~mask[..., None, None, :], torch.finfo(scores.dtype).min)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher ‖ student) between relations [n, heads, tokens, tokens], each row's mean over its tokens, [n]."""
    divergence = (teacher * (teacher.clamp_min(1e-8).log() - student.clamp_min(1e-8).log())).sum(-1).mean(1)
    return over_tokens(divergence, mask)


class _BetweenTokens(RowTerm):
    """A term that needs rows with two tokens: to itself, a single one always attends alike."""

    layers = True

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        if not (rows.encoded.events[:, :, 0] != 0).any():
            raise self.degenerate("no training row has any event, so that all are alike", "leave the term out")


class RelationTerm(_BetweenTokens):
    """KL between the last layers' relations of queries, keys and values; heads, widths and depths may differ."""

    answers = ("relations",)
    step = RELATIONS_OF_EVERY

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        last, heads = student.layers[-1], self.setting.relation_heads
        projections = torch.stack((last.query, last.key, last.value), 1)
        own = _scores(projections, heads, student.mask[:, None])
        theirs = given(taught.relations)
        divergence = (torch.xlogy(theirs, theirs) - theirs * own.log_softmax(-1)).sum(-1)
        return over_tokens(divergence.mean((1, 2)), student.mask)


class AttentionMapTerm(_BetweenTokens):
    """Distance of the last layers' attention maps, `form` being "mse" or "kl".

    Head by head where the teacher's maps are of as many heads as the student's, as it was asked for where the
    configuration says `by_head`; else averaged over heads on both sides. The teacher's maps may be cut to the
    tokens that the student reads; what is left of each row is brought back to 1.
    """

    answers = ("attention",)
    attentions = True

    def rows(self, student: EventTransformerOutput, taught: Taught, heat: Heat) -> Tensor:
        own, theirs = student.layers[-1].attention, given(taught.attention)
        assert own is not None
        if theirs.shape[1] != own.shape[1]:
            own, theirs = own.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
        theirs = theirs * student.mask[:, None, None, :]
        total = theirs.sum(-1, keepdim=True)
        there = student.mask & (total[..., 0] > 0).all(1)  # a text's words may have been cut off
        theirs = theirs / total.clamp_min(1e-8)
        if self.config.form == "kl":
            return relation_kl(own, theirs, there)
        return over_tokens((own - theirs).square().sum(-1).mean(1), there)

    def refuse_degenerate(self, rows: TrainingRows, answers: Any) -> None:
        super().refuse_degenerate(rows, answers)
        if not np.asarray(answers.attention[:64]).any():
            raise self.degenerate("the teacher's attention maps are empty")
