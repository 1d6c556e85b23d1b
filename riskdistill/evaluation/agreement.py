"""Where teacher and student agree, and the payments on which they agree least.

Examples carry no account and no transaction identifier: they are told by their place in the test period.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import spearmanr

from riskdistill.errors import DataError
from riskdistill.evaluation.ranking import Floats, Labels, alert_probability, alerts_within
from riskdistill.features.spec import FeatureSpec


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decisions(_Record):
    """Payments by who alerts them at one budget; expected counts where scores tie at the cut."""

    both: float
    teacher_only: float
    student_only: float
    neither: float


class BudgetAgreement(_Record):
    """The decisions on normal and on laundering payments at one alert budget."""

    budget: float
    shared_alerts: float  # share of the budget's alerts that both raise
    normal: Decisions
    laundering: Decisions


class Disagreement(_Record):
    """One payment that teacher and student rank far apart."""

    reference: str
    teacher: float
    student: float
    laundering: bool
    typology: str
    features: tuple[str, ...]


class Agreement(_Record):
    """Teacher and student on the test period."""

    rank_correlation: float  # Spearman
    log_odds_correlation: float  # Pearson
    budgets: tuple[BudgetAgreement, ...]
    disagreements: tuple[Disagreement, ...] = ()


def agreement(
    labels: Labels,
    teacher: Floats,
    student: Floats,
    budgets: Sequence[float],
    disagreements: Sequence[Disagreement] = (),
) -> Agreement:
    """Compares two models' scores, float64[n] in 0..1, on the same rows.

    Raises:
        DataError: a model gives every payment the same score, so that no correlation exists.
    """
    if np.ptp(teacher) == 0 or np.ptp(student) == 0:
        raise DataError("a model gives every payment the same score", mend="look at how it was trained")
    return Agreement(
        rank_correlation=float(spearmanr(teacher, student).statistic),
        log_odds_correlation=float(np.corrcoef(_log_odds(teacher), _log_odds(student))[0, 1]),
        budgets=tuple(_at_budget(labels, teacher, student, budget) for budget in budgets),
        disagreements=tuple(disagreements),
    )


def most_disagreeing(teacher: Floats, student: Floats, count: int) -> NDArray[np.intp]:
    """The rows whose log odds differ most, the greatest difference first, intp[at most count]."""
    gap = np.abs(_log_odds(teacher) - _log_odds(student))
    return np.argsort(-gap, kind="stable")[:count]


def notable_features(context: NDArray[np.float32], spec: FeatureSpec, row: int, count: int = 3) -> tuple[str, ...]:
    """What stands out in one row, in words: the features that lie furthest from the middle of all rows.

    Args:
        context: float32[n, F], all rows.
        spec: names the columns.
        row: which row.
        count: how many features at most. Values that half of the rows share are never told.
    """
    values = context[row]
    known = np.maximum((~np.isnan(context)).sum(axis=0), 1)
    below, above = (context < values).sum(axis=0) / known, (context > values).sum(axis=0) / known
    extreme = np.where(np.isnan(values), 0, np.maximum(below, above))
    chosen = [int(column) for column in np.argsort(-extreme, kind="stable")[:count] if extreme[column] > 0.5]
    return tuple(
        f"{spec.context[column].meaning}: {values[column]:,.4g} {spec.context[column].unit} "
        f"({'above' if below[column] >= above[column] else 'below'} {100 * extreme[column]:.0f} % of payments)"
        for column in chosen
    )


def _at_budget(labels: Labels, teacher: Floats, student: Floats, budget: float) -> BudgetAgreement:
    alerts = alerts_within(budget, len(labels))
    by_teacher, by_student = alert_probability(teacher, alerts), alert_probability(student, alerts)

    def decisions(chosen: Labels) -> Decisions:
        told, asked = by_teacher[chosen], by_student[chosen]
        both = float((told * asked).sum())
        return Decisions(
            both=both,
            teacher_only=float(told.sum()) - both,
            student_only=float(asked.sum()) - both,
            neither=float(((1 - told) * (1 - asked)).sum()),
        )

    normal, laundering = decisions(~labels), decisions(labels)
    shared = (normal.both + laundering.both) / alerts
    return BudgetAgreement(budget=budget, shared_alerts=shared, normal=normal, laundering=laundering)


def _log_odds(scores: Floats) -> Floats:
    held = np.clip(scores, 1e-7, 1 - 1e-7)
    odds: Floats = np.log(held) - np.log1p(-held)
    return odds
