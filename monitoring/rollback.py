"""The rollback controller: withdraws a champion that does harm relative to the model before it.

Champion and previous model score the same transactions, so drift, season and a broken input upstream hit both
and prove nothing against either. What counts is student against student: alert rate, and false alerts once
labels are known. Each measure has a sequential test (`monitoring.sequential`) and a share of one false-alarm
budget: over the *whole life* of a harmless champion the chance of any wrong rollback is at most
`RollbackPolicy.alpha`, however often one looks, as far as transactions are independent; the margins leave room
where they are not quite.

Distance from the teacher is measured too, but it alarms and never acts. The teacher answers where the *champion*
scored high or was unsure, so the transactions are chosen by the champion's own errors: of two equally good models
the one that chooses looks worse (the winner's curse), and no number of transactions mends that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from monitoring.sequential import PairedRateTest, RateTest, TwoSampleTest
from riskdistill.errors import BundleError, ConfigError, ReleaseError, UnavailableError
from riskdistill.storage.decisions import Entry
from riskdistill.storage.releases import Release, ReleaseLog, State

ACTOR: Final = "monitor"
Metric = Literal["more_alerts", "fewer_alerts", "false_alerts", "teacher_disagreement"]
Action = Literal["none", "waiting", "held", "alarm", "would_roll_back", "rolled_back"]

_LABELS: Final = 10  # on each side before they are compared: one side alone says nothing about the other

_logger = logging.getLogger(__name__)


class RollbackPolicy(BaseModel):
    """When the controller acts. A margin is how many times worse than the previous model is still no harm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.01, gt=0, lt=1, description="chance of a wrong rollback per champion")
    alert_margin: float = Field(default=1.5, ge=1, description="ratio of alert rates, either way")
    false_alert_margin: float = Field(default=1.5, ge=1, description="ratio of the odds of a false alert")
    teacher_margin: float = Field(default=1.5, ge=1, description="odds of being farther from the teacher")
    tolerance: float = Field(default=0.02, ge=0, description="distances from the teacher this close are equal")
    labels: bool = Field(default=False, description="labels will come: false alerts share the false-alarm budget")
    minimum: int = Field(default=200, ge=1, description="transactions compared before any action")
    cool_down: timedelta = Field(default=timedelta(minutes=10), description="rest after a rollback")
    hold: bool = Field(default=False, description="a person holds all action")
    dry_run: bool = Field(default=False, description="say what would be done, and do not do it")


class Measure(BaseModel):
    """One measure of harm after a look: the evidence against the champion so far."""

    model_config = ConfigDict(frozen=True)

    metric: Metric
    e_value: float = Field(description="the largest so far; harm is shown at 1 / alpha")
    alpha: float
    margin: float
    counts: dict[str, int]
    harm: bool
    acts: bool = Field(description="whether harm is a reason to roll back, or to alarm a person only")


class Verdict(BaseModel):
    """What a look found and did."""

    model_config = ConfigDict(frozen=True)

    action: Action
    reason: str
    release_id: str | None = None
    restored: str | None = Field(default=None, description="release that serves after a rollback")
    compared: int = Field(default=0, description="transactions that both models scored")
    looks: int = 0
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """What the champion's bundle says of its student.

    Attributes:
        review: the score from which it alerts: a stored action may be the teacher's, a shadow is a student's alone.
        alert_rate: share of its reference period on which it alerted, above 0 and below 1.
    """

    review: float
    alert_rate: float


class DecisionSource(Protocol):
    """Where decisions are read from (`riskdistill.storage.decisions.DecisionLog`)."""

    def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]: ...


