"""The evidence against a champion: sequential tests of several harms, on the whole traffic and on its segments.

    more_alerts, fewer_alerts   off from the previous model's, and from what the champion's own bundle promises
    false_alerts                of the alerts that one model alone raises, more of the champion's turn out false
    missed                      of known laundering, the previous model alone would have alerted on more
    more_, fewer_, false_final_alerts
                                the same of what was decided in the end, the teacher's answers included
    errors, slow                against the hours in which the previous model served; act for a while only
    teacher_disagreement        alarms only, see `monitoring.rollback`

What belongs together counts once (`monitoring.case`): ten payments of one scheme that a model misses are one piece
of evidence, and tests that took them for ten would roll back a healthy champion within days.

One false-alarm budget is shared out beforehand: to the harms that act (`RollbackPolicy.share`), each in `WHOLE` to
the whole traffic and the rest to the segments. (Final alerts, errors and time do not come by segment.) By the union
bound the chance of any wrong rollback in a champion's whole life is at most `RollbackPolicy.alpha`.

Harm that was shown *stands* until nothing speaks for it any more: until its e-value, which reached 1/alpha, is
back at the 1 that it began with. Between the two nothing changes, so that evidence about the level does not flap.

Counts may have leading dimensions: then as many champions are judged side by side (benchmarks/monitors.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from monitoring.sequential import EitherTest, MatchedPairsTest, PairedRateTest, RateTest

Metric = Literal[
    "more_alerts",
    "fewer_alerts",
    "false_alerts",
    "missed",
    "more_final_alerts",
    "fewer_final_alerts",
    "false_final_alerts",
    "errors",
    "slow",
    "teacher_disagreement",
]
WHOLE: Final = 0.7  # of a harm's budget; the rest is the segments'
ALL: Final = "all"  # the name of the whole among the segments
_OF_FINAL: Final[frozenset[Metric]] = frozenset({"more_final_alerts", "fewer_final_alerts", "false_final_alerts"})
STEP: Final = timedelta(minutes=5)  # with each of which harm may begin
LONG: Final = 12  # steps, in which one of two hypotheses on alerts holds: in short ones chance hides which

ALERTS: Final = ("champion_only", "previous_only", "both")
OWN: Final = ("alerted", "quiet")  # the champion, whatever the previous model did
PAIRS: Final = ("champion_false", "previous_false")  # matched alerts of which one is false
FOUND: Final = ("previous_alone", "champion_alone", "by_both")  # known laundering
FINAL: Final = ("final_only", "shadow_only", "final_and_shadow")  # beside the previous model's student
ENDED: Final = ("ended_alert", "let_pass")  # whatever the previous model did
FINAL_PAIRS: Final = ("final_false", "shadow_false")  # as PAIRS
FAILED: Final = ("failed", "answered")  # of the decisions that wanted the teacher
SLOW: Final = ("slow", "in_time")
DISTANCES: Final = ("champion_farther", "previous_farther")
BY_SEGMENT: Final = (*ALERTS, *OWN, *PAIRS, *FOUND)
KINDS: Final[Mapping[Metric, tuple[str, ...]]] = {
    "more_alerts": (*ALERTS, *OWN),
    "fewer_alerts": (*ALERTS, *OWN),
    "false_alerts": PAIRS,
    "missed": FOUND,
    "more_final_alerts": (*FINAL, *ENDED),
    "fewer_final_alerts": (*FINAL, *ENDED),
    "false_final_alerts": FINAL_PAIRS,
    "errors": FAILED,
    "slow": SLOW,
    "teacher_disagreement": DISTANCES,
}
OF_WHOLE: Final = (*FINAL, *ENDED, *FINAL_PAIRS, *FAILED, *SLOW, *DISTANCES)
_NO_SEGMENTS: Final = frozenset(metric for metric, kinds in KINDS.items() if kinds[0] in OF_WHOLE)


class RollbackPolicy(BaseModel):
    """When the controller acts. A margin is how many times worse than the previous model is still no harm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.01, gt=0, lt=1, description="chance of a wrong rollback per champion")
    alert_margin: float = Field(default=1.5, ge=1, description="ratio of alert rates, either way")
    false_alert_margin: float = Field(default=1.1, ge=1, description="ratio of the odds of a false alert")
    missed_margin: float = Field(default=1.02, ge=1, description="ratio of the laundering that is alerted on")
    error_margin: float = Field(default=1.0, ge=1, description="ratio of the odds of an error")
    slow_margin: float = Field(default=1.5, ge=1, description="ratio of the odds of a slow decision")
    teacher_margin: float = Field(default=1.5, ge=1, description="odds of being farther from the teacher")
    tolerance: float = Field(default=0.02, ge=0, description="distances from the teacher this close are equal")
    labels: bool = Field(default=False, description="labels will come: they share the false-alarm budget")
    minimum: int = Field(default=200, ge=1, description="transactions compared before any action")
    trial: timedelta = Field(
        default=timedelta(days=1),
        ge=timedelta(0),
        description="time from its promotion in which errors and slow decisions are put down to the champion",
    )
    cool_down: timedelta = Field(
        default=timedelta(minutes=10), ge=timedelta(0), description="rest after a rollback"
    )
    drift_acts: bool = Field(
        default=False,
        description="drift alone is a reason to roll back; its chance of a false alarm comes on top of alpha",
    )
    dry_run: bool = Field(default=False, description="say what would be done, and do not do it")

    @property
    def acting(self) -> tuple[Metric, ...]:
        """The harms that lead to a rollback, settled beforehand: they share the budget."""
        labelled: tuple[Metric, ...] = ("false_alerts", "missed", "false_final_alerts") if self.labels else ()
        return (
            "more_alerts",
            "fewer_alerts",
            "more_final_alerts",
            "fewer_final_alerts",
            *labelled,
            "errors",
            "slow",
        )

    def share(self, metric: Metric) -> float:
        """The part of `alpha` that a harm that acts has. Those of final alerts have one part together.

        They see most of what the students' tests see before them, and each part of its own makes all others slower.
        """
        final = [one for one in self.acting if one in _OF_FINAL]
        part = self.alpha / (len(self.acting) - len(final) + 1)
        return part / len(final) if metric in _OF_FINAL else part


