"""How well scores rank laundering first, and how far they can be read as probabilities.

Labels are bool[n], scores float64[n] in 0..1, higher meaning more suspicious. No figure depends on the order
of the rows: where a budget ends among equal scores, these are alerted in random order, and the expected value
is given. Inputs are taken as checked (`riskdistill.evaluation.metrics.ScoredPeriod` does so).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def best_f1_threshold(labels: Labels, scores: Floats) -> float:
    """The score at and above which alerting gives the highest F1; choose it on the validation period."""
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def f1_at(labels: Labels, scores: Floats, threshold: float) -> float:
    """F1 of alerting every score at or above `threshold`."""
    alerted = scores >= threshold
    return float(2 * (alerted & labels).sum() / (alerted.sum() + labels.sum()))


def alerts_within(budget: float, rows: int) -> int:
    """The number of alerts that a `budget` (share of traffic) allows on `rows` transactions, at least one."""
    return max(1, round(budget * rows))


def alert_probability(scores: Floats, alerts: int) -> Floats:
    """The probability, float64[n], that each row is among the `alerts` highest scores.

    It is 1 above the last alerted score, 0 below it, and shared evenly among the rows that equal it.

    >>> alert_probability(np.array([0.9, 0.5, 0.5, 0.1]), 2)
    array([1. , 0.5, 0.5, 0. ])
    """
    alerts = min(alerts, len(scores))
    last = np.partition(scores, len(scores) - alerts)[len(scores) - alerts]
    above, tied = scores > last, scores == last
    probability: Floats = above.astype(np.float64)
    probability[tied] = (alerts - above.sum()) / tied.sum()
    return probability


def recall_at_fpr(labels: Labels, scores: Floats, fpr: float) -> float:
    """Recall when a share `fpr` of the normal transactions is alerted."""
    false_rate, recall, _ = roc_curve(labels, scores)
    last = int(np.searchsorted(false_rate, fpr, side="right")) - 1
    if last == len(recall) - 1:
        return 1.0
    # Between two points of the curve lie equal scores: alerting a part of them moves along the straight line.
    part = (fpr - false_rate[last]) / (false_rate[last + 1] - false_rate[last])
    return float(recall[last] + part * (recall[last + 1] - recall[last]))


def calibration_error(labels: Labels, scores: Floats, bins: int = 15) -> float:
    """Expected calibration error over `bins` of equal mass; equal scores share a bin.

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (2015).
    """
    edges = np.unique(np.quantile(scores, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, scores, side="left")
    gaps = np.bincount(bin_of, weights=scores - labels)
    return float(np.abs(gaps).sum() / len(scores))


def reliability_groups(labels: Labels, scores: Floats, bins: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Predicted frequency, Wilson's lower limit, observed frequency, upper limit: of each group of scores.

    Every group holds the same predicted amount of laundering; limits are of 95 %.
    """
    ranked = np.sort(scores)
    mass = np.cumsum(ranked)
    edges = np.unique(ranked[np.searchsorted(mass, mass[-1] * np.arange(1, bins) / bins)])
    group = np.searchsorted(edges, scores, side="left")
    size = np.bincount(group)
    used = size > 0
    n = size[used]
    predicted = np.bincount(group, weights=scores)[used] / n
    observed = np.bincount(group, weights=labels)[used] / n
    low, high = wilson(observed, n)
    return np.maximum(predicted, 1e-6), low, observed, high


def wilson(share: Floats | float, n: NDArray[np.int64] | int) -> tuple[Floats, Floats]:
    """Limits of 95 % of a share seen in `n` trials, or of several (Wilson, 1927)."""
    share, z = np.asarray(share, np.float64), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at 0 and at 1 a limit is the share itself, which rounding may miss by a hair
    return np.clip(middle - half, 0.0, share), np.clip(middle + half, share, 1.0)


def bootstrap_pr_auc(
    labels: Labels, scores: Mapping[str, Floats], *, resamples: int = 200, seed: int = 7
) -> dict[str, Floats]:
    """PR-AUC of each model on the same `resamples` draws of rows with replacement: float64[resamples] each.

    The draws are paired: a ratio or a difference of two results, element by element, has the sampling
    distribution of that ratio or difference. A draw without laundering gives NaN. (Efron, 1979.)

    Each model is sorted once; a draw is a count per row, and average precision needs the counts' sums only
    between those distinct scores that laundering has.
    """
    draws = np.random.default_rng(seed)
    rows = len(labels)
    rankings = {name: Ranking(labels, values) for name, values in scores.items()}
    results = {name: np.empty(resamples) for name in scores}
    for draw in range(resamples):
        counts = np.bincount(draws.integers(rows, size=rows), minlength=rows)
        for name, ranking in rankings.items():
            results[name][draw] = ranking.pr_auc(counts)
    return results


class Ranking:
    """One model's rows, best first, cut after each distinct score that a laundering transaction has."""

    def __init__(self, labels: Labels, scores: Floats) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked_scores, ranked_labels = scores[self._order], labels[self._order]
        ends = np.flatnonzero(np.append(np.diff(ranked_scores) != 0, True)) + 1
        caught = np.cumsum(ranked_labels)[ends - 1]
        self._starts = np.concatenate([[0], ends[np.diff(caught, prepend=0) > 0]])
        self._positives = np.flatnonzero(ranked_labels)
        self._group = np.searchsorted(self._starts[1:], self._positives, side="right")

    def pr_auc(self, counts: NDArray[np.int64]) -> float:
        """Average precision when row i is there counts[i] times."""
        ranked = counts[self._order]
        # A sentinel keeps reduceat's last segment, what lies below all laundering, from being empty.
        alerts = np.cumsum(np.add.reduceat(np.append(ranked, 0), self._starts)[:-1])
        caught = np.bincount(self._group, weights=ranked[self._positives], minlength=len(alerts))
        total = caught.sum()
        if total == 0:
            return float("nan")
        precision = np.cumsum(caught) / np.maximum(alerts, 1)
        return float((precision * caught).sum() / total)
