"""Where reviewing begins: the lowest score that is reviewed, by one of three rules.

| rule   | reviews                                                                | needs            |
|--------|------------------------------------------------------------------------|------------------|
| budget | a share of the traffic, or a number of alerts a day                    | scores           |
| cost   | what costs less to review than it is expected to cost unreviewed       | calibrated scores |
| fpr    | as much as a share of the normal transactions lets through             | labels           |

Scores are float64 [n] in 0..1; a transaction is reviewed when its score is at or above the threshold. Where scores
are equal, all of them are reviewed or none: a rule never alerts more than it allows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from riskdistill.config import ThresholdConfig
from riskdistill.errors import TrainingError
from riskdistill.evaluation.ranking import alerts_within

Floats = NDArray[np.float64]


def choose_threshold(scores: Floats, label: NDArray[np.bool_], days: float, config: ThresholdConfig) -> float:
    """The threshold by the configured rule.

    Args:
        scores, label: of a period that nothing was fitted on.
        days: how long that period is.

    Raises:
        TrainingError: the rule needs something that the period does not have.
    """
    if config.rule == "cost":
        return by_cost(config.missed_cost, config.alert_cost)
    if config.rule == "fpr":
        return by_false_positive_rate(scores, label, config.fpr)
    if config.alerts_per_day is not None:
        return within(scores, math.floor(config.alerts_per_day * days))
    return within(scores, alerts_within(config.budget, len(scores)))


def within(scores: Floats, alerts: int) -> float:
    """The lowest threshold that at most `alerts` of the scores reach; above all scores where that is none.

    >>> within(np.array([0.9, 0.5, 0.5, 0.1]), 2)
    0.9
    """
    if alerts >= len(scores):
        return float(scores.min(initial=1.0))
    ranked = np.sort(scores)[::-1]
    reached = ranked[:alerts][ranked[:alerts] > ranked[alerts]]  # those that do not tie with the first one left out
    return float(reached[-1]) if len(reached) else float(np.nextafter(ranked[0], np.inf))


def by_cost(missed: float, alert: float) -> float:
    """The probability from which a review costs less, expected, than letting the transaction pass.

    Reviewing costs `alert`, passing costs `missed` where it was laundering: the score at which p · missed = alert
    (Elkan, "The foundations of cost-sensitive learning", 2001). It holds as far as scores are calibrated.
    """
    return min(1.0, alert / missed)


def by_false_positive_rate(scores: Floats, label: NDArray[np.bool_], fpr: float) -> float:
    """The lowest threshold that at most a share `fpr` of the normal transactions reaches.

    Raises:
        TrainingError: no transaction is normal.
    """
    normal = scores[~label]
    if not len(normal):
        raise TrainingError("no transaction is normal", mend="choose a longer validation period")
    return within(normal, math.floor(fpr * len(normal)))