class Measure(BaseModel):
    """One measure of harm after a look: the evidence against the champion so far."""

    model_config = ConfigDict(frozen=True)

    metric: Metric
    segment: str = ALL
    e_value: float = Field(description="the largest so far; harm is shown at 1 / alpha")
    alpha: float = Field(description="its share of the false-alarm budget")
    margin: float
    counts: dict[str, int]
    harm: bool = Field(description="whether harm was shown, and something still speaks for it")
    acts: bool = Field(description="whether harm is a reason to roll back, or to alarm a person only")


@dataclass(frozen=True)
class Expectation:
    """What the champion's bundle says of its student.

    Attributes:
        review: the score from which it alerts: a stored action may be the teacher's, a shadow is a student's alone.
        alert_rate: share of its reference period on which it alerted, above 0 and below 1.
        segments: the same for the segments that are watched, by name (`monitoring.segments`).
    """

    review: float
    alert_rate: float
    segments: Mapping[str, float] = field(default_factory=dict)

    def times(self, other: Expectation) -> NDArray[np.float64]:
        """How many times as often as `other` it promises to alert, on the whole and on each of its segments.

        What `other` says nothing of takes the ratio of the whole.
        """
        whole = self.alert_rate / other.alert_rate
        ratios = (
            rate / other.segments[name] if name in other.segments else whole for name, rate in self.segments.items()
        )
        return np.array([whole, *ratios])


class Bounds(NamedTuple):
    """What a rate or a ratio usually lies between."""

    low: float
    high: float


class FinalAlerts(NamedTuple):
    """What was an alert in the end, while the previous model served.

    Attributes:
        rate: of the decisions.
        ratio: to the alerts of the previous model's student alone, in accounts' votes (`monitoring.case`).
    """

    rate: Bounds
    ratio: Bounds


@dataclass(frozen=True)
class ServiceLimits:
    """Rates that the previous model's hours keep to; None: not known.

    Attributes:
        errors: of the decisions that want the teacher, at most.
        slow: of all decisions, at most.
        slow_ms: a decision that takes longer is slow.
        final: how many were alerts in the end.
    """

    errors: float | None = None
    slow: float | None = None
    slow_ms: float = float("inf")
    final: FinalAlerts | None = None