class RollbackController:
    """Looks at new decisions and rolls the champion back when harm is shown.

    Args:
        releases: the release log, which says who is champion and takes the rollback.
        decisions: the decision log.
        policy: when to act.
        expectation: what a release's own bundle says of it; raises BundleError where that cannot be told,
            which is an alarm: without it no evidence is to be had, for or against.
        clock: the time now, in UTC.
    """

    def __init__(
        self,
        releases: ReleaseLog,
        decisions: DecisionSource,
        policy: RollbackPolicy,
        expectation: Callable[[Release], Expectation],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._releases, self._decisions, self._policy = releases, decisions, policy
        self._expectation, self._clock = expectation, clock
        self._after = 0
        self._case: _Case | None = None

    def look(self, labels: Mapping[str, bool] | None = None) -> Verdict:
        """Read what was decided since the last look, weigh it, and act if harm is shown.

        Args:
            labels: whether a transaction is laundering, by id, for those known by now.

        Raises:
            ConfigError: there are labels, and the policy has no share of its budget for them.
            UnavailableError: a log cannot be read or written now; nothing is lost, look again.
        """
        if labels and not self._policy.labels:
            raise ConfigError("labels came that the policy does not count on", mend="set labels in the policy")
        champion, previous = self._releases.champion(), self._releases.previous()
        if champion is None:
            return Verdict(action="none", reason="no release is champion")
        if self._case is None or self._case.champion != champion:
            try:
                expected = self._expectation(champion)
            except BundleError as error:  # no decision is passed over: they count once the bundle is back
                return Verdict(action="alarm", reason=str(error), release_id=champion.release_id)
            self._case = _Case(champion, self._policy, expected)
        for entry in self._decisions.read(self._after):
            self._case.add(entry, previous)
            self._after = entry.sequence
        self._case.weigh(labels or {})
        return self._act(self._case, previous)

    def _act(self, case: _Case, previous: Release | None) -> Verdict:
        measures = case.measures()
        shown = [measure for measure in measures if measure.harm]
        harm = min(shown, key=lambda measure: not measure.acts, default=None)  # the first that acts, if any does

        def verdict(action: Action, reason: str, restored: str | None = None) -> Verdict:
            return Verdict(
                action=action,
                reason=reason,
                release_id=case.champion.release_id,
                restored=restored,
                compared=case.compared,
                looks=case.looks,
                measures=measures,
            )

        if harm is None:
            return verdict("none", "no harm is shown")
        reason = f"{harm.metric}: e-value {harm.e_value:.4g}, at least {1 / harm.alpha:.4g}"
        if case.compared < self._policy.minimum:
            return verdict("waiting", f"{reason}; {case.compared} of {self._policy.minimum} transactions seen")
        if not harm.acts:
            return verdict("alarm", f"{reason}; biased against the champion, so a person has to look into it")
        if previous is None:
            return verdict("alarm", f"{reason}; there is no previous release to return to")
        if self._policy.hold:
            return verdict("held", f"{reason}; a person holds all action")
        if self._cooling():
            return verdict("held", f"{reason}; resting after a rollback")
        if self._policy.dry_run:
            return verdict("would_roll_back", f"{reason}; dry run")
        try:
            restored = self._releases.rollback(
                actor=ACTOR, reason=reason, evidence=case.evidence(harm), release_id=case.champion.release_id
            )
        except ReleaseError as error:  # someone changed the releases since this look began
            return verdict("alarm", f"{reason}; {error}")
        return verdict("rolled_back", reason, restored.release_id)

    def _cooling(self) -> bool:
        rollbacks = [entry.at for entry in self._releases.history() if entry.after is State.ROLLED_BACK]
        return bool(rollbacks) and self._clock() < rollbacks[-1] + self._policy.cool_down


class _Tally:
    """Counts by kind: of the look that is going on, and in total."""

    def __init__(self, *kinds: str) -> None:
        self.total = dict.fromkeys(kinds, 0)
        self.news = dict.fromkeys(kinds, 0)

    def add(self, kind: str) -> None:
        self.news[kind] += 1

    def close(self) -> tuple[int, ...]:
        """The counts of the look, in the order of the kinds; they go into the total."""
        news, self.news = self.news, dict.fromkeys(self.news, 0)
        for kind, number in news.items():
            self.total[kind] += number
        return tuple(news.values())


class _AlertTest:
    """Whether alerts are off both from the previous model's and from what the champion's own bundle promises.

    Off from the previous model alone, the champion may be the mend: retrained after a drift under which the
    previous one floods the team or has fallen silent. Off from its promise alone, the traffic has changed.

    The smaller e-value counts. No harm means that at least one of the two hypotheses holds; the e-value of that
    one ever reaches 1/alpha with a chance of at most alpha, and the smaller of the two not without it. So the
    false-alarm rate is kept with nothing to divide, however the two depend on each other.
    """

    def __init__(self, margin: float, limit: float) -> None:
        self._relative, self._own = PairedRateTest(margin), RateTest(limit)

    def update(self, only_a: int, only_b: int, both: int, off: int, trials: int) -> None:
        """Add the pairs of one look, and on how many of its transactions the champion did what is tested."""
        if only_a or only_b or both:
            self._relative.update(only_a, only_b, both)
        self._own.update(off, trials)

    @property
    def peak(self) -> float:
        return float(min(self._relative.peak, self._own.peak))

    def rejected(self, alpha: float) -> bool:
        return self.peak >= 1 / alpha


def _share(odds: float) -> float:
    return odds / (1 + odds)


class _Case:
    """The evidence for and against one champion."""

    def __init__(self, champion: Release, policy: RollbackPolicy, expected: Expectation) -> None:
        self.champion, self._policy, self._expected = champion, policy, expected
        self.compared, self.looks = 0, 0
        self._first: Entry | None = None
        self._last: Entry | None = None
        odds = expected.alert_rate / (1 - expected.alert_rate)  # unlike a rate, times the margin never above 1
        self._more = _AlertTest(policy.alert_margin, _share(odds * policy.alert_margin))
        self._fewer = _AlertTest(policy.alert_margin, 1 - _share(odds / policy.alert_margin))
        self._false = TwoSampleTest(policy.false_alert_margin)
        self._farther = RateTest(policy.teacher_margin / (1 + policy.teacher_margin))
        self._alerts = _Tally("champion_only", "previous_only", "both", "neither")
        self._distances = _Tally("champion_farther", "previous_farther")
        self._labelled = _Tally("champion_only", "champion_only_false", "previous_only", "previous_only_false")
        self._unlabelled: dict[str, str] = {}  # transaction -> the one model that alerted

    def add(self, entry: Entry, previous: Release | None) -> None:
        """Count a decision, if both models scored it."""
        decision, shadow = entry.decision, entry.decision.shadow
        if (
            shadow is None
            or previous is None
            or shadow.bundle_version != previous.bundle_version
            or decision.bundle_version != self.champion.bundle_version
            or decision.decided_at < self.champion.changed_at
        ):
            return
        self.compared += 1
        self._first, self._last = self._first or entry, entry
        match decision.student_score >= self._expected.review, shadow.action != "allow":
            case True, True:
                self._alerts.add("both")
            case (True, False) | (False, True) as alerted:
                side = "champion_only" if alerted[0] else "previous_only"
                self._alerts.add(side)
                self._unlabelled[decision.tx_id] = side
            case _:
                self._alerts.add("neither")
        if decision.teacher_score is not None:
            excess = abs(decision.student_score - decision.teacher_score)
            excess -= abs(shadow.score - decision.teacher_score)
            if abs(excess) > self._policy.tolerance:
                self._distances.add("champion_farther" if excess > 0 else "previous_farther")

    def weigh(self, labels: Mapping[str, bool]) -> None:
        """End a look: let each test that learnt something see what is new. A look without news is no look."""
        for tx_id in [tx_id for tx_id in self._unlabelled if tx_id in labels]:
            side = self._unlabelled.pop(tx_id)
            self._labelled.add(side)
            if not labels[tx_id]:
                self._labelled.add(f"{side}_false")
        self.looks += 1
        if any(alerts := self._alerts.close()):
            champion_only, previous_only, both, neither = alerts
            self._more.update(champion_only, previous_only, both, champion_only + both, sum(alerts))
            self._fewer.update(previous_only, champion_only, both, previous_only + neither, sum(alerts))
        if any(distances := self._distances.close()):
            self._farther.update(distances[0], sum(distances))
        if min(self._labelled.news["champion_only"], self._labelled.news["previous_only"]) >= _LABELS:
            trials_a, false_a, trials_b, false_b = self._labelled.close()
            self._false.update(false_a, trials_a, false_b, trials_b)

    def measures(self) -> tuple[Measure, ...]:
        """Each measure's evidence so far."""
        policy = self._policy
        acting: list[tuple[Metric, Any, float, _Tally]] = [
            ("more_alerts", self._more, policy.alert_margin, self._alerts),
            ("fewer_alerts", self._fewer, policy.alert_margin, self._alerts),
        ]
        if policy.labels:  # settled beforehand: shares that change on the way would add up to more than the budget
            acting.append(("false_alerts", self._false, policy.false_alert_margin, self._labelled))
        return (
            *(_measure(*found, alpha=policy.alpha / len(acting), acts=True) for found in acting),
            _measure(
                "teacher_disagreement",
                self._farther,
                policy.teacher_margin,
                self._distances,
                alpha=policy.alpha,
                acts=False,
            ),
        )

    def evidence(self, harm: Measure) -> dict[str, Any]:
        """The figures that a rollback for `harm` rests on, JSON-able."""
        assert self._first is not None  # harm needs decisions
        assert self._last is not None
        return {
            **harm.model_dump(mode="json", exclude={"harm"}),
            "looks": self.looks,
            "compared": self.compared,
            "window": {
                "first_sequence": self._first.sequence,
                "last_sequence": self._last.sequence,
                "from": self._first.decision.decided_at.isoformat(),
                "to": self._last.decision.decided_at.isoformat(),
            },
            "measures": [measure.model_dump(mode="json") for measure in self.measures()],
            "policy": self._policy.model_dump(mode="json"),
        }


def _measure(metric: Metric, test: Any, margin: float, tally: _Tally, *, alpha: float, acts: bool) -> Measure:
    return Measure(
        metric=metric,
        e_value=float(test.peak),
        alpha=alpha,
        margin=margin,
        counts=dict(tally.total),
        harm=bool(test.rejected(alpha)),
        acts=acts,
    )


class Stop(Protocol):
    """What ends a watch: a `threading.Event` is one."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


def watch(
    controller: RollbackController,
    interval: float,
    stop: Stop,
    labels: Callable[[], Mapping[str, bool]] = dict,
) -> Iterator[Verdict]:
    """Look every `interval` seconds until `stop` is set; yields each verdict. Outlasts a log that is away."""
    while not stop.is_set():
        try:
            yield controller.look(labels())
        except UnavailableError as error:
            _logger.warning("no look was possible: %s", error)
        stop.wait(interval)
