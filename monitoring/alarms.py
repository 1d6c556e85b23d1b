"""Alarms beside the controller's, which ask for a person and never act: silence, drift, labels that cannot be
trusted, and what labels say of precision and of what was missed, or let one expect.

Estimated precision and recall only alarm. An estimate is no sequence of bets on payments but one number of a whole
week, fitted anew each time on labels and scores that the next one uses again, so that no sequential test has a
stated chance of being wrong on it. And what it estimates moves with the traffic, which the previous model sees.

`riskdistill monitor watch` runs them on the logs of a service (`pipelines.live_alarms`), and the drills on a stream
with a fault in it (`monitoring.drills`), with the same thresholds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict
from scipy import stats

from monitoring.drift import DriftReport
from monitoring.label_check import second_looks
from monitoring.maturity import DAY
from monitoring.performance import Decided, Interval, WindowPerformance, measure_performance

HOUR: Final = DAY // 24
SILENCE: Final = 3  # times the longest gap that is usual
WEEK: Final = 7 * DAY  # of traffic, before which nobody knows what is usual
LABELS_EVERY: Final = DAY  # how often labels are checked
PERFORMANCE_EVERY: Final = 3 * DAY
CERTAIN: Final = 1e-4  # p-value of a single check of labels or of what was missed
WORSE: Final = 4.0  # deviations that a fall of precision must have: windows overlap, and are many


class Alarm(BaseModel):
    """One alarm of one monitor."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    detector: str
    detail: str


def silence(last: int, gap: int, now: int) -> Alarm | None:
    """Whether the traffic has stopped.

    Args:
        last: when the newest payment was decided on, microseconds since 1970.
        gap: the longest time without one that is usual.
    """
    quiet = now - last
    if quiet <= SILENCE * gap:
        return None
    told = f"nothing for {quiet / HOUR:.1f} hours; the longest that is usual is {gap / HOUR:.1f}"
    return Alarm(at=moment(now), detector="volume", detail=told)


class Quiet:
    """How long a service is usually without a payment, learned as decisions come; what alarmed is not usual."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = self._gap = 0

    def add(self, time: int) -> None:
        """A decision, microseconds since 1970."""
        if self._first is None:
            self._first = self._last = time
        gap = time - self._last
        if gap > self._gap and not (self._is_known and gap > SILENCE * self._gap):
            self._gap = gap
        self._last = max(self._last, time)

    def alarm(self, now: int) -> Alarm | None:
        """Whether the traffic has stopped; None, too, until a week of it was seen."""
        return silence(self._last, self._gap, now) if self._is_known else None

    @property
    def _is_known(self) -> bool:
        return self._first is not None and self._last - self._first >= WEEK


def drifted(report: DriftReport, now: int) -> Alarm | None:
    """What a drift report says, if it says drift."""
    if report.verdict != "drift":
        return None
    psi = {column.name: f" ({column.psi:.2f})" for column in (*report.features, report.score)}
    told = ", ".join(f"{name}{psi.get(name, '')}" for name in report.drifting[:6])
    return Alarm(at=moment(now), detector=f"drift: {report.drifting[0]}", detail=told)


def contradicted(rows: Decided, now: int) -> Alarm | None:
    """Whether second looks contradict the labels more than usual."""
    found = second_looks(rows.label, rows.again, rows.again_known, now)
    if found is None or found.p_value >= CERTAIN:
        return None
    told = f"{found.contradicted} of {found.looks} second looks contradict; {found.usual:.1%} is usual"
    return Alarm(at=moment(now), detector="labels", detail=told)


def worse(rows: Decided, now: int) -> Alarm | None:
    """Whether the last mature week is worse than scores promised, more was missed in it than before, or the week
    that just ended is estimated to be worse than mature ones were.

    Raises:
        EmptyInputError: nothing was decided until `now`.
    """
    windows = measure_performance(rows, moment(now)).windows
    mature = [window for window in windows if window.mature]
    if not mature:
        return None
    *earlier, last = mature
    if (detail := _fell(last)) is not None:
        return Alarm(at=moment(now), detector="performance: precision", detail=detail)
    if earlier and (detail := _missed(last, earlier)) is not None:
        return Alarm(at=moment(now), detector="performance: missed", detail=detail)
    if windows[-1].end != moment(now):  # nothing was decided in the week that just ended
        return None
    return _foreseen(windows[-1], mature, now)


def _foreseen(week: WindowPerformance, mature: list[WindowPerformance], now: int) -> Alarm | None:
    """Whether all that estimates leave open for a week is below what mature ones realised, at the least."""
    told = week.estimated
    precision = None if told is None else Interval(value=told.combined, low=told.low, high=told.high)
    for name, estimated, realised in (
        ("precision", precision, [one.precision for one in mature]),
        ("recall", week.estimated_recall, [one.recall for one in mature]),
    ):
        known = [one.low for one in realised if one is not None]
        if estimated is None or not known:
            continue
        usual = sum(known) / len(known)
        if estimated.high < usual:
            detail = f"week to {week.end:%F}: at most {estimated.high:.0%}; mature weeks had at least {usual:.0%}"
            return Alarm(at=moment(now), detector=f"performance: estimated {name}", detail=detail)
    return None


def _fell(week: WindowPerformance) -> str | None:
    if week.fall is None or week.fall <= WORSE:
        return None
    assert week.precision is not None  # a fall is of one against the other
    assert week.estimated is not None
    promised = f"scores promised {week.estimated.confidence:.0%}"
    return f"week to {week.end:%F}: precision {week.precision.value:.0%}, {promised}"


def _missed(week: WindowPerformance, earlier: list[WindowPerformance]) -> str | None:
    table = [
        [week.missed, week.sampled - week.missed],
        [sum(one.missed for one in earlier), sum(one.sampled - one.missed for one in earlier)],
    ]
    p_value = float(stats.fisher_exact(table, alternative="greater").pvalue)
    if p_value >= CERTAIN:
        return None
    return f"week to {week.end:%F}: {week.missed} of {week.sampled} sampled laundering, p {p_value:.1g}"


def moment(microseconds: int) -> datetime:
    """A time since 1970, in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