class Evidence:
    """All tests against one champion.

    Args:
        policy: margins and budget.
        expected: what its bundle promises.
        limits: what the service did before it.
        previous: what the previous bundle promises; None: the same.
    """

    def __init__(
        self,
        policy: RollbackPolicy,
        expected: Expectation,
        limits: ServiceLimits,
        previous: Expectation | None = None,
    ) -> None:
        self.policy = policy
        self.groups = (ALL, *expected.segments)
        rates = np.array([expected.alert_rate, *expected.segments.values()])
        times = expected.times(previous or expected)
        odds = rates / (1 - rates)  # unlike a rate, times the margin never above 1
        self._more = _alert_test(policy.alert_margin, times, _share(odds * policy.alert_margin))
        self._fewer = _alert_test(policy.alert_margin, 1 / times, 1 - _share(odds / policy.alert_margin))
        self._false = MatchedPairsTest(policy.false_alert_margin)
        self._missed = PairedRateTest(policy.missed_margin)
        self._more_final, self._fewer_final = _final_tests(policy.alert_margin, float(times[0]), limits.final)
        self._false_final = MatchedPairsTest(policy.false_alert_margin)
        self._errors = _limit(limits.errors, policy.error_margin)
        self._slow = _limit(limits.slow, policy.slow_margin)
        self._farther = RateTest(policy.teacher_margin / (1 + policy.teacher_margin))
        self._tests: dict[Metric, EitherTest | MatchedPairsTest | PairedRateTest | RateTest | None] = {
            "more_alerts": self._more,
            "fewer_alerts": self._fewer,
            "false_alerts": self._false,
            "missed": self._missed,
            "more_final_alerts": self._more_final,
            "fewer_final_alerts": self._fewer_final,
            "false_final_alerts": self._false_final,
            "errors": self._errors,
            "slow": self._slow,
            "teacher_disagreement": self._farther,
        }
        self._ended: dict[Metric, NDArray[np.bool_]] = {}  # harm that was shown and does not stand

    def look(self, news: Mapping[str, ArrayLike], step: int | None = None) -> None:
        """Let each test that learnt something see what is new. A look without news is no look.

        Args:
            news: counts by kind; their last dimension are the groups for kinds of `BY_SEGMENT`, and of length 1
                for the others. A test whose kinds are not all there sees nothing.
            step: looks with the same number are one step, see `STEP`; None: each look is one, and a long one.
        """
        long = None if step is None else step // LONG
        for kinds, more, fewer in (
            ((*ALERTS, *OWN), self._more, self._fewer),
            ((*FINAL, *ENDED), self._more_final, self._fewer_final),
        ):
            if more is not None and fewer is not None and (new := _new(news, kinds)):
                champion, previous, both, alerted, quiet = new
                more.update((champion, previous, both), (alerted, quiet), long)
                fewer.update((previous, champion, both), (quiet, alerted), long)
        for pairs, matched in ((PAIRS, self._false), (FINAL_PAIRS, self._false_final)):
            if new := _new(news, pairs):
                matched.match(new[0], new[1], step)
        if new := _new(news, FOUND):
            previous, champion, both = new
            self._missed.update(previous, champion, both, step)
        for test, counted in ((self._errors, FAILED), (self._slow, SLOW), (self._farther, DISTANCES)):
            if test is not None and (new := _new(news, counted)):
                test.update(new[0], new[0] + new[1], step)
        for metric in KINDS:
            if (seen := self._tests[metric]) is not None:
                ended = self._ended.get(metric, np.False_) | (seen.now <= 1)
                self._ended[metric] = self.harm(metric) & ended & (seen.now * self.alpha(metric) < 1)

    def peak(self, metric: Metric) -> NDArray[np.float64]:
        """The largest e-value so far, by group (last dimension); a single number before the first news."""
        test = self._tests[metric]
        return np.ones(()) if test is None else test.peak

    def alpha(self, metric: Metric) -> NDArray[np.float64]:
        """The share of the budget of a metric, by group: shape (groups,), or (1,) where it has no segments."""
        if metric == "teacher_disagreement":  # it never acts
            return np.array([self.policy.alpha])
        share = self.policy.share(metric)
        segments = len(self.groups) - 1
        if metric in _NO_SEGMENTS or not segments:
            return np.array([share])
        return share * np.array([WHOLE, *[(1 - WHOLE) / segments] * segments])

    def harm(self, metric: Metric) -> NDArray[np.bool_]:
        """Whether harm was shown, by group."""
        return np.asarray(self.peak(metric) * self.alpha(metric) >= 1)

    def stands(self, metric: Metric) -> NDArray[np.bool_]:
        """Whether harm was shown and something still speaks for it, by group."""
        return np.asarray(self.harm(metric) & ~self._ended.get(metric, np.False_))

    def measures(
        self, totals: Mapping[str, NDArray[np.int64]], acting: Collection[Metric] | None = None
    ) -> tuple[Measure, ...]:
        """Each metric on the whole, and on the segments that are harmed.

        Args:
            totals: counts so far by kind, shape (groups,) or (1,).
            acting: of the harms that share the budget, those that are a reason to roll back now; None: all.
        """
        found = []
        margins: dict[Metric, float] = {
            "more_alerts": self.policy.alert_margin,
            "fewer_alerts": self.policy.alert_margin,
            "false_alerts": self.policy.false_alert_margin,
            "missed": self.policy.missed_margin,
            "more_final_alerts": self.policy.alert_margin,
            "fewer_final_alerts": self.policy.alert_margin,
            "false_final_alerts": self.policy.false_alert_margin,
            "errors": self.policy.error_margin,
            "slow": self.policy.slow_margin,
            "teacher_disagreement": self.policy.teacher_margin,
        }
        for metric in (*self.policy.acting, "teacher_disagreement"):
            alpha, harm = self.alpha(metric), self.stands(metric)
            peak = np.broadcast_to(self.peak(metric), alpha.shape)
            for place in range(len(alpha)):
                if place and not harm[place]:
                    continue
                found.append(
                    Measure(
                        metric=metric,
                        segment=self.groups[place],
                        e_value=float(peak[place]),
                        alpha=float(alpha[place]),
                        margin=margins[metric],
                        counts={kind: int(totals[kind][place]) for kind in KINDS[metric]},
                        harm=bool(harm[place]),
                        acts=metric in (self.policy.acting if acting is None else acting),
                    )
                )
        return tuple(found)


