"""Performance where labels come late: what is realised once they had their time, what is estimated before.

Labels exist for alerts, and for the random sample of what was let pass (`Decision.sample_share`). So precision
comes from the labelled alerts, and what was missed from the labelled sample, each row of it weighted by how many
rows it stands for (inverse propensity; Horvitz and Thompson, JASA 47, 1952). Without a sample only the laundering
that came to light by other ways is known to have been missed, and recall is an upper bound.

Recall is estimated from two estimates: of precision, and in the same way of how much of the sample is laundering.

Every estimate is made as it could have been at the end of its window, also for windows that are mature by now:
the two stand side by side, so that a reader sees how far estimates can be trusted. The disagreement of student
and teacher on the same sample needs no labels at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from monitoring.estimates import Alerts, Estimate, Past, estimate
from monitoring.label_check import SecondLooks, second_looks
from monitoring.maturity import DAY, maturity
from riskdistill.errors import EmptyInputError

DESIGN_EFFECT: Final = 2.0  # of alerts that belong together on the variance of a share
UNKNOWN: Final = -1  # a label that is not there


class Interval(BaseModel):
    """A share and its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


class Realised(BaseModel):
    """What labels say of some decisions."""

    model_config = ConfigDict(frozen=True)

    decisions: int
    alerts: int
    labelled: int = Field(description="alerts with a label by now")
    sampled: int = Field(description="rows of the random sample with a label by now")
    missed: int = Field(description="laundering among them")
    precision: Interval | None = Field(description="realised; None while labels are not mature, or there is none")
    recall: Interval | None = Field(description="realised; None while labels are not mature, or there is none")
    recall_from: Literal["sample", "known"] = Field(description="known: an upper bound, for there is no sample")


class SegmentPerformance(Realised):
    """One segment in all windows that are mature."""

    name: str


class WindowPerformance(Realised):
    """One window of decisions."""

    start: datetime
    end: datetime
    mature: bool
    estimated: Estimate | None = Field(description="precision as estimated at the end of the window")
    estimated_recall: Interval | None = Field(
        default=None, description="of a window that is not mature, from the sample below the line; None without it"
    )
    disagreement: Interval | None = Field(
        description="share of all decisions on which student and teacher differ about the alert, from the sample"
    )

    @property
    def fall(self) -> float | None:
        """By how many deviations realised precision is below what scores promised; None where either is not there.

        Scores promise what they meant on all older alerts, without regard to age: the estimate itself follows the
        labels, and a fall would hide in it. Payments of a scheme share their fate, which doubles the variance.
        """
        if self.precision is None or self.estimated is None or not self.labelled:
            return None
        promised = self.estimated.confidence
        deviation = np.sqrt(DESIGN_EFFECT * max(promised * (1 - promised), 1e-9) / self.labelled)
        return float((promised - self.precision.value) / deviation)


class PerformanceReport(BaseModel):
    """Performance over time, JSON-able."""

    model_config = ConfigDict(frozen=True)

    now: datetime
    maturity_days: float | None = Field(description="age at which labels are there; None: too few labels to tell")
    mature_share: float
    windows: tuple[WindowPerformance, ...]
    segments: tuple[SegmentPerformance, ...] = Field(description="the watched ones, where windows are mature")
    mean_error: float | None = Field(description="mean distance of estimated from realised precision")
    covered: float | None = Field(description="share of realised figures within their estimate's interval")
    second_looks: SecondLooks | None = Field(description="whether labels can be trusted; None without second looks")


