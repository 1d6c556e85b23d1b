"""Drift: do the inputs, scores and rates of a window still look like the bundle's reference profile?

The measure is the population stability index, PSI = Σ (p − q)·ln(p / q), over frozen quantile bins. With B
bins and n and m rows it is about (B − 1)(1/n + 1/m) when nothing has changed, so a fixed limit alarms on
every small window. Here an alarm needs both significance (PSI ÷ (1/n + 1/m) is about χ² with B − 1 degrees of
freedom; Holm's correction over all checks) and a material size. (Yurdakul and Naranjo, "Statistical
properties of the population stability index", Journal of Risk Model Validation 14(4), 2020; Holm 1979.)

What size is material differs by column. Of what a payment itself says, the profile keeps how far the reference's
own weeks and days are from the rest of it, and four times that is the floor, within limits. For columns that
depend on an account's past, and profiles that do not say what is usual, the floors are fixed. They were measured
on simulated traffic in which nothing changes (600 and 3,000 accounts, known for 75 days before a reference of 14
or 30, 6 seeds; `only_shown` features aside). Windows of a week stay below a PSI of 0.29, of a fortnight below
0.18; amounts x 1.6 give 0.30 to 0.78. Windows of a day or two reach 0.92 and 0.5 to 2.0 times the usual volume,
for salary days and weekends are unlike a whole reference; a fifth of the payments in a new format gives 1.2 to
2.8. So short windows show gross changes only: use weeks. In populations known for less long, habits still settle
(share of new partners), and healthy weeks do alarm.

Beside the columns: rates and volume, segments, kinds (`monitoring.categories`), all features together
(`monitoring.domain`), and where in the window each column moved (the heat map). One correction covers all of them.

Drift alone is a reason to retrain and to review, and none to roll back: the previous model sees the same drift. A
policy may have it otherwise (`monitoring.rollback`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from monitoring.categories import Categories, CategoryDrift, measure_category
from monitoring.distance import gaps, psi
from monitoring.domain import DomainDrift, measure_domain
from monitoring.heat import HeatMap, heat_map
from monitoring.profile import Histogram, ReferenceProfile, Segment, align, bins_of, check_window
from riskdistill.errors import ConfigError
from riskdistill.features.spec import TRANSACTION_FEATURES

RECOMMENDATION: Final = {
    "stable": "nothing to do",
    "drift": "retrain and review; drift alone is no reason to roll back",
}


_GROWING: Final = ("_total_count", "_total_sum", "_age", "_peer_senders", "_peer_receivers")
_HISTORY: Final = ("sender_", "receiver_", "pair_", "reverse_", "common_", "relays", "returns", "copay")
VOLUME: Final = "rows_per_hour"
ALL_TOGETHER: Final = "all features together"
_PAIRS: Final = frozenset({"pair_count", "reverse_count"})  # all payments of the pair so far
_CALENDAR: Final = frozenset(feature.name for feature in TRANSACTION_FEATURES if feature.group == "calendar")
_DAY: Final = 20.0  # hours, below which a window is no day
_WEEK: Final = 156.0  # hours from the first to the last transaction of a week, and half a day of silence at most


def only_shown(name: str) -> bool:
    """Whether a feature moves away from any reference on healthy traffic, so that it may not alarm.

    Ages, totals over the life of an account or a pair, and the neighbours' counts of all their peers grow for as
    long as the accounts live; the calendar of a window is another than the reference's by definition.
    """
    return name.endswith(_GROWING) or name in _CALENDAR or name in _PAIRS


def of_history(name: str) -> bool:
    """Whether a feature depends on what an account did before: habits settle for as long as accounts are known."""
    return name.startswith(_HISTORY)


class DriftPolicy(BaseModel):
    """When a difference is an alarm.

    Transactions of one account are not independent, so that significance alone would alarm too often.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.01, gt=0, lt=1, description="chance of any false alarm in one window")
    material_psi: float = Field(default=0.3, ge=0, description="a larger PSI is material whatever is usual")
    material_psi_days: float = Field(default=1.0, ge=0, description="the same for windows shorter than a week")
    least_psi: float = Field(default=0.1, ge=0, description="a smaller PSI is never an alarm")
    least_psi_days: float = Field(default=0.25, ge=0, description="the same for windows shorter than a week")
    usual_factor: float = Field(default=4.0, ge=1, description="nor is one within this factor of the usual")
    material_ratio: float = Field(default=2.0, gt=1, description="nor is a rate within this factor")
    material_volume_days: float = Field(default=3.0, gt=1, description="the same for the volume of such windows")
    material_auc: float = Field(default=0.9, ge=0.5, le=1, description="nor all features together below this")
    material_unseen: float = Field(default=0.02, ge=0, le=1, description="share of rows of kinds never seen")

    def floor(self, hours: float | None, usual: Histogram | None = None) -> float:
        """The smallest PSI that is an alarm in a window of so many `hours`; None: of whole weeks."""
        short = _short(hours)
        most, least = (
            (self.material_psi_days, self.least_psi_days) if short else (self.material_psi, self.least_psi)
        )
        known = None if usual is None else (usual.usual_day if short else usual.usual_week)
        if usual is None or known is None or of_history(usual.name) or (hours is not None and hours < _DAY):
            return most
        return min(most, max(least, self.usual_factor * known))

    def ratio(self, rate: str, hours: float | None) -> float:
        """The smallest factor between a rate and its reference that is an alarm."""
        return self.material_volume_days if _short(hours) and rate == VOLUME else self.material_ratio


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    p_value: float
    alarm: bool = False  # until all checks are known: the correction needs them together


