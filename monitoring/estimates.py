"""Precision of alerts whose labels are not there yet, estimated from scores and from older alerts with labels.

    confidence   mean of the calibrated scores of the alerts, corrected on older alerts by Platt's two numbers
                 (confidence-based performance estimation; right if what a score means has not changed)
    weighted     mean label of the older alerts, weighted to look like the new ones by a domain classifier
                 (Sugiyama, Krauledat and Müller, JMLR 8, 2007; right if like alerts have like labels)
    combined     the first, corrected on older alerts that are weighted as in the second (Białek, Kuberski, Perrakis
                 and Bifet, "Estimating model performance under covariate shift without labels", 2024)

In all but the plain confidence older alerts count the less the older they are: what a score means changes slowly,
and the labels that have come already tell of it first. It is taken for granted that outcomes do not decide how
long a label takes; where they do, judge only windows that are mature.

The interval is for what will be realised: it has the chance of the labels themselves, that of the correction, and
how far earlier estimates were off beyond those two, which is all that is known of changes that no input shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats

HALF_LIFE: Final = 7.0  # days, in which an older alert loses half of its weight
FEWEST: Final = 30  # older alerts with labels, below which nothing is estimated
_RIDGE: Final = 2.0  # pseudo-alerts that say the scores are right
_LARGEST: Final = 10.0  # weight of one older alert against the mean
_DRAWS: Final = 60  # of the bootstrap
_USUAL_ERROR, _USUAL_WINDOWS = (
    0.02,
    3,
)  # how far estimates are off, until windows have told, and how much that counts

Floats = NDArray[np.float64]


class Estimate(BaseModel):
    """Estimated precision of the alerts of one window."""

    model_config = ConfigDict(frozen=True)

    confidence: float
    weighted: float
    combined: float
    low: float
    high: float
    older: int
    effective: float


@dataclass(frozen=True)
class Past:
    """An estimate of before and what became of it, with the deviation that chance alone gives their difference."""

    estimated: float
    realised: float
    chance: float


@dataclass(frozen=True)
class Alerts:
    """Alerts of one time.

    Attributes:
        score: calibrated, as they were decided on [n].
        covariates: what may have shifted [n, k].
        age: in days when the estimate is made [n].
    """

    score: Floats
    covariates: Floats
    age: Floats


def estimate(
    older: Alerts, laundering: NDArray[np.bool_], new: Alerts, past: Sequence[Past] = (), *, seed: int = 0
) -> tuple[Estimate, float] | None:
    """Estimate the precision of `new` alerts from `older` ones with labels; None where those are too few.

    Args:
        older: alerts with labels.
        laundering: their labels.
        new: alerts without.
        past: earlier estimates and what became of them.
        seed: of the bootstrap.

    Returns:
        The estimate, and the deviation of its difference from the realised one by chance alone.
    """
    if len(older.score) < FEWEST or not len(new.score):
        return None
    weight = importance(older.covariates, new.covariates) * 0.5 ** (older.age / HALF_LIFE)
    weight /= weight.mean()
    label = laundering.astype(np.float64)
    known, asked = _log_odds(older.score), _log_odds(new.score)
    combined = _sigmoid(_platt(known, label, weight), asked).mean()
    draw = np.random.default_rng(seed)
    again = []
    for _ in range(_DRAWS):
        rows = draw.integers(0, len(label), len(label))
        again.append(_sigmoid(_platt(known[rows], label[rows], weight[rows]), asked).mean())
    labels = combined * (1 - combined) / len(asked)
    chance = float(np.sqrt(labels + np.var(again)))
    off = _excess(past)
    half = float(stats.t.ppf(0.975, len(past) + _USUAL_WINDOWS)) * float(np.hypot(chance, off))
    return (
        Estimate(
            confidence=float(_sigmoid(_platt(known, label, np.ones(len(label))), asked).mean()),
            weighted=float(weight @ label / weight.sum()),
            combined=float(combined),
            low=max(0.0, float(combined) - half),
            high=min(1.0, float(combined) + half),
            older=len(label),
            effective=float(weight.sum() ** 2 / (weight**2).sum()),
        ),
        chance,
    )


def importance(older: Floats, new: Floats) -> Floats:
    """How much more often rows like each older one come among the new ones, mean 1; [len(older)].

    By a ridged logistic regression that tells them apart, so cheap and smooth; weights are bounded.
    """
    both = np.concatenate([older, new])
    spread = both.std(0)
    both = (both[:, spread > 0] - both[:, spread > 0].mean(0)) / spread[spread > 0]
    design = np.column_stack([np.ones(len(both)), both])
    now = np.repeat([0.0, 1.0], [len(older), len(new)])
    balance = np.where(now > 0, 0.5 / len(new), 0.5 / len(older)) * len(both)
    beta = _logistic(
        design, now, balance, ridge=np.r_[1e-6, np.full(both.shape[1], 5.0)], towards=np.zeros(design.shape[1])
    )
    weight = np.exp(np.clip(design[: len(older)] @ beta, -5, 5))
    weight = np.minimum(weight / weight.mean(), _LARGEST)
    return np.asarray(weight / weight.mean())


def _platt(log_odds: Floats, label: Floats, weight: Floats) -> Floats:
    """Intercept and slope that correct log-odds, drawn towards 0 and 1."""
    design = np.column_stack([np.ones(len(log_odds)), log_odds])
    return _logistic(design, label, weight, ridge=np.full(2, _RIDGE), towards=np.array([0.0, 1.0]))


def _logistic(design: Floats, label: Floats, weight: Floats, *, ridge: Floats, towards: Floats) -> Floats:
    """Weighted logistic regression by Newton's method, halving steps that do not help."""
    beta = towards.copy()

    def loss(at: Floats) -> float:
        margin = design @ at
        return float(weight @ (np.logaddexp(0, margin) - label * margin) + ridge @ (at - towards) ** 2 / 2)

    before = loss(beta)
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        gradient = design.T @ (weight * (chance - label)) + ridge * (beta - towards)
        curvature = (design * (weight * chance * (1 - chance))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (after := loss(beta - size * step)) > before and size > 1e-3:
            size /= 2
        beta = beta - size * step
        if before - after < 1e-9 * (1 + abs(before)):
            break
        before = after
    return beta


def _excess(past: Sequence[Past]) -> float:
    """How far estimates are off beyond chance: past differences, and a prior worth a few windows."""
    beyond = sum((one.estimated - one.realised) ** 2 - one.chance**2 for one in past)
    prior = _USUAL_WINDOWS * _USUAL_ERROR**2
    return float(np.sqrt(max(beyond + prior, 0.0) / (len(past) + _USUAL_WINDOWS)))


def _log_odds(score: Floats) -> Floats:
    bounded = np.clip(score, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(bounded / (1 - bounded)))


def _sigmoid(beta: Floats, log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(beta[0] + beta[1] * log_odds))))