@dataclass(frozen=True)
class Decided:
    """Decisions and what is known of them, row for row, in order of time.

    Attributes:
        time: when it was decided, microseconds since 1970.
        score: that decided.
        alert: whether it was reviewed or held.
        sampled: whether it was drawn at random among those let pass.
        student, teacher: their scores; NaN where the teacher was not asked.
        covariates: float64 [n, k], what may shift.
        label: 1 laundering, 0 not, UNKNOWN.
        known: when the label became known, microseconds since 1970; 0 where it is not.
        again, again_known: the same of a second look by somebody else.
        review: the score from which there is an alert.
        segments: the rows of the segments that are watched, by name (`monitoring.segments`).
    """

    time: NDArray[np.int64]
    score: NDArray[np.float64]
    alert: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    student: NDArray[np.float64]
    teacher: NDArray[np.float64]
    covariates: NDArray[np.float64]
    label: NDArray[np.int8]
    known: NDArray[np.int64]
    again: NDArray[np.int8]
    again_known: NDArray[np.int64]
    review: float
    segments: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def measure_performance(
    rows: Decided, now: datetime, *, days: float = 7.0, mature_share: float = 0.9, seed: int = 0
) -> PerformanceReport:
    """Measure every window of `days` up to `now`.

    Args:
        rows: decisions and labels.
        now: labels that became known later are not used.
        days: length of a window; the last one ends now, and the first may be shorter.
        mature_share: of the labels that ever come, how many must be there.
        seed: of the estimates' bootstrap.

    Raises:
        EmptyInputError: there is no decision before `now`.
    """
    moment = int(now.timestamp() * 1e6)
    if not (rows.time <= moment).any():
        raise EmptyInputError(
            "no decision was made", where="decision log", mend="name the log of a service that ran"
        )
    length = int(days * DAY)
    first = int(rows.time.min())
    ends = np.arange(moment, first, -length)[::-1]
    past: list[tuple[int, Past]] = []  # when it was realised
    windows, judged = [], np.zeros(len(rows.time), np.bool_)
    for end in ends.tolist():
        inside = (rows.time > end - length) & (rows.time <= end)
        if not inside.any():
            continue
        told = _estimate(rows, inside, end, [one for when, one in past if when <= end], seed)
        needed = maturity(rows.time[rows.alert], rows.known[rows.alert], moment, mature_share)
        mature = needed is not None and end + needed <= moment
        judged |= inside & mature
        window = _window(rows, inside, end, length, moment, mature, None if told is None else told[0])
        if told is not None and not mature:
            window = window.model_copy(
                update={"estimated_recall": _estimate_recall(rows, inside, end, told[0], seed)}
            )
        if told is not None and window.precision is not None and needed is not None:
            past.append((end + needed, Past(told[0].combined, window.precision.value, told[1])))
        windows.append(window)
    both = [
        (w.precision.value, w.estimated) for w in windows if w.precision is not None and w.estimated is not None
    ]
    needed = maturity(rows.time[rows.alert], rows.known[rows.alert], moment, mature_share)
    return PerformanceReport(
        now=now,
        maturity_days=None if needed is None else needed / DAY,
        mature_share=mature_share,
        windows=tuple(windows),
        segments=_segments(rows, judged, moment),
        mean_error=float(np.mean([abs(real - told.combined) for real, told in both])) if both else None,
        covered=float(np.mean([told.low <= real <= told.high for real, told in both])) if both else None,
        second_looks=second_looks(rows.label, rows.again, rows.again_known, moment),
    )


def _estimate(
    rows: Decided, inside: NDArray[np.bool_], end: int, past: list[Past], seed: int
) -> tuple[Estimate, float] | None:
    """As it could be made at `end`, from the alerts whose labels were there by then."""
    older = rows.alert & _labelled_by(rows, end)
    return estimate(
        _alerts(rows, older, end), rows.label[older] == 1, _alerts(rows, inside & rows.alert, end), past, seed=seed
    )


def _estimate_recall(
    rows: Decided, inside: NDArray[np.bool_], end: int, precision: Estimate, seed: int
) -> Interval | None:
    """Found over found and missed, both estimated.

    What is missed is off by chance, and beyond that as much of itself as precision is taken to be: below the line
    shares are small, and no earlier estimates of them are kept.
    """
    drawn = rows.sampled & ~rows.alert
    older = drawn & _labelled_by(rows, end)
    told = estimate(
        _alerts(rows, older, end), rows.label[older] == 1, _alerts(rows, inside & drawn, end), seed=seed
    )
    if told is None:
        return None
    missed, chance = told[0].combined, told[1]
    odds = (inside & rows.alert).sum() * precision.combined / ((inside & ~rows.alert).sum() * missed)
    off = (precision.high - precision.low) / (2 * precision.combined)
    off = np.hypot(np.sqrt(2) * off, 1.96 * chance / missed)  # of found and of missed, and the chance of the latter
    low, value, high = (float(one / (1 + one)) for one in odds * np.exp([-off, 0, off]))
    return Interval(value=value, low=low, high=high)