class PsiDrift(_Check):
    """How far one column is from its reference."""

    psi: float
    expected_psi: float = Field(description="what sampling noise alone gives at these sizes")
    floor: float = Field(description="a smaller PSI is no alarm in this column and a window of this length")
    ks: float = Field(description="largest gap between the distribution functions, at the bins' edges")
    wasserstein: float = Field(description="mean gap, in shares of the reference's rows")
    missing: float = Field(description="share of rows without a finite value")
    expected_missing: float
    only_shown: bool = Field(default=False, description="moves on healthy traffic too, and never alarms")


class RateDrift(_Check):
    """How far a rate is from its reference: alert_rate and bypass_rate (shares of rows), or rows_per_hour."""

    actual: float
    expected: float


Check = PsiDrift | RateDrift | CategoryDrift | DomainDrift  # each with a p-value, and whether it is an alarm


class LoggedWindow(BaseModel):
    """Which decisions a window is of; the hash is of its last entry, which the log must still hold.

    Attributes:
        start, end: decided then or later, and before; None is no limit.
    """

    model_config = ConfigDict(frozen=True)

    start: datetime | None
    end: datetime | None
    first_sequence: int
    last_sequence: int
    hash: str


class DriftReport(BaseModel):
    """The drift of one window, JSON-able."""

    model_config = ConfigDict(frozen=True)

    rows: int
    reference_rows: int
    policy: DriftPolicy
    features: tuple[PsiDrift, ...]
    score: PsiDrift
    rates: tuple[RateDrift, ...]
    categories: tuple[CategoryDrift, ...] = ()
    domain: DomainDrift | None = Field(default=None, description="all features together")
    heat: HeatMap | None = Field(default=None, description="where in the window each column moved")
    verdict: Literal["stable", "drift"]
    recommendation: str
    bundle: str | None = Field(default=None, description="version of the bundle whose profile it is")
    logged: LoggedWindow | None = Field(default=None, description="where the window is one of a decision log")

    @property
    def drifting(self) -> tuple[str, ...]:
        """Names of everything that alarms: columns, the largest PSI first, then rates, kinds, all together."""
        columns = sorted((*self.features, self.score), key=lambda column: -column.psi)
        found: list[PsiDrift | RateDrift | CategoryDrift] = [*columns, *self.rates, *self.categories]
        together = (ALL_TOGETHER,) if self.domain is not None and self.domain.alarm else ()
        return (*(one.name for one in found if one.alarm), *together)

    @property
    def checks(self) -> int:
        """How many comparisons could alarm."""
        columns = sum(not column.only_shown for column in (*self.features, self.score))
        return columns + len(self.rates) + len(self.categories) + (self.domain is not None)


