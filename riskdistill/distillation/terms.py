"""The terms of the distillation loss, each a function of student and teacher tensors.

All return one number, the mean over the batch, on a scale that does not depend on the batch's size; 0 for no rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from riskdistill.errors import DegenerateTermError


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) between Bernoulli distributions at temperature T, from logits [n].

    With one logit there are two classes; summed over both, not averaged, so that the term keeps its full weight.
    T² makes the gradient's size independent of T (Hinton et al., "Distilling the knowledge in a neural
    network", 2015).
    """
    target = torch.sigmoid(teacher / temperature)
    cross = F.binary_cross_entropy_with_logits(student / temperature, target, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(teacher / temperature, target, reduction="sum")
    return temperature**2 * (cross - entropy) / max(1, len(student))


def typology_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) between typology distributions, from logits [n, typologies]."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        reduction="sum",
        log_target=True,
    )
    return temperature**2 * divergence / max(1, len(student))


def smoothed_labels(student: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy of logits [n] on labels [n] moved towards a half by `smoothing`."""
    target = label * (1 - smoothing) + 0.5 * smoothing
    return F.binary_cross_entropy_with_logits(student, target, reduction="sum") / max(1, len(student))


def relations(projection: Tensor, heads: int, mask: Tensor) -> Tensor:
    """How each token relates to every other, by relation head: probabilities [n, heads, tokens, tokens].

    A layer's queries (or keys, or values) of all its attention heads are laid side by side and cut anew into
    `heads` relation heads, so that two models need to agree neither on attention heads nor on width (Wang et al.,
    "MiniLMv2", 2021).

    Args:
        projection: [n, tokens, width]; `heads` divides the width.
        mask: bool [n, tokens], false where there is no token.
    """
    parts = projection.unflatten(-1, (heads, -1)).transpose(1, 2)
    scores = parts @ parts.transpose(-1, -2) / parts.shape[-1] ** 0.5
    hidden = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
    return torch.softmax(hidden, -1)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher ‖ student) between relations [n, heads, tokens, tokens], the mean over the tokens present.

    Raises:
        DegenerateTermError: no row has a second token, so that every relation is 1 on both sides.
    """
    if mask.shape[1] < 2:
        raise DegenerateTermError(
            "relations between tokens need at least two tokens", mend="raise the student's events_per_party"
        )
    divergence = (teacher * (teacher.clamp_min(1e-8).log() - student.clamp_min(1e-8).log())).sum(-1).mean(1)
    present = mask.to(divergence.dtype)
    return (divergence * present).sum() / present.sum().clamp_min(1.0)
