"""What a label says, since when, and by what luck it was drawn for.

The controller, `monitor watch` and `monitor performance` read labels in this one way.

A label is a *verdict* if somebody looked. Tables with a label for each payment call normal what nobody looked at,
and date that to the payment itself; such a label is a placeholder and counts for nothing, until a verdict comes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import xxhash

from riskdistill.storage.decisions import Decision


class Outcome(NamedTuple):
    """What is known of one transaction, and since when; None where nothing says.

    A transaction that is told twice was looked at twice: `again` is the later verdict.
    """

    laundering: bool
    known_at: datetime | None = None
    again: bool | None = None
    again_at: datetime | None = None


class Payment(Protocol):
    """What was decided on, as far as its verdict depends on it."""

    @property
    def timestamp(self) -> datetime: ...


class Judged(Protocol):
    """A decision, or as much of it as is kept until its verdict comes."""

    @property
    def decided_at(self) -> datetime: ...

    @property
    def transaction(self) -> Payment: ...


class Told(NamedTuple):
    """What somebody found, and when that was known: after the decision."""

    laundering: bool
    known_at: datetime


def first_verdict(decision: Judged, outcome: Outcome) -> Told | None:
    """What the first look found; None where nobody looked.

    One without a time is taken for known when the payment was decided on.
    """
    if outcome.known_at is None:
        return Told(outcome.laundering, _after(decision))
    if not outcome.laundering and outcome.known_at <= decision.transaction.timestamp:
        return None
    return Told(outcome.laundering, max(outcome.known_at, _after(decision)))


def second_verdict(decision: Judged, outcome: Outcome) -> Told | None:
    """What the second look found; None where there was none."""
    if outcome.again is None:
        return None
    return Told(outcome.again, max(outcome.again_at or _after(decision), _after(decision)))


def verdict_at(decision: Judged, outcome: Outcome, now: datetime) -> bool | None:
    """Whether the transaction is laundering as the newest verdict that was known `now` has it; None without one."""
    verdicts = (second_verdict(decision, outcome), first_verdict(decision, outcome))
    return next((told.laundering for told in verdicts if told is not None and told.known_at <= now), None)


def luck(decision: Decision) -> float:
    """A number from 0 to 1 that a sample is thinned by: a hash of the decision's id, so always the same one."""
    return xxhash.xxh64_intdigest(decision.decision_id.encode()) / 2**64


def _after(decision: Judged) -> datetime:
    return decision.decided_at + timedelta.resolution
