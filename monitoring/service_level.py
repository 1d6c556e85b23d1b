"""What the service did while the previous model served: the limits that a new champion's errors, time and final
alerts are held to.

Hours differ by more than chance (nights, peaks of load), so the limit is above the mean by two deviations of what
chance leaves open and of what the hours add to it. A steady service gets a tight limit, an unsteady one a wide one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitoring.evidence import Bounds, FinalAlerts, ServiceLimits
from monitoring.pairing import Votes
from riskdistill.storage.decisions import Decision

FAILURES: Final = frozenset({"teacher_late", "teacher_failed"})
LEAST: Final = 1_000  # trials, below which nothing is said
QUANTILE: Final = 0.95  # of the time of the previous model's decisions: what takes longer is slow
LATEST: Final = 28 * 24  # hours that count: a service of long ago says little
_EDGES: Final = np.geomspace(0.05, 60_000, 160)  # ms, each 9 % above the one before


def wanted_teacher(decision: Decision) -> bool:
    """Whether a decision asked the teacher: only there it can fail."""
    return decision.route == "teacher" or decision.route_reason in FAILURES


def final_alert(decision: Decision) -> bool:
    """Whether it was an alert in the end, whoever decided; one that a suppression lets pass was one."""
    return decision.action != "allow" or decision.suppression is not None


def student_alert(decision: Decision) -> bool:
    """Whether the student's score alone calls for an alert."""
    return final_alert(decision) if decision.bypass is None else decision.bypass.student_action != "allow"


class ServiceHours:
    """Errors, times and final alerts of one release, by hour.

    How many final alerts come of one of the student's is told by votes, as a champion's are: one of an account a
    day (`monitoring.case`). By payments it would be another ratio wherever one of the two raises more alerts on an
    account than the other, and drift that hits both alike would look like harm.
    """

    def __init__(self) -> None:
        self._asked: dict[int, NDArray[np.int64]] = {}  # failed and answered
        self._times: dict[int, NDArray[np.int64]] = {}
        self._alerts: dict[int, NDArray[np.int64]] = {}  # in the end, and what was let pass
        self._voted: dict[int, NDArray[np.int64]] = {}  # [in the end, by the student alone]: whether there was one
        self._votes = Votes()

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        hour = int(decision.decided_at.timestamp() // 3_600)
        if wanted_teacher(decision):
            self._asked.setdefault(hour, np.zeros(2, np.int64))[int(decision.route == "teacher")] += 1
        times = self._times.setdefault(hour, np.zeros(len(_EDGES) + 1, np.int64))
        times[np.searchsorted(_EDGES, decision.latency_ms)] += 1
        final, student = final_alert(decision), student_alert(decision)
        self._alerts.setdefault(hour, np.zeros(2, np.int64))[int(not final)] += 1
        sender, day = decision.transaction.sender_account, decision.decided_at.toordinal()
        if (final or student) and self._votes.first(sender, day):
            self._voted.setdefault(hour, np.zeros((2, 2), np.int64))[int(final), int(student)] += 1

    def limits(self) -> ServiceLimits:
        """The limits that these hours give."""
        asked = np.array(_latest(self._asked)).reshape(-1, 2)
        errors = upper_rate(asked[:, 0], asked.sum(1))
        times = np.array(_latest(self._times)).reshape(-1, len(_EDGES) + 1)
        total = times.sum(0).cumsum()
        alerts = np.array(_latest(self._alerts)).reshape(-1, 2)
        final = _final(alerts, sum(_latest(self._voted), np.zeros((2, 2), np.int64)))
        if not len(times) or total[-1] < LEAST:
            return ServiceLimits(errors=errors)
        edge = min(int(np.searchsorted(total, QUANTILE * total[-1])), len(_EDGES) - 1)
        slow = upper_rate(times[:, edge + 1 :].sum(1), times.sum(1))
        return ServiceLimits(errors, slow, float(_EDGES[edge]), final)


def _latest(hours: dict[int, NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    return [counts for _, counts in sorted(hours.items())[-LATEST:]]


def _final(alerts: NDArray[np.int64], votes: NDArray[np.int64]) -> FinalAlerts | None:
    """The rate of `alerts` (by hour: in the end, not) and the ratio of `votes` (in the end, by the student)."""
    rate = usual_rate(alerts[:, 0], alerts.sum(1))
    if rate is None:
        return None
    (_, student), (final, both) = votes + 0.5
    ratio = (final + both) / (student + both)
    chance = np.exp(2 * np.sqrt((final + student) / ((final + both) * (student + both))))
    return FinalAlerts(rate, Bounds(float(ratio / chance), float(ratio * chance)))


def upper_rate(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> float | None:
    """A rate that hours like these do not exceed on the whole; None below `LEAST` trials.

    Example:
        >>> steady = upper_rate(np.full(168, 120), np.full(168, 6_000))
        >>> unsteady = upper_rate(np.tile([60, 180], 84), np.full(168, 6_000))
        >>> steady < 0.0205 < 0.03 < unsteady
        True
    """
    usual = usual_rate(successes, trials)
    return None if usual is None else usual.high


def usual_rate(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> Bounds | None:
    """Between which rates hours like these are on the whole; None below `LEAST` trials."""
    total = int(trials.sum())
    if total < LEAST:
        return None
    rate = (successes.sum() + 0.5) / (total + 1)
    chance = rate * (1 - rate) / trials
    between = 0.0
    if len(trials) > 1:
        squares = (successes / trials - rate) ** 2 / chance  # each about 1 where hours do not differ
        noise = 1 + 2 * np.sqrt(2 / (len(trials) - 1))
        between = max(0.0, float(squares.mean() - noise)) * float(chance.mean())
    off = 2 * np.sqrt(rate * (1 - rate) / total + between)
    return Bounds(float(max(rate / 10, rate - off)), float(min(0.99, rate + off)))
