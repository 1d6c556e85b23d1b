"""The audit record: do the logs verify, who changed what served, on which figures, and what was decided.

It is a function of the logs and the period alone, so that a reviewer can make it again and compare. The head hashes
in it, kept apart from the database, also betray a log whose newest entries were cut off later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from pydantic import BaseModel, ConfigDict, Field

from riskdistill.errors import AuditError
from riskdistill.storage.acts import Act
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.journal import Journal
from riskdistill.storage.releases import ReleaseLog, State, Transition
from riskdistill.storage.suppressions import Change, Suppression
from riskdistill.storage.verification import VerifyResult


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ChainCheck(_Record):
    """Whether a log verifies: its length, head and how many decisions were deleted of it, or its first fault."""

    entries: int = 0
    head: str | None = None
    pruned: int = 0
    fault: str | None = None


class DecisionCount(_Record):
    """Decisions of one bundle, band, route and action."""

    bundle_version: str
    band: str
    route: str
    action: str
    decisions: int


class ReasonCount(_Record):
    """How many alerts name a reason, by its code in the catalogue, and for how many it is the strongest."""

    code: str
    alerts: int
    strongest: int


class BypassCount(_Record):
    """What came of asking the teacher for one set of reasons."""

    wanted: tuple[str, ...]
    outcome: str
    decisions: int
    changed: int = Field(description="the teacher's score alone calls for another action than the student's")
    raised: int = Field(description="the band was raised for want of an answer")
    cost: float = Field(description="in the operator's unit")


class Suppressed(_Record):
    """Alerts that a suppression let pass; `entry` is who answers for it, None without its journal."""

    suppression_id: str
    alerts: int
    held: int = Field(description="of them, those that would have been held")
    entry: Suppression | None


class AuditRecord(_Record):
    """The audit record, JSON-able. What a broken log says is left out: it proves nothing.

    Attributes:
        start, end: decided then or later, and before; None is no limit. The chains are checked whole.
        transitions: of the period, and before them the one that its first champion came by.
    """

    start: datetime | None = None
    end: datetime | None = None
    decision_log: ChainCheck
    release_log: ChainCheck
    journals: dict[str, ChainCheck] = Field(default_factory=dict)  # beside the decisions: cases, suppressions
    first_decision: datetime | None
    last_decision: datetime | None
    decisions: tuple[DecisionCount, ...]
    reasons: tuple[ReasonCount, ...] = ()
    bypass: tuple[BypassCount, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    transitions: tuple[Transition, ...]
    acts: tuple[Act, ...] = ()

    @property
    def chains(self) -> dict[str, ChainCheck]:
        """What was found of each log."""
        return {"decisions": self.decision_log, "releases": self.release_log, **self.journals}

    @property
    def intact(self) -> bool:
        """Whether all logs verify."""
        return all(chain.fault is None for chain in self.chains.values())


def audit(
    releases: ReleaseLog,
    decisions: DecisionLog,
    journals: Sequence[Journal] = (),
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> AuditRecord:
    """Verify the logs and sum up what they hold of a period.

    Args:
        journals: those that live beside the decisions, see `riskdistill.storage.desk_journals`.
        start, end: see `AuditRecord`.

    Raises:
        UnavailableError: a log cannot be read now.
    """
    decision_log, release_log = _check(decisions.verify), _check(releases.verify)
    verified = takewhile(lambda entry: entry.sequence <= decision_log.entries, decisions.read(start=start, end=end))
    tally = _Tally()
    for _, decision in verified:
        tally.add(decision)
    history = () if release_log.fault else releases.history()[: release_log.entries]
    acts = (act for sequence, act in decisions.acts() if sequence <= decision_log.entries)
    checked: dict[str, ChainCheck] = {one.log: _check(one.verify) for one in journals if one.is_there()}
    return AuditRecord(
        start=start,
        end=end,
        decision_log=decision_log,
        release_log=release_log,
        journals=checked,
        first_decision=tally.first,
        last_decision=tally.last,
        decisions=tally.counts(),
        reasons=tally.reasons(),
        bypass=tally.bypasses(),
        suppressed=tally.suppressions(_suppressions(journals, checked)),
        transitions=_of_period(history, start, end),
        acts=tuple(act for act in acts if _within(act.at, start, end)),
    )


class _Tally:
    """What is counted of the decisions, one after another."""

    def __init__(self) -> None:
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._counts = Counter[tuple[str, str, str, str]]()
        self._named, self._strongest = Counter[str](), Counter[str]()
        self._bypassed: defaultdict[tuple[tuple[str, ...], str], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
        self._passed, self._held = Counter[str](), Counter[str]()

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.first = min(self.first or decision.decided_at, decision.decided_at)
        self.last = max(self.last or decision.decided_at, decision.decided_at)
        self._counts[decision.bundle_version, decision.band, decision.route, decision.action] += 1
        self._named.update({reason.code for reason in decision.reasons})
        self._strongest.update(reason.code for reason in decision.reasons[:1])
        if (asked := decision.bypass) is not None:
            changed = asked.teacher_action not in (None, asked.student_action)
            sums = self._bypassed[asked.wanted, asked.outcome]
            for place, figure in enumerate((1, changed, asked.raised, asked.cost)):
                sums[place] += figure
        if decision.suppression is not None:
            self._passed[decision.suppression] += 1
            self._held[decision.suppression] += decision.band == "high"

    def counts(self) -> tuple[DecisionCount, ...]:
        return tuple(
            DecisionCount(bundle_version=bundle, band=band, route=route, action=action, decisions=number)
            for (bundle, band, route, action), number in sorted(self._counts.items())
        )

    def reasons(self) -> tuple[ReasonCount, ...]:
        """The most frequent first."""
        ranked = sorted(self._named.items(), key=lambda one: (-one[1], one[0]))
        return tuple(ReasonCount(code=code, alerts=n, strongest=self._strongest[code]) for code, n in ranked)

    def bypasses(self) -> tuple[BypassCount, ...]:
        return tuple(
            BypassCount(
                wanted=wanted,
                outcome=outcome,
                decisions=int(number),
                changed=int(changed),
                raised=int(raised),
                cost=cost,
            )
            for (wanted, outcome), (number, changed, raised, cost) in sorted(self._bypassed.items())
        )

    def suppressions(self, entries: dict[str, Suppression]) -> tuple[Suppressed, ...]:
        return tuple(
            Suppressed(suppression_id=name, alerts=number, held=self._held[name], entry=entries.get(name))
            for name, number in sorted(self._passed.items())
        )


def _suppressions(journals: Sequence[Journal], checked: Mapping[str, ChainCheck]) -> dict[str, Suppression]:
    """All that ever were, by id; none where their journal is not there or is broken."""
    found: dict[str, Suppression] = {}
    for journal in journals:
        if journal.log == "suppressions" and journal.log in checked and checked[journal.log].fault is None:
            changes = (Change.model_validate_json(entry.body) for entry in journal.every())
            found.update((change.entry.suppression_id, change.entry) for change in changes)
    return found


def _of_period(
    history: Sequence[Transition], start: datetime | None, end: datetime | None
) -> tuple[Transition, ...]:
    """The transitions of a period, and before them the one that its first champion came by."""
    made = [step for step in history if step.after is State.CHAMPION and step.said is None]
    before = [step for step in made if start and step.at < start]
    return (*before[-1:], *(step for step in history if _within(step.at, start, end)))


def _within(moment: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment < end)


def _check(verify: Callable[[], VerifyResult]) -> ChainCheck:
    try:
        found = verify()
    except AuditError as error:
        return ChainCheck(fault=str(error))
    return ChainCheck(entries=found.entries, head=found.head, pruned=found.pruned)