@dataclass(frozen=True)
class Traffic:
    """What is known of a window beside features and scores; each part that is not known is not compared.

    Attributes:
        times: int64 [rows], microseconds since 1970, for the heat map.
        categories: kinds of the rows, or of some of them, by name.
        segments: rows and alert rate of each segment that the profile knows, by name.
        sample: features of reference rows, float32 in the profile's order, to tell all of them together apart.
    """

    times: NDArray[np.int64] | None = None
    categories: Categories = field(default_factory=dict)
    segments: Mapping[str, Segment] | None = None
    sample: NDArray[np.float32] | None = None


def measure_drift(
    profile: ReferenceProfile,
    context: NDArray[np.float32],
    names: Sequence[str],
    score: NDArray[np.float64],
    *,
    alert_rate: float | None = None,
    bypass_rate: float | None = None,
    hours: float | None = None,
    policy: DriftPolicy | None = None,
    traffic: Traffic | None = None,
) -> DriftReport:
    """Compare a window with `profile`. Whole weeks keep the rhythm of days out of the comparison.

    Args:
        profile: the reference.
        context: features, shape (rows, len(names)), columns in any order; NaN and infinity count as missing.
        names: the columns of `context`; the same set as the profile's.
        score: the student's calibrated scores, shape (rows,).
        alert_rate: share of rows that alerted (review or hold), if it is to be checked.
        bypass_rate: share of rows that went to the teacher, if it is to be checked.
        hours: length of the window, if it is not whole weeks, or volume is to be checked.
        policy: when a difference is an alarm.
        traffic: what else is known of the window.

    Raises:
        EmptyInputError: there are no rows.
        MissingColumnError: `names` are not the profile's features.
        DataError: shapes do not agree, or a score is not finite.
        ConfigError: a rate outside 0..1 or `hours` not above 0.
    """
    policy, traffic = policy or DriftPolicy(), traffic or Traffic()
    check_window(context, names, score)
    context = align(context, names, profile.names)
    bins = [bins_of(context[:, i], histogram.edges) for i, histogram in enumerate(profile.features)]
    bins.append(bins_of(score, profile.score.edges))
    histograms = (*profile.features, profile.score)
    measured = [
        _psi(histogram, found, policy.floor(hours, histogram))
        for histogram, found in zip(histograms, bins, strict=True)
    ]
    rates = _rates(profile, len(score), alert_rate, bypass_rate, hours)
    if traffic.segments is not None:
        rates += _segments(profile, len(score), traffic.segments)
    categories = [
        measure_category(known, traffic.categories[known.name])
        for known in profile.categories
        if known.name in traffic.categories
    ]
    domain = None
    if traffic.sample is not None:
        told = [place for place, name in enumerate(profile.names) if not only_shown(name)]
        domain = measure_domain(traffic.sample, context, told)
    columns = [column for column in measured if not column.only_shown]
    judged = _judged([*columns, *rates, *categories, *([domain] if domain else [])], policy, hours)
    alarms = {check.name: check for check in judged if isinstance(check, PsiDrift)}
    measured = [alarms.get(column.name, column) for column in measured]
    verdict: Literal["stable", "drift"] = "drift" if any(check.alarm for check in judged) else "stable"
    return DriftReport(
        rows=len(score),
        reference_rows=profile.rows,
        policy=policy,
        features=tuple(measured[:-1]),
        score=measured[-1],
        rates=tuple(check for check in judged if isinstance(check, RateDrift)),
        categories=tuple(check for check in judged if isinstance(check, CategoryDrift)),
        domain=next((check for check in judged if isinstance(check, DomainDrift)), None),
        heat=None if traffic.times is None else heat_map(histograms, bins, traffic.times),
        verdict=verdict,
        recommendation=RECOMMENDATION[verdict],
    )


def _judged(checked: Sequence[Check], policy: DriftPolicy, hours: float | None) -> list[Check]:
    """The same checks, each an alarm where it is significant among all of them and large enough to matter."""
    significant = _holm([check.p_value for check in checked], policy.alpha)
    return [
        check.model_copy(update={"alarm": bool(found and _material(check, policy, hours))})
        for check, found in zip(checked, significant, strict=True)
    ]


