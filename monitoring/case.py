"""The case for and against one champion: its decisions, counted for the tests of `monitoring.evidence`.

The tests are fair if what they count is independent, and payments are not: a scheme is many payments that a model
finds or misses together, and an odd account sets off many alerts. So an account has one vote a day on who alerts
(the first alert's, whoever raised it) and one on who did in the end. A scheme of ten senders still has ten votes
there: before labels come nobody knows what is a scheme, and votes by receiver would hide a flood of alerts on one
merchant. A label that says laundering counts if neither of its accounts was in laundering that was counted before,
and one that says false alert if its sender was in none.

Outcomes of two alerts, each raised by one model alone, are compared only where both were looked at whatever they
would turn out to be. The champion's own are, as alerts. What only the previous model raised is let pass: laundering
among it surfaces in the end, and the rest is never told of, so such labels would make every healthy champion look
worse. Of these only the sample below the line counts, whose shares are logged, thinned to the smallest of them, for
more is drawn near the line. The champion's are thinned alike: of a scheme of ten payments the first counts, so
where all ten are looked at on one side and one on the other, false alerts would be a larger part of what counts on
the first. Without a sample nothing is said of false alerts.

Two alerts are paired when they are decided on, near to each other in time, and the pair counts once both have a
verdict. Pairs of labels as they come would join alerts of different weeks, and what is soon told with what is told
late: laundering is told late, and how much of the alerts it is moves.

What was an alert in the end, the teacher's answers included, is compared in the same ways with the previous model's
student, for nobody asked its teacher. Known laundering is compared as it comes: what surfaces by itself is missing
on the previous model's side, which speaks for the champion.

Errors and time have nothing beside them at the same moment: they are compared with hours of before, and so is in
part what was an alert in the end. What fails long after a promotion, or in a teacher elsewhere, fails under the
previous model too, so a rollback mends nothing and burns a good bundle. All of these are the champion's own only
for a while after its promotion (`RollbackPolicy.trial`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np

from monitoring.evidence import (
    ALL,
    BY_SEGMENT,
    DISTANCES,
    ENDED,
    FAILED,
    FINAL_PAIRS,
    OF_WHOLE,
    OWN,
    PAIRS,
    SLOW,
    STEP,
    Evidence,
    Expectation,
    Measure,
    RollbackPolicy,
    ServiceLimits,
)
from monitoring.labels import Outcome, luck, verdict_at
from monitoring.pairing import Nearest, Votes
from monitoring.segments import segments_of
from monitoring.service_level import final_alert, wanted_teacher
from riskdistill.storage.decisions import Decision, Entry, Shadow
from riskdistill.storage.releases import Release

_ALERTED: Final = {(True, True): "both", (True, False): "champion_only", (False, True): "previous_only"}
_FINAL: Final = {(True, True): "final_and_shadow", (True, False): "final_only", (False, True): "shadow_only"}
WAITING: Final = 4  # alerts that may wait to be paired: at most so many pairs straddle a turn of the traffic
AWAITED: Final = timedelta(days=90)  # for a verdict: what was not told by then is hardly ever told
_FOUND: Final = {(False, True): "previous_alone", (True, False): "champion_alone", (True, True): "by_both"}

_Compared = tuple[tuple[str, str], int]  # kinds of counts, and the group


class _Paid(NamedTuple):
    """What is kept of a transaction."""

    timestamp: datetime
    sender_account: str
    receiver_account: str


@dataclass(slots=True, eq=False)
class _Alerted:
    """What is kept of a decision on which one of the models alerted, or somebody in the end, until its verdict.

    Attributes:
        groups: the whole and its segments, by place.
        draw: as `_draw` has it.
        pairs: those that it is in, each as what is compared, the group, and the other alert.
        laundering: the verdict; None while there is none.
    """

    decided_at: datetime
    transaction: _Paid
    champion: bool
    previous: bool
    groups: tuple[int, ...]
    draw: float
    pairs: list[tuple[_Compared, _Alerted]] = field(default_factory=list)
    laundering: bool | None = None

    @property
    def accounts(self) -> set[str]:
        """Those that the verdict speaks of: nobody says of a receiver that a false alert is false."""
        paid = self.transaction
        return {paid.sender_account, paid.receiver_account} if self.laundering else {paid.sender_account}


def _draw(decision: Decision) -> float:
    """A number below each share with that chance, whatever the decision's own chance was; infinite if not drawn."""
    chance = decision.sample_share if decision.action == "allow" else 1.0
    return float("inf") if chance is None else luck(decision) * chance


