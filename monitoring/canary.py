"""The watch of a canary: ends it when it does harm relative to the champion, on the traffic of the same time.

A canary decides for accounts that a keyed hash draws, always the same ones, and the champion for all others:

    more_alerts, fewer_alerts, missed   on the canary's own transactions, which the champion's student scores beside
                                        it (`Decision.shadow`): who the accounts are cancels out
    false_alerts, errors, slow          of what the canary decided, against what the champion decided for other
                                        accounts nearest to it in time: both were reviewed, or served, alike. An
                                        alert waits for its reasons, so time is compared among alerts, and among
                                        what passes: a canary that alerts as it promised is not slow by that

So nothing is held to hours of before, and an outage, a slow hour or drift that hits both proves nothing. The tests
are those of the champion (`monitoring.evidence`), on the whole traffic alone, for a canary sees too little to be
judged by segments. Over the whole life of a harmless canary the chance of a wrong end is at most
`RollbackPolicy.alpha`, as far as accounts are independent.

What belongs together counts once: as accounts stay where they are, one odd account in the canary is no luck that
evens out. So an account has one vote a day on who alerts, its first: votes of each kind would make both models'
alerts count alike on busy accounts, and whoever alerts a little more would look like twice as much. It has one pair
for errors and one for time a step, and its reviewed alerts count once for each verdict. Labels have no age to wait
for: both sides' are equally old.

An end is final for the bundle's release, and the champion decides for all accounts again: nothing to rest for. A
person's hold, a dry run and the minimum of transactions apply as they do to a rollback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from monitoring.evidence import (
    ALERTS,
    FAILED,
    FOUND,
    KINDS,
    OWN,
    PAIRS,
    SLOW,
    STEP,
    Evidence,
    Expectation,
    Measure,
    Metric,
    RollbackPolicy,
    ServiceLimits,
)
from monitoring.labels import Outcome, verdict_at
from monitoring.pairing import Nearest, Votes
from monitoring.rollback import ACTOR, Action, Verdict
from monitoring.service_level import LATEST, ServiceHours, final_alert, wanted_teacher
from riskdistill.errors import BundleError, ReleaseError, UnavailableError
from riskdistill.storage.decisions import Decision, Entry
from riskdistill.storage.releases import Release, ReleaseLog, State

AWAITED: Final = timedelta(days=90)  # what has no verdict at this age counts for neither
ERROR_MARGIN: Final = 1.25  # ratio of the odds of an error: what a sample of accounts may differ by itself
_EVEN: Final = 0.5  # of pairs that differ, the canary's share if the two are equally good
_METRICS: Final[tuple[Metric, ...]] = ("more_alerts", "fewer_alerts", "false_alerts", "missed", "errors", "slow")
_NAMES: Final = {  # of counts: the accused is the canary here, and the one before it the champion
    ALERTS[0]: "canary_only",
    ALERTS[1]: "champion_only",
    OWN[0]: "canary_alerted",
    OWN[1]: "canary_quiet",
    PAIRS[0]: "canary_false",
    PAIRS[1]: "champion_false",
    FOUND[0]: "champion_alone",
    FOUND[1]: "canary_alone",
    FAILED[0]: "canary_failed",
    FAILED[1]: "champion_failed",
    SLOW[0]: "canary_slow",
    SLOW[1]: "champion_slow",
}

_Item = TypeVar("_Item")
_logger = logging.getLogger(__name__)


def canary_evidence(policy: RollbackPolicy, expected: Expectation, promised: Expectation) -> Evidence:
    """The tests against a canary, by what its bundle promises and the champion's.

    For errors and time they see the pairs that differ, so the limit is that of `sequential.MatchedPairsTest`.
    """
    return Evidence(
        policy.model_copy(update={"error_margin": max(policy.error_margin, ERROR_MARGIN)}),
        replace(expected, segments={}),
        ServiceLimits(errors=_EVEN, slow=_EVEN),
        replace(promised, segments={}),
    )


class _Payment(NamedTuple):
    timestamp: datetime
    sender_account: str
    receiver_account: str


class _Awaited(NamedTuple):
    """What is kept of a decision while its verdict is awaited.

    Attributes:
        mine: whether the canary decided.
        reviewed: whether it was an alert in the end.
        found: what it counts as if it is laundering, one of `FOUND`; None: nothing.
    """

    decided_at: datetime
    transaction: _Payment
    mine: bool
    reviewed: bool
    found: str | None


class CanaryCase:
    """The evidence against one canary.

    Args:
        canary: since when it decides, is `changed_at`; its share may be another later on.
        champion: beside which.
        policy: margins and budget.
        expected, promised: what the canary's bundle promises, and the champion's.
        slow_ms: a decision that takes longer is slow; asked for as long as the champion's hours do not tell.
    """

    def __init__(
        self,
        canary: Release,
        champion: Release,
        policy: RollbackPolicy,
        expected: Expectation,
        promised: Expectation,
        slow_ms: Callable[[], float],
    ) -> None:
        self.canary, self.champion, self._policy, self._find_slow = canary, champion, policy, slow_ms
        self._slow_ms = float("inf")
        self._review = expected.review
        self._evidence = canary_evidence(policy, expected, promised)
        self.decided, self.compared, self.looks, self._step = 0, 0, 0, 0
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._news = {kind: np.zeros(1, np.int64) for kinds in KINDS.values() for kind in kinds}
        self._total = {kind: count.copy() for kind, count in self._news.items()}
        self._alerts, self._failed = Nearest[bool](), Nearest[bool]()
        self._slow: dict[
            tuple[bool, bool], Nearest[bool]
        ] = {}  # by what takes its time: the teacher's answer, reasons
        self._served = set[tuple[str, str]]()  # in this step
        self._votes = Votes()
        self._unlabelled: dict[str, _Awaited] = {}
        self._reviewed = set[tuple[str, bool]]()  # accounts, by what was found of their alerts
        self._found = set[str]()  # accounts of laundering that was counted

    def is_of(self, canary: Release, champion: Release) -> bool:
        """Whether this is the case of these two, since they decide side by side."""
        mine = self.canary.release_id, self.canary.changed_at, self.champion.release_id
        return mine == (canary.release_id, canary.changed_at, champion.release_id)

    def add(self, entry: Entry, labels: Mapping[str, Outcome]) -> None:
        """Count a decision of either; the first of a new step ends the one before, with what was known by then."""
        decision = entry.decision
        mine = decision.bundle_version == self.canary.bundle_version
        if not (mine or decision.bundle_version == self.champion.bundle_version):
            return
        if decision.decided_at < self.canary.changed_at:
            return
        step = (decision.decided_at - self.canary.changed_at) // STEP
        if step > self._step:
            self.weigh(labels, self.canary.changed_at + (self._step + 1) * STEP)
        if (step > self._step or self._first is None) and not np.isfinite(self._slow_ms):
            self._slow_ms = self._find_slow()
        if step > self._step:
            self._step, self._served = step, set()
        self._first, self._last = self._first or entry, entry
        self._serve(decision, mine)
        self.decided += mine
        found, reviewed = self._compare(decision) if mine else None, decision.action != "allow"
        if self._policy.labels and (found is not None or reviewed):
            paid = decision.transaction
            kept = _Payment(paid.timestamp, paid.sender_account, paid.receiver_account)
            self._unlabelled[decision.tx_id] = _Awaited(decision.decided_at, kept, mine, reviewed, found)

    def _serve(self, decision: Decision, mine: bool) -> None:
        account, asked = decision.transaction.sender_account, wanted_teacher(decision)
        if _once(self._served, (account, "slow")):
            alike = self._slow.setdefault((asked, final_alert(decision)), Nearest())
            self._pair(alike, SLOW, mine, decision.latency_ms > self._slow_ms)
        if asked and _once(self._served, (account, "failed")):
            self._pair(self._failed, FAILED, mine, decision.route != "teacher")

    def _compare(self, decision: Decision) -> str | None:
        """Count what both students make of a transaction of the canary's; returns whose find it is, of `FOUND`."""
        shadow = decision.shadow
        if shadow is None or shadow.bundle_version != self.champion.bundle_version:
            return None
        self.compared += 1
        canary, champion = decision.student_score >= self._review, shadow.action != "allow"
        self._news[OWN[int(not canary)]] += 1
        if not (canary or champion):
            return None
        if self._votes.first(decision.transaction.sender_account, decision.decided_at.toordinal()):
            self._news[ALERTS[2] if canary and champion else ALERTS[int(champion)]] += 1
        return FOUND[2] if canary and champion else FOUND[int(canary)]

    def weigh(self, labels: Mapping[str, Outcome], now: datetime) -> None:
        """End a look: let each test that learnt something see what is new."""
        for tx_id in [tx_id for tx_id in self._unlabelled if tx_id in labels] if labels else ():
            laundering = verdict_at(self._unlabelled[tx_id], labels[tx_id], now)
            if laundering is not None:
                self._label(self._unlabelled.pop(tx_id), laundering)
        old = takewhile(lambda awaited: awaited[1].decided_at < now - AWAITED, self._unlabelled.items())
        for tx_id, _ in list(old):
            del self._unlabelled[tx_id]
        self.looks += 1
        self._evidence.look(self._news, self._step)
        for kind, news in self._news.items():
            self._total[kind] += news
            news[:] = 0

    def _label(self, awaited: _Awaited, laundering: bool) -> None:
        paid = awaited.transaction
        if awaited.reviewed and _once(self._reviewed, (paid.sender_account, laundering)):
            self._pair(self._alerts, PAIRS, awaited.mine, not laundering)
        accounts = {paid.sender_account, paid.receiver_account}
        if laundering and awaited.found is not None and self._found.isdisjoint(accounts):
            self._found |= accounts
            self._news[awaited.found] += 1

    def _pair(self, pairs: Nearest[bool], kinds: tuple[str, ...], mine: bool, bad: bool) -> None:
        """What was bad of one side, and not of the other, in the pair that this completes, if any."""
        pair = pairs.add(mine, bad)
        if pair is not None and pair[0] != pair[1]:
            self._news[kinds[int(pair[1])]] += 1

    def measures(self) -> tuple[Measure, ...]:
        """Each measure's evidence so far."""
        return tuple(
            measure.model_copy(update={"counts": {_NAMES.get(kind, kind): n for kind, n in measure.counts.items()}})
            for measure in self._evidence.measures(self._total)
            if measure.metric in _METRICS
        )

    def evidence(self, harm: Measure) -> dict[str, Any]:
        """The figures that an end for `harm` rests on, JSON-able."""
        assert self._first is not None  # harm needs decisions
        assert self._last is not None
        return {
            **harm.model_dump(mode="json", exclude={"harm"}),
            "champion": self.champion.release_id,
            "share": self.canary.share,
            "looks": self.looks,
            "decided": self.decided,
            "compared": self.compared,
            "slow_ms": self._slow_ms if np.isfinite(self._slow_ms) else None,
            "window": {
                "first_sequence": self._first.sequence,
                "last_sequence": self._last.sequence,
                "from": self._first.decision.decided_at.isoformat(),
                "to": self._last.decision.decided_at.isoformat(),
            },
            "measures": [measure.model_dump(mode="json") for measure in self.measures()],
            "policy": self._evidence.policy.model_dump(mode="json"),  # with the margins that the tests had
        }