def _material(check: Check, policy: DriftPolicy, hours: float | None) -> bool:
    """Whether a difference is large enough to matter, significant or not."""
    match check:
        case PsiDrift():
            return check.psi >= check.floor
        case RateDrift():
            return _beyond(check, policy.ratio(check.name, hours))
        case CategoryDrift():
            return check.psi >= policy.floor(hours) or check.unseen >= policy.material_unseen
        case DomainDrift():
            return check.auc >= policy.material_auc


def _psi(reference: Histogram, bins: NDArray[np.uint8], floor: float) -> PsiDrift:
    expected = np.asarray(reference.counts)
    actual = np.bincount(bins, minlength=len(expected))
    value, p_value = psi(expected, actual)
    freedom = max(int(((expected + actual) > 0).sum()) - 1, 0)
    ks, wasserstein = gaps(expected, actual)
    return PsiDrift(
        name=reference.name,
        psi=value,
        expected_psi=float(freedom * (1 / expected.sum() + 1 / actual.sum())),
        floor=floor,
        ks=ks,
        wasserstein=wasserstein,
        p_value=p_value,
        missing=float(actual[-1] / actual.sum()),
        expected_missing=float(expected[-1] / expected.sum()),
        only_shown=only_shown(reference.name),
    )


def _segments(profile: ReferenceProfile, rows: int, segments: Mapping[str, Segment]) -> list[RateDrift]:
    """The share of the traffic and the alert rate of each segment."""
    checks = []
    for name, known in profile.segments.items():
        here = segments.get(name, Segment(rows=0, alert_rate=0.0))
        checks.append(_share(f"share of {name}", rows, here.rows / rows, profile.rows, known.rows / profile.rows))
        if here.rows:
            rate = f"alert_rate of {name}"
            checks.append(_share(rate, here.rows, here.alert_rate, known.rows, known.alert_rate))
    return checks


def _rates(
    profile: ReferenceProfile,
    rows: int,
    alert_rate: float | None,
    bypass_rate: float | None,
    hours: float | None,
) -> list[RateDrift]:
    checks = [
        _share(name, rows, actual, profile.rows, expected)
        for name, actual, expected in (
            ("alert_rate", alert_rate, profile.alert_rate),
            ("bypass_rate", bypass_rate, profile.bypass_rate),
        )
        if actual is not None
    ]
    if hours is not None and not hours > 0:
        raise ConfigError(f"the window is {hours} hours long", where="hours", mend="pass a length above 0")
    if hours is not None and profile.rows_per_hour is not None:
        # Given both counts, the window's is binomial if the two periods have one Poisson rate.
        share = hours / (hours + profile.rows / profile.rows_per_hour)
        p_value = float(stats.binomtest(rows, rows + profile.rows, share).pvalue)
        checks.append(RateDrift(name=VOLUME, p_value=p_value, actual=rows / hours, expected=profile.rows_per_hour))
    return checks


def _share(name: str, rows: int, actual: float, reference_rows: int, expected: float) -> RateDrift:
    if not 0 <= actual <= 1:
        raise ConfigError(f"{name} is {actual}", where=name, mend="pass a share between 0 and 1")
    table = [
        [share * size + 0.5, (1 - share) * size + 0.5]
        for share, size in ((actual, rows), (expected, reference_rows))
    ]
    p_value = float(stats.chi2_contingency(table, lambda_="log-likelihood").pvalue)
    return RateDrift(name=name, p_value=p_value, actual=actual, expected=expected)


def _short(hours: float | None) -> bool:
    return hours is not None and hours < _WEEK


def _beyond(rate: RateDrift, ratio: float) -> bool:
    return not rate.expected / ratio < rate.actual < rate.expected * ratio


def _holm(p_values: Sequence[float], alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure rejects, shape (len(p_values),)."""
    order = np.argsort(p_values)
    limits = alpha / np.arange(len(order), 0, -1)
    passed = np.logical_and.accumulate(np.asarray(p_values)[order] <= limits)
    rejected = np.zeros(len(order), dtype=np.bool_)
    rejected[order] = passed
    return rejected