class Case:
    """The evidence for and against one champion.

    Args:
        champion: whose case it is.
        policy: margins and budget.
        expected: what its bundle promises.
        limits: what the service did before; asked when the champion's first decision comes.
        previous: what the previous bundle promises, if there is one.
    """

    def __init__(
        self,
        champion: Release,
        policy: RollbackPolicy,
        expected: Expectation,
        limits: Callable[[], ServiceLimits],
        previous: Expectation | None = None,
    ) -> None:
        self.champion, self._policy, self._expected, self._find_limits = champion, policy, expected, limits
        self._previous = previous
        self._even = 0.0  # the smallest share by which the previous model's alerts were drawn; 0 while none was
        self._elsewhere = False  # whether its teacher answers from another machine
        self.decided, self.compared, self.looks, self._step = 0, 0, 0, 0
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._places = {name: place for place, name in enumerate((ALL, *expected.segments))}
        self._limits: ServiceLimits | None = None
        self._evidence = Evidence(policy, expected, ServiceLimits(), previous)
        self._total = {kind: np.zeros(len(self._places), np.int64) for kind in (*BY_SEGMENT, *OF_WHOLE)}
        self._news = {kind: np.zeros_like(count) for kind, count in self._total.items()}
        self._votes, self._final_votes = Votes(), Votes()
        self._unlabelled: dict[str, _Alerted] = {}  # in the order of the decisions
        self._found = set[str]()  # accounts of laundering that was counted
        self._nearest: defaultdict[_Compared, Nearest[_Alerted]] = defaultdict(lambda: Nearest(WAITING))
        self._judged: defaultdict[tuple[_Compared, bool], set[str]] = defaultdict(set)  # accounts, by verdict

    def is_of(self, champion: Release) -> bool:
        """Whether this is the case of `champion`, since it last became that. An approval begins no new one."""
        mine = self.champion
        return (mine.release_id, mine.changed_at) == (champion.release_id, champion.changed_at)

    def add(self, entry: Entry, previous: Release | None, labels: Mapping[str, Outcome]) -> None:
        """Count one of the champion's decisions; the first of a new step ends the one before, as known by then.

        So whoever begins to watch in the middle of a champion's life, or again after a restart, sees the evidence
        that one look in every step has made, and the budget holds over that life.
        """
        decision = entry.decision
        if (
            decision.bundle_version != self.champion.bundle_version
            or decision.decided_at < self.champion.changed_at
        ):
            return
        if self._limits is None:
            self._limits = self._find_limits()
            self._evidence = Evidence(self._policy, self._expected, self._limits, self._previous)
        step = (decision.decided_at - self.champion.changed_at) // STEP
        if step > self._step:
            if self._last is not None:
                self.weigh(labels, self.champion.changed_at + (self._step + 1) * STEP)
            self._step = step
        if decision.sample_share is not None and decision.shadow is not None and decision.shadow.action != "allow":
            self._even = min(self._even or 1.0, decision.sample_share)
        self.decided += 1
        self._first, self._last = self._first or entry, entry
        self._count(SLOW[int(decision.latency_ms <= self._limits.slow_ms)], (0,))
        if wanted_teacher(decision):
            self._count(FAILED[int(decision.route == "teacher")], (0,))
            self._elsewhere |= decision.bypass is not None and decision.bypass.teacher != "local"
        shadow = decision.shadow
        if shadow is not None and previous is not None and shadow.bundle_version == previous.bundle_version:
            self._compare(decision, shadow)

    def _compare(self, decision: Decision, shadow: Shadow) -> None:
        self.compared += 1
        groups = (0, *(self._places[name] for name in segments_of(decision.transaction) if name in self._places))
        champion, previous = decision.student_score >= self._expected.review, shadow.action != "allow"
        final = final_alert(decision)
        self._count(OWN[int(not champion)], groups)
        self._count(ENDED[int(not final)], (0,))
        sender, day = decision.transaction.sender_account, decision.decided_at.toordinal()
        if (champion or previous) and self._votes.first(sender, day):
            self._count(_ALERTED[champion, previous], groups)
        if (final or previous) and self._final_votes.first(sender, day):
            self._count(_FINAL[final, previous], (0,))
        if self._policy.labels and (champion or previous or final):
            self._await(decision, champion, previous, groups)
        if decision.teacher_score is not None:
            excess = abs(decision.student_score - decision.teacher_score)
            excess -= abs(shadow.score - decision.teacher_score)
            if abs(excess) > self._policy.tolerance:
                self._count(DISTANCES[int(excess < 0)], (0,))

    def _await(self, decision: Decision, champion: bool, previous: bool, groups: tuple[int, ...]) -> None:
        paid = decision.transaction
        alerted = self._unlabelled[decision.tx_id] = _Alerted(
            decision.decided_at,
            _Paid(paid.timestamp, paid.sender_account, paid.receiver_account),
            champion,
            previous,
            groups,
            _draw(decision),
        )
        if alerted.draw >= (self._even or 1.0) or not (previous or decision.action != "allow"):
            return  # it is not known whatever it turns out to be, or not with the chance of all
        if champion != previous:
            for group in groups:
                self._pair((PAIRS, group), alerted)
        if final_alert(decision) != previous:
            self._pair((FINAL_PAIRS, 0), alerted)

    def _pair(self, compared: _Compared, alerted: _Alerted) -> None:
        if pair := self._nearest[compared].add(not alerted.previous, alerted):
            one, other = pair
            one.pairs.append((compared, other))
            other.pairs.append((compared, one))

    def weigh(self, labels: Mapping[str, Outcome], now: datetime) -> None:
        """End a look: let each test that learnt something see what is new.

        A transaction counts once, with the first verdict that a look finds; a placeholder leaves it waiting.
        """
        for tx_id in [tx_id for tx_id in self._unlabelled if tx_id in labels] if labels else ():
            alerted = self._unlabelled[tx_id]
            alerted.laundering = verdict_at(alerted, labels[tx_id], now)
            if alerted.laundering is not None:
                self._label(self._unlabelled.pop(tx_id))
        while self._unlabelled:
            oldest = next(iter(self._unlabelled))
            if self._unlabelled[oldest].decided_at >= now - AWAITED:
                break
            del self._unlabelled[oldest]
        self.looks += 1
        whole = {kind: self._news[kind][:1] for kind in OF_WHOLE}
        self._evidence.look({kind: self._news[kind] for kind in BY_SEGMENT} | whole, self._step)
        for kind, news in self._news.items():
            self._total[kind] += news
            news[:] = 0

    def _label(self, alerted: _Alerted) -> None:
        if alerted.laundering and (alerted.champion or alerted.previous):
            if self._found.isdisjoint(alerted.accounts):
                self._count(_FOUND[alerted.champion, alerted.previous], alerted.groups)
            self._found |= alerted.accounts
        for compared, other in alerted.pairs:
            if other.laundering is not None:
                self._settle(compared, alerted, other)

    def _settle(self, compared: _Compared, one: _Alerted, other: _Alerted) -> None:
        """Count a pair if one of the two is false, and neither verdict repeats what was told of its accounts."""
        if max(one.draw, other.draw) >= self._even:  # a smaller share has turned up since
            return
        repeats = False
        for alerted in (one, other):
            judged = self._judged[compared, bool(alerted.laundering)]
            repeats |= not judged.isdisjoint(alerted.accounts)
            judged |= alerted.accounts
        if not repeats and one.laundering != other.laundering:
            false = other if one.laundering else one
            kinds, group = compared
            self._count(kinds[int(false.previous)], (group,))

    def _count(self, kind: str, groups: Iterable[int]) -> None:
        for group in groups:
            self._news[kind][group] += 1

    def measures(self) -> tuple[Measure, ...]:
        """Each measure's evidence so far, and whether it is against the champion itself."""
        over = self._last is not None and (
            self._last.decision.decided_at >= self.champion.changed_at + self._policy.trial
        )
        others = {
            "slow": over,
            "errors": over or self._elsewhere,
            "more_final_alerts": over or self._elsewhere,
            "fewer_final_alerts": over or self._elsewhere,
            "false_final_alerts": self._elsewhere,
        }
        acting = [metric for metric in self._policy.acting if not others.get(metric)]
        return self._evidence.measures(self._total, acting)

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