class DatedSource(Protocol):
    """Where decisions are read from, by when they were made (`riskdistill.storage.decisions.DecisionLog`)."""

    def read(self, after_sequence: int = 0, *, start: datetime | None = None) -> Iterator[Entry]: ...


class CanaryWatch:
    """Reads what champion and canary decided, and ends a canary that does harm.

    It keeps its own place in the log: what the controller cannot read, and when, is nothing to it.

    Args:
        releases: the release log, which says who is canary and takes the end.
        decisions: the decision log.
        policy: when to act.
        expectation: as `monitoring.rollback.RollbackController` has it.
        labels: what is known of transactions by now.
        clock: the time now, in UTC.
    """

    def __init__(
        self,
        releases: ReleaseLog,
        decisions: DatedSource,
        policy: RollbackPolicy,
        expectation: Callable[[Release], Expectation],
        labels: Callable[[], Mapping[str, Outcome]] = dict,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._releases, self._decisions, self._policy = releases, decisions, policy
        self._expectation, self._labels, self._clock = expectation, labels, clock
        self._case: CanaryCase | None = None
        self._after = 0  # the last entry that the case has seen
        self._hours = ServiceHours()  # of its champion

    def look(self) -> Verdict | None:
        """Weigh what was decided since the last look, and act if harm is shown.

        Returns:
            The verdict; None: a log is away, and nothing can be said.
        """
        try:
            champion, canary = _pair_of(self._releases)
            if champion is None or canary is None:
                self._case = None
                return Verdict(action="none", reason="no release is canary")
            try:
                case = self._case_of(canary, champion)
            except BundleError as error:  # no decision is passed over: they count once the bundle is back
                return Verdict(action="alarm", reason=f"canary: {error}", release_id=canary.release_id)
            labels = self._labels()
            self._read(case, labels)
            case.weigh(labels, self._clock())
            return self._act(case)
        except UnavailableError as error:
            _logger.warning("no look at the canary was possible: %s", error)
            return None

    def _case_of(self, canary: Release, champion: Release) -> CanaryCase:
        """The case of these two; it begins anew, and with it the log, where either is another one than before.

        Raises:
            BundleError: a bundle does not tell what it promises.
        """
        if self._case is None or not self._case.is_of(canary, champion):
            expected, promised = self._expectation(canary), self._expectation(champion)
            self._after, self._hours = 0, (hours := ServiceHours())
            self._case = CanaryCase(
                canary, champion, self._policy, expected, promised, lambda: hours.limits().slow_ms
            )
        self._case.canary = canary
        return self._case

    def _read(self, case: CanaryCase, labels: Mapping[str, Outcome]) -> None:
        """Count what came since the last look; the champion's hours begin before the canary does."""
        since = case.canary.changed_at - timedelta(hours=LATEST)
        for entry in self._decisions.read(self._after, start=since):
            if entry.decision.bundle_version == case.champion.bundle_version:
                self._hours.add(entry.decision)
            case.add(entry, labels)
            self._after = entry.sequence

    def _act(self, case: CanaryCase) -> Verdict:
        measures = case.measures()
        harm = next((measure for measure in measures if measure.harm), None)
        evidence = {} if harm is None else case.evidence(harm)

        def verdict(action: Action, reason: str, restored: str | None = None) -> Verdict:
            return Verdict(
                action=action,
                reason=f"canary: {reason}",
                release_id=case.canary.release_id,
                restored=restored,
                compared=case.compared,
                looks=case.looks,
                measures=measures,
                evidence=evidence,
            )

        if harm is None:
            return verdict("none", "no harm is shown")
        reason = f"{harm.metric}: e-value {harm.e_value:.4g}, at least {1 / harm.alpha:.4g}"
        if (obstacle := self._obstacle(case, harm)) is not None:
            action, why = obstacle
            return verdict(action, f"{reason}; {why}")
        try:
            self._releases.withdraw(case.canary.release_id, actor=ACTOR, reason=reason, evidence=evidence)
        except ReleaseError as error:  # someone changed the releases since this look began
            return verdict("alarm", f"{reason}; {error}")
        return verdict("rolled_back", reason, case.champion.release_id)

    def _obstacle(self, case: CanaryCase, harm: Measure) -> tuple[Action, str] | None:
        """Why harm does not end the canary now, and what this look is called then."""
        seen = case.decided if harm.metric in ("errors", "slow", "false_alerts") else case.compared
        if seen < self._policy.minimum:
            return "waiting", f"{seen} of {self._policy.minimum} transactions seen"
        if (hold := self._releases.held()) is not None:
            return "held", f"{hold.actor} holds all action since {hold.at:%F %H:%M} UTC: {hold.reason}"
        if self._policy.dry_run:
            return "would_roll_back", "dry run"
        return None


def _once(known: set[_Item], item: _Item) -> bool:
    """Whether it is new to a set, which knows it from then on."""
    new = item not in known
    known.add(item)
    return new


def _pair_of(releases: ReleaseLog) -> tuple[Release | None, Release | None]:
    """The champion, and the canary, whose `changed_at` is since when the two decide side by side.

    Another share, or an approval, begins nothing anew: the accounts of the smaller share stay in the larger one.
    """
    champion, _, canary = releases.serving()
    if champion is None or canary is None or canary.state is not State.CANARY:
        return champion, None
    mine = [entry for entry in releases.history() if entry.release_id == canary.release_id]
    since = max(entry.at for entry in mine if entry.after is State.CANARY and entry.before is not State.CANARY)
    return champion, canary.model_copy(update={"changed_at": max(since, champion.changed_at)})
