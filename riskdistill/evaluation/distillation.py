"""The record of what distillation did: `DistillationEvidence` is the content of `distillation.json`.

Its parts are made by `comparison` (is it better?), `agreement` (is it the same?), `schemes` (what becomes of whole
schemes?) and the two functions here (do scores mean what they say, do the models look at the same events?).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from riskdistill.errors import DataError
from riskdistill.evaluation.agreement import Agreement
from riskdistill.evaluation.comparison import Comparison, Estimate
from riskdistill.evaluation.ranking import Floats, Labels, calibration_error, reliability_groups
from riskdistill.evaluation.schemes import SchemeDetection

Model = Literal["teacher", "student"]
Stage = Literal["before", "after"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetentionPoint(_Record):
    """Students of one size."""

    compression: float  # parameters, teacher / student
    pr_auc: Estimate
    against_teacher: Comparison


class AblationLine(_Record):
    """One recipe: the full one with a term or schedule left out or changed."""

    recipe: str
    pr_auc: Estimate
    against_full: Comparison
    against_none: Comparison  # the same student without a teacher


class Reliability(_Record):
    """One model's predicted and observed frequencies, before or after calibration, with 95 % limits."""

    model: Model
    stage: Stage
    ece: float
    predicted: tuple[float, ...]
    low: tuple[float, ...]
    observed: tuple[float, ...]
    high: tuple[float, ...]


class AttentionPair(_Record):
    """What teacher and student look at in one payment; row i of a map is the attention of token i, summing to 1."""

    title: str
    tokens: tuple[str, ...]
    teacher: tuple[tuple[float, ...], ...]
    student: tuple[tuple[float, ...], ...]
    correlation: float  # mean over tokens of the correlation between both models' attention


class DistillationEvidence(_Record):
    """Everything measured of one distillation; a part that was not measured is empty and has no section."""

    name: str
    dataset: str
    period: str = "test period"  # that it was measured on
    retention: tuple[RetentionPoint, ...] = ()
    ablation: tuple[AblationLine, ...] = ()
    ruled_out: tuple[str, ...] = ()  # recipes that could not be compared, with the reason
    comparisons: tuple[Comparison, ...] = ()
    agreement: Agreement | None = None
    reliability: tuple[Reliability, ...] = ()
    detection: dict[Model, tuple[SchemeDetection, ...]] = {}
    attention: tuple[AttentionPair, ...] = ()


def measure_reliability(
    labels: Labels, scores: Floats, *, model: Model, stage: Stage, bins: int = 10
) -> Reliability:
    """Reliability of the scores, float64[n] in 0..1, of one model at one stage."""
    groups = reliability_groups(labels, scores, bins)
    predicted, low, observed, high = (tuple(part.tolist()) for part in groups)
    return Reliability(
        model=model,
        stage=stage,
        ece=calibration_error(labels, scores),
        predicted=predicted,
        low=low,
        observed=observed,
        high=high,
    )


def attention_pair(
    title: str, tokens: Sequence[str], teacher: NDArray[np.floating], student: NDArray[np.floating]
) -> AttentionPair:
    """Two models' attention on the same tokens, averaged over heads.

    Args:
        title: which payment of which scheme.
        tokens: what each token is, in words (`event_words`), [T]; absent tokens are left out by the caller.
        teacher: [T, T], at least 0.
        student: [T, T], at least 0.

    Raises:
        DataError: a map is not [T, T], has a token that looks at nothing, or is not finite and at least 0.
    """
    maps = [_normalised(weights, len(tokens)) for weights in (teacher, student)]
    centred = [weights - weights.mean(axis=1, keepdims=True) for weights in maps]
    product = (centred[0] * centred[1]).sum(axis=1)
    size = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    # A token that looks everywhere alike tells nothing of where the other model looks: it counts as 0.
    correlation = np.divide(product, size, out=np.zeros_like(product), where=size > 1e-12).mean()
    rows = [tuple(tuple(row) for row in weights.round(4).tolist()) for weights in maps]
    return AttentionPair(
        title=title, tokens=tuple(tokens), teacher=rows[0], student=rows[1], correlation=float(correlation)
    )


def _normalised(weights: NDArray[np.floating], tokens: int) -> Floats:
    exact: Floats = weights.astype(np.float64)
    if exact.shape != (tokens, tokens) or tokens == 0:
        raise DataError(f"an attention map is {exact.shape}, and there are {tokens} tokens")
    if not np.isfinite(exact).all() or (exact < 0).any() or (exact.sum(axis=1) == 0).any():
        raise DataError("attention must be finite, at least 0, and above 0 somewhere for every token")
    # Rows lose mass when the teacher's tokens that the student does not read are cut away.
    normalised: Floats = exact / exact.sum(axis=1, keepdims=True)
    return normalised