def _alert_test(margin: float, times: NDArray[np.float64], limit: NDArray[np.float64]) -> EitherTest:
    """Whether alerts are off both from the previous model's and from what the champion's own bundle promises.

    Off from the previous model alone, the champion may be the mend: retrained after a drift under which the
    previous one floods the team or has fallen silent. Off from its promise alone, the traffic has changed.

    Beside the previous model, what is off is a ratio beyond the one that the two bundles promise (`times`): whoever
    promised to alert twice as often does no harm by doing so, and drift that hits both alike leaves the ratio as it
    is. A ratio of 1 is never harm, whatever was promised: what the previous model does too is no reason to return
    to it.
    """
    return EitherTest(PairedRateTest(margin * np.maximum(times, 1)), RateTest(limit))


def _final_tests(
    margin: float, times: float, before: FinalAlerts | None
) -> tuple[EitherTest | None, EitherTest | None]:
    """Whether final alerts are off both from the previous model's student and from the hours before: more, fewer.

    The previous model's final alerts are not known: nobody asked its teacher. Its student's are, and the hours in
    which it served tell how many final alerts came of one of those.

    Args:
        times: how many times as often as the previous bundle the champion's promises to alert.
    """
    if before is None:
        return None, None
    least, most = (_odds(rate) * times for rate in before.rate)
    more = _alert_test(margin, np.array([times * before.ratio.high]), _share([most * margin]))
    fewer = _alert_test(margin, np.array([1 / (times * before.ratio.low)]), 1 - _share([least / margin]))
    return more, fewer


def _odds(rate: float) -> float:
    return rate / (1 - rate)


def _share(odds: ArrayLike) -> NDArray[np.float64]:
    ratio = np.asarray(odds, np.float64)
    return np.asarray(ratio / (1 + ratio))


def _limit(rate: float | None, margin: float) -> RateTest | None:
    if rate is None:
        return None
    return RateTest(_share(margin * _odds(rate)))


def _new(news: Mapping[str, ArrayLike], kinds: tuple[str, ...]) -> list[NDArray[np.int64]]:
    """The counts of all `kinds`; nothing where one is not there or all are zero."""
    if any(kind not in news for kind in kinds):
        return []
    counts = [np.asarray(news[kind]) for kind in kinds]
    return counts if any(count.any() for count in counts) else []
