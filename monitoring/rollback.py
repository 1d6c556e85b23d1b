"""The rollback controller: withdraws a champion that does harm relative to the model before it.

Champion and previous model score the same transactions, so drift, season and a broken input upstream hit both and
prove nothing against either: the ratio of their alerts stays what their two bundles promise. What counts is student
against student: alert rate, and once labels are known false alerts and missed laundering; what was an alert in the
end, the teacher's answers included; and what the service itself did worse than before, errors and time. Each
measure has a sequential test and a share of one false-alarm budget (`monitoring.evidence`): over the *whole life*
of a harmless champion the chance of any wrong rollback is at most `RollbackPolicy.alpha`, however often one looks
and however often the watch begins anew, as far as transactions are independent; the margins leave room where they
are not quite. (A watch that begins reads the log from its start. Evidence is a function of what was decided when;
only labels without `known_at` count from the decision on then.)

Labels come mostly for what the champion alerted on. What it missed is known less often, which speaks for it: so a
test of missed laundering errs on the side of the champion.

Distance from the teacher is measured too, but it alarms and never acts. The teacher answers where the *champion*
scored high or was unsure, so the transactions are chosen by the champion's own errors: of two equally good models
the one that chooses looks worse (the winner's curse), and no number of transactions mends that.

Errors, slow decisions and too many or too few final alerts act only within `RollbackPolicy.trial` of the promotion,
and all but the slow ones only where the teacher is the bundle's own: afterwards, and from a teacher elsewhere, they
alarm. An outage that all models share is not mended by a rollback (`monitoring.case`).

Drift alone is a matter for retraining and review. Where `RollbackPolicy.drift_acts`, a drift report of what the
champion decided since it was promoted is harm like any other: it stands until a report says stable, and all that
keeps other harm from being acted on keeps it.

Harm that is shown is not acted on while a person holds all action (`ReleaseLog.hold`), within the rest that follows
a rollback (caches fill, workers change over), and where the model to return to was itself rolled back once: that is
for a person to decide.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from monitoring.case import Case
from monitoring.drift import DriftReport
from monitoring.evidence import ALL, Expectation, Measure, Metric, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.service_level import ServiceHours
from riskdistill.errors import BundleError, ConfigError, ReleaseError, UnavailableError
from riskdistill.storage.decisions import Entry
from riskdistill.storage.releases import Release, ReleaseLog, State

ACTOR: Final = "monitor"
Action = Literal["none", "waiting", "held", "alarm", "would_roll_back", "rolled_back"]

_TEACHER: Final = "the teacher is elsewhere, or the champion long in service, and so the cause may be another"
_NO_REASON: Final[Mapping[Metric, str]] = {  # for a rollback; a person has to look into it
    "more_final_alerts": _TEACHER,
    "fewer_final_alerts": _TEACHER,
    "false_final_alerts": "the teacher is elsewhere, and answers under the previous model too",
    "errors": "the previous model may fail as well: the teacher is elsewhere, or the champion long in service",
    "slow": "the previous model may be as slow: the champion is long in service",
    "teacher_disagreement": "biased against the champion, so a person has to look into it",
}

_logger = logging.getLogger(__name__)


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
    evidence: dict[str, Any] = Field(default_factory=dict, description="what harm rests on, as a rollback keeps it")


class _Harm(NamedTuple):
    """Harm that is shown.

    Attributes:
        reason: what a rollback for it is said to be for.
        evidence: its figures, JSON-able.
        seen: transactions that it rests on.
        for_a_person: why it is no reason to roll back; None: it is one.
    """

    reason: str
    evidence: dict[str, Any]
    seen: int
    for_a_person: str | None = None


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
        drift: the newest drift report, if there is one.
    """

    def __init__(
        self,
        releases: ReleaseLog,
        decisions: DecisionSource,
        policy: RollbackPolicy,
        expectation: Callable[[Release], Expectation],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        drift: Callable[[], DriftReport | None] = lambda: None,
    ) -> None:
        self._releases, self._decisions, self._policy = releases, decisions, policy
        self._expectation, self._clock, self._drift = expectation, clock, drift
        self._after = 0
        self._case: Case | None = None
        self._hours: dict[str, ServiceHours] = {}  # of each bundle version that decided

    def look(self, labels: Mapping[str, Outcome] | None = None) -> Verdict:
        """Read what was decided since the last look, weigh it, and act if harm is shown.

        Args:
            labels: what is known of transactions, by id; what became known later than now does not count yet.

        Raises:
            ConfigError: there are labels, and the policy has no share of its budget for them.
            UnavailableError: a log cannot be read or written now; nothing is lost, look again.
        """
        labels = labels or {}
        if labels and not self._policy.labels:
            raise ConfigError("labels came that the policy does not count on", mend="set labels in the policy")
        champion, previous, _ = self._releases.serving()
        if champion is None:
            return Verdict(action="none", reason="no release is champion")
        if self._case is None or not self._case.is_of(champion):
            try:
                expected = self._expectation(champion)
                promised = None if previous is None else self._expectation(previous)
            except BundleError as error:  # no decision is passed over: they count once the bundle is back
                return Verdict(action="alarm", reason=str(error), release_id=champion.release_id)
            before = previous.bundle_version if previous else ""
            self._case = Case(
                champion,
                self._policy,
                expected,
                lambda: self._hours.get(before, ServiceHours()).limits(),
                promised,
            )
        for entry in self._decisions.read(self._after):
            self._case.add(entry, previous, labels)
            self._hours.setdefault(entry.decision.bundle_version, ServiceHours()).add(entry.decision)
            self._after = entry.sequence
        self._case.weigh(labels, self._clock())
        return self._act(self._case, previous)

    def _act(self, case: Case, previous: Release | None) -> Verdict:
        measures = case.measures()
        shown = [_shown(case, measure) for measure in measures if measure.harm]
        if (drifted := self._drifted(case.champion)) is not None:
            shown.append(drifted)
        harm = min(shown, key=lambda one: one.for_a_person is not None, default=None)  # the first that acts

        def verdict(action: Action, reason: str, restored: str | None = None) -> Verdict:
            return Verdict(
                action=action,
                reason=reason,
                release_id=case.champion.release_id,
                restored=restored,
                compared=case.compared,
                looks=case.looks,
                measures=measures,
                evidence={} if harm is None else harm.evidence,
            )

        if harm is None:
            return verdict("none", "no harm is shown")
        if (obstacle := self._obstacle(harm, previous)) is not None:
            action, why = obstacle
            return verdict(action, f"{harm.reason}; {why}")
        try:
            restored = self._releases.rollback(
                actor=ACTOR, reason=harm.reason, evidence=harm.evidence, release_id=case.champion.release_id
            )
        except ReleaseError as error:  # someone changed the releases since this look began
            return verdict("alarm", f"{harm.reason}; {error}")
        return verdict("rolled_back", harm.reason, restored.release_id)

    def _drifted(self, champion: Release) -> _Harm | None:
        """The drift of what the champion decided since its promotion, where it may act."""
        report = self._drift() if self._policy.drift_acts else None
        if report is None or report.verdict != "drift" or report.bundle != champion.bundle_version:
            return None
        logged = report.logged
        if logged is None or logged.start is None or logged.start < champion.changed_at:
            return None  # another model's traffic is in it, or nobody can look it up
        named = ", ".join(report.drifting[:6])
        evidence = {
            "metric": "drift",
            "drifting": list(report.drifting),
            "rows": report.rows,
            "window": logged.model_dump(mode="json"),
            "drift_policy": report.policy.model_dump(mode="json"),
            "policy": self._policy.model_dump(mode="json"),
        }
        return _Harm(f"drift: {named}", evidence, report.rows)

    def _obstacle(self, harm: _Harm, previous: Release | None) -> tuple[Action, str] | None:
        """Why harm does not lead to a rollback now, and what this look is called then."""
        if harm.seen < self._policy.minimum:
            return "waiting", f"{harm.seen} of {self._policy.minimum} transactions seen"
        if harm.for_a_person is not None:
            return "alarm", harm.for_a_person
        if previous is None:
            return "alarm", "there is no previous release to return to"
        if (withdrawn := self._withdrawn(previous)) is not None:
            return "alarm", f"the previous bundle was rolled back itself, as {withdrawn}"
        if (hold := self._releases.held()) is not None:
            return "held", f"{hold.actor} holds all action since {hold.at:%F %H:%M} UTC: {hold.reason}"
        if (until := self._resting()) is not None:
            return "held", f"resting until {until:%H:%M:%S} UTC"
        if self._policy.dry_run:
            return "would_roll_back", "dry run"
        return None

    def _resting(self) -> datetime | None:
        """Until when nothing is done for the sake of the last rollback; None: nothing is in the way.

        A promotion is no reason to rest: the tests hold their budget from the first transaction on, and the first
        minutes are when a bad release does its harm.
        """
        rollbacks = [entry.at for entry in self._releases.history() if entry.after is State.ROLLED_BACK]
        until = max(rollbacks) + self._policy.cool_down if rollbacks else None
        return until if until is not None and self._clock() < until else None

    def _withdrawn(self, release: Release) -> str | None:
        """The release of the same bundle that was rolled back, if one was."""
        for other in self._releases.list():
            if other.state is State.ROLLED_BACK and other.bundle_version == release.bundle_version:
                return other.release_id
        return None


def _shown(case: Case, measure: Measure) -> _Harm:
    what = measure.metric if measure.segment == ALL else f"{measure.metric} of {measure.segment}"
    return _Harm(
        f"{what}: e-value {measure.e_value:.4g}, at least {1 / measure.alpha:.4g}",
        case.evidence(measure),
        case.decided if measure.metric in ("errors", "slow") else case.compared,
        None if measure.acts else _NO_REASON[measure.metric],
    )


class Stop(Protocol):
    """What ends a watch: a `threading.Event` is one."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


def watch(
    controller: RollbackController,
    interval: float,
    stop: Stop,
    labels: Callable[[], Mapping[str, Outcome]] = dict,
) -> Iterator[Verdict]:
    """Look every `interval` seconds until `stop` is set; yields each verdict. Outlasts a log that is away."""
    while not stop.is_set():
        try:
            yield controller.look(labels())
        except UnavailableError as error:
            _logger.warning("no look was possible: %s", error)
        stop.wait(interval)
