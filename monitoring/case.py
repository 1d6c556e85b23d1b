"""The case for and against one champion: its decisions, counted for the tests of `monitoring.evidence`.

The tests are fair if what they count is independent, and payments are not: a scheme is many payments that a model
finds or misses together, and an odd account sets off many alerts. So an account has one vote a day on who alerts; a
label that says laundering counts if neither of its accounts was in laundering that was counted before, and one that
says false alert if its sender was in none.

Outcomes of two alerts, each raised by one model alone, are compared only where both were looked at whatever they
would turn out to be. The champion's own are, as alerts. What only the previous model raised is let pass: laundering
among it surfaces in the end, and the rest is never told of, so such labels would make every healthy champion look
worse. Of these only the sample below the line counts, whose shares are logged, thinned to the smallest of them, for
more is drawn near the line. Without a sample nothing is said of false alerts. What was an alert in the end, the
teacher's answers included, is compared in the same ways with the previous model's student, for nobody asked its
teacher. Known laundering is compared as it comes: what surfaces by itself is missing on the previous model's side,
which speaks for the champion.

Errors and time have nothing beside them at the same moment: they are compared with hours of before, and so is in
part what was an alert in the end. What fails long after a promotion, or in a teacher elsewhere, fails under the
previous model too, so a rollback mends nothing and burns a good bundle. All of these are the champion's own only
for a while after its promotion (`RollbackPolicy.trial`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
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
from monitoring.segments import segments_of
from monitoring.service_level import final_alert, wanted_teacher
from riskdistill.storage.decisions import Decision, Entry, Shadow
from riskdistill.storage.releases import Release

_ALERTED: Final = {(True, True): "both", (True, False): "champion_only", (False, True): "previous_only"}
_FINAL: Final = {(True, True): "final_and_shadow", (True, False): "final_only", (False, True): "shadow_only"}
_FOUND: Final = {(False, True): "previous_alone", (True, False): "champion_alone", (True, True): "by_both"}


class _Alerted(NamedTuple):
    """A decision on which one of the models alerted, or somebody in the end; its verdict is awaited."""

    decision: Decision
    champion: bool
    previous: bool
    groups: tuple[int, ...]

    @property
    def reviewed(self) -> bool:
        """Whether it was an alert in the end, so that somebody looks at it whatever it is."""
        return self.decision.action != "allow"


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
        self._day, self._voted = 0, set[tuple[str, str]]()
        self._unlabelled: dict[str, _Alerted] = {}
        self._counted: dict[bool, set[str]] = {True: set(), False: set()}  # accounts, by what their labels said
        self._unmatched: dict[
            tuple[tuple[str, str], int], tuple[bool, list[bool]]
        ] = {}  # kinds, group -> whose alerts wait, whether they are false

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
        if champion or previous:
            self._vote(_ALERTED[champion, previous], sender, day, groups)
        if final or previous:
            self._vote(_FINAL[final, previous], sender, day, (0,))
        if self._policy.labels and (champion or previous or final):
            self._unlabelled[decision.tx_id] = _Alerted(decision, champion, previous, groups)
        if decision.teacher_score is not None:
            excess = abs(decision.student_score - decision.teacher_score)
            excess -= abs(shadow.score - decision.teacher_score)
            if abs(excess) > self._policy.tolerance:
                self._count(DISTANCES[int(excess < 0)], (0,))

    def _vote(self, kind: str, account: str, day: int, groups: tuple[int, ...]) -> None:
        if day != self._day:
            self._day, self._voted = day, set()
        if (account, kind) not in self._voted:
            self._voted.add((account, kind))
            self._count(kind, groups)

    def weigh(self, labels: Mapping[str, Outcome], now: datetime) -> None:
        """End a look: let each test that learnt something see what is new.

        A transaction counts once, with the first verdict that a look finds; a placeholder leaves it waiting.
        """
        for tx_id in [tx_id for tx_id in self._unlabelled if tx_id in labels] if labels else ():
            laundering = verdict_at(self._unlabelled[tx_id].decision, labels[tx_id], now)
            if laundering is not None:
                self._label(self._unlabelled.pop(tx_id), laundering)
        self.looks += 1
        whole = {kind: self._news[kind][:1] for kind in OF_WHOLE}
        self._evidence.look({kind: self._news[kind] for kind in BY_SEGMENT} | whole, self._step)
        for kind, news in self._news.items():
            self._total[kind] += news
            news[:] = 0

    def _label(self, alerted: _Alerted, laundering: bool) -> None:
        paid = alerted.decision.transaction
        accounts = {paid.sender_account, paid.receiver_account} if laundering else {paid.sender_account}
        known = not self._counted[laundering].isdisjoint(accounts)
        self._counted[laundering] |= accounts
        if known:
            return
        if laundering and (alerted.champion or alerted.previous):
            self._count(_FOUND[alerted.champion, alerted.previous], alerted.groups)
        if alerted.champion != alerted.previous and self._looked_at(alerted):
            for group in alerted.groups:
                self._match(PAIRS, group, alerted.champion, not laundering)
        if alerted.reviewed != alerted.previous and (alerted.reviewed or self._sampled(alerted.decision)):
            self._match(FINAL_PAIRS, 0, alerted.reviewed, not laundering)

    def _looked_at(self, alerted: _Alerted) -> bool:
        """Whether an alert was reviewed whatever its outcome, with a chance that all of its model's have."""
        return alerted.reviewed if alerted.champion else self._sampled(alerted.decision)

    def _sampled(self, decision: Decision) -> bool:
        chance = decision.sample_share if decision.action == "allow" else 1.0  # an alert of the teacher's
        return chance is not None and luck(decision) * chance < self._even

    def _match(self, kinds: tuple[str, str], group: int, champion: bool, false: bool) -> None:
        """Match an alert with the oldest one of the other model that waits; it waits itself where there is none."""
        whose, waiting = self._unmatched.get((kinds, group), (champion, []))
        if whose == champion or not waiting:
            self._unmatched[kinds, group] = (champion, [*waiting, false] if whose == champion else [false])
            return
        other = waiting.pop(0)
        if false != other:
            self._count(kinds[int(champion != false)], (group,))

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