def _labelled_by(rows: Decided, end: int) -> NDArray[np.bool_]:
    return np.asarray((rows.time <= end) & (rows.known > 0) & (rows.known <= end) & (rows.label != UNKNOWN))


def _alerts(rows: Decided, chosen: NDArray[np.bool_], end: int) -> Alerts:
    return Alerts(rows.score[chosen], rows.covariates[chosen], (end - rows.time[chosen]) / DAY)


def _window(
    rows: Decided,
    inside: NDArray[np.bool_],
    end: int,
    length: int,
    now: int,
    mature: bool,
    estimated: Estimate | None,
) -> WindowPerformance:
    realised = _realised(rows, inside, now)
    if not mature:
        realised = realised.model_copy(update={"precision": None, "recall": None})
    return WindowPerformance(
        **dict(realised),
        start=_moment(max(end - length, int(rows.time[inside].min()))),
        end=_moment(end),
        mature=mature,
        estimated=estimated,
        disagreement=_disagreement(rows, inside),
    )


def _segments(rows: Decided, mature: NDArray[np.bool_], now: int) -> tuple[SegmentPerformance, ...]:
    """Each segment in all mature windows together: a single one has too few alerts to tell segments apart."""
    chosen = {name: mature & here for name, here in rows.segments.items()}
    return tuple(
        SegmentPerformance(name=name, **dict(_realised(rows, inside, now)))
        for name, inside in chosen.items()
        if inside.any()
    )


def _realised(rows: Decided, inside: NDArray[np.bool_], now: int) -> Realised:
    known = (rows.label != UNKNOWN) & (rows.known > 0) & (rows.known <= now)
    alerts, rest = inside & rows.alert, inside & ~rows.alert
    labelled, sampled = alerts & known, rest & rows.sampled & known
    precision = share(int((rows.label[labelled] == 1).sum()), int(labelled.sum()))
    recall = None
    if precision is not None:
        recall = _recall(rows, precision, int(alerts.sum()), rest, sampled, known)
    return Realised(
        decisions=int(inside.sum()),
        alerts=int(alerts.sum()),
        labelled=int(labelled.sum()),
        sampled=int(sampled.sum()),
        missed=int((rows.label[sampled] == 1).sum()),
        precision=precision,
        recall=recall,
        recall_from="sample" if sampled.any() else "known",
    )


def _recall(
    rows: Decided,
    precision: Interval,
    alerts: int,
    rest: NDArray[np.bool_],
    sampled: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> Interval | None:
    """Found over found and missed; the interval takes both ends of what was missed with both of what was found."""
    if sampled.any():
        missed = share(int((rows.label[sampled] == 1).sum()), int(sampled.sum()))
        assert missed is not None
        size = int(rest.sum())
        low, value, high = missed.low * size, missed.value * size, missed.high * size
    else:
        low = value = high = float((rows.label[rest & known] == 1).sum())
    found = [alerts * part for part in (precision.low, precision.value, precision.high)]
    if found[1] + value == 0:
        return None
    return Interval(value=found[1] / (found[1] + value), low=_ratio(found[0], high), high=_ratio(found[2], low))


def _disagreement(rows: Decided, inside: NDArray[np.bool_]) -> Interval | None:
    """Those that asked the teacher stand for themselves, the sample for all the others; None without a sample."""
    asked = inside & np.isfinite(rows.teacher)
    drawn, certain = asked & rows.sampled, asked & ~rows.sampled
    differ = (rows.student >= rows.review) != (np.nan_to_num(rows.teacher) >= rows.review)
    rest = share(int((differ & drawn).sum()), int(drawn.sum()))
    if rest is None:
        return None
    total, others = int(inside.sum()), int(inside.sum() - certain.sum())
    apart = int((differ & certain).sum())
    low, value, high = ((apart + others * part) / total for part in (rest.low, rest.value, rest.high))
    return Interval(value=value, low=low, high=high)


def share(successes: int, trials: int) -> Interval | None:
    """A share with Jeffreys' 95 % interval; None without trials.

    Example:
        >>> share(5, 10).value
        0.5
    """
    if not trials:
        return None
    low, high = stats.beta.ppf((0.025, 0.975), successes + 0.5, trials - successes + 0.5)
    return Interval(
        value=successes / trials,
        low=0.0 if not successes else float(low),
        high=1.0 if successes == trials else float(high),
    )


def _ratio(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else 1.0


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
