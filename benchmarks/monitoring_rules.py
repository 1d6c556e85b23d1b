"""The rules of thumb that sequential tests are compared with: they look at z-values of single looks or of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RULES: Final = ("three consecutive", "four of twelve", "cumulative z")
CRITICAL: Final = float(stats.norm.ppf(0.95))  # p < 0.05, one-sided
NEVER: Final = 10_000  # looks: stands for an alarm that did not come
ERRORS: Final = 0.02  # the rate that is usual
Deviation = tuple[NDArray[np.float64], NDArray[np.float64]]  # sum of what is beyond the expected, and its variance
Statistic = Callable[[Mapping[str, NDArray[np.int64]]], Deviation]


class Rules:
    """All rules on one statistic, of many streams side by side."""

    def __init__(self) -> None:
        self._looks: list[Deviation] = []

    def look(self, beyond: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
        """See one look's deviation from the expected, shape (streams,), and its variance."""
        self._looks.append((beyond, variance))

    def first(self, rule: str) -> NDArray[np.int64]:
        """The look, from 0, at which a rule alarms first; -1 where it never does. Shape (streams,)."""
        beyond, variance = (np.array(part, np.float64) for part in zip(*self._looks, strict=True))
        if rule == "cumulative z":
            beyond, variance = beyond.cumsum(0), variance.cumsum(0)
        high = beyond > CRITICAL * np.sqrt(np.maximum(variance, 1e-9))
        wanted, within = {"three consecutive": (3, 3), "four of twelve": (4, 12), "cumulative z": (1, 1)}[rule]
        count = high.cumsum(0)
        count[within:] -= count[:-within].copy()
        alarm = count >= wanted
        return np.where(alarm.any(0), alarm.argmax(0), -1)


def _errors(news: Mapping[str, NDArray[np.int64]]) -> Deviation:
    failed = news["failed"][:, 0]
    trials = failed + news["answered"][:, 0]
    return failed - ERRORS * trials, ERRORS * (1 - ERRORS) * trials


def _excess(worse: str, better: str) -> Statistic:
    def statistic(news: Mapping[str, NDArray[np.int64]]) -> Deviation:
        a, b = news[worse][:, 0], news[better][:, 0]
        return (a - b).astype(np.float64), (a + b).astype(np.float64)

    return statistic


STATISTICS: Final[dict[str, Statistic]] = {
    "errors": _errors,
    "precision": _excess("champion_false", "previous_false"),
    "recall": _excess("previous_alone", "champion_alone"),
}


def middle(looks: NDArray[np.int64]) -> float:
    """The median; NEVER where half of the streams have no alarm."""
    return float(np.median(looks))


def spread(looks: NDArray[np.int64]) -> str:
    """The middle 90 %, how many were not found, and how many alarmed before there was harm."""
    low, high = (
        "never" if end == NEVER else int(end) for end in np.quantile(looks, (0.05, 0.95), method="nearest")
    )
    missed, early = int((looks == NEVER).sum()), int((looks <= 0).sum())
    told = f"90 % {low} to {high}; {len(looks):,} runs"
    return told + (f", {missed} not found" if missed else "") + (f", {early} alarmed before" if early else "")


def proportion(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a share."""
    interval = stats.binomtest(successes, trials).proportion_ci()
    return float(interval.low), float(interval.high)
