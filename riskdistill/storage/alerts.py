"""The alert queue: decisions that somebody should look at, the most valuable first, and a sample of the others.

The table repeats parts of decisions for queries; it is written in the transaction that stores them, and all of it
stands in their bodies too. What is waiting is what no case has settled or looked into.

Samples are decisions below the line (action `allow`), drawn with a recorded probability that has nothing to do with
what they are. Their cases say what the alerts miss; see `riskdistill.evaluation.recall_estimate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from riskdistill.errors import UnavailableError
from riskdistill.evaluation.recall_estimate import RecallEstimate, Stratum, estimate_recall
from riskdistill.storage.database import open_database

if TYPE_CHECKING:
    from riskdistill.storage.decisions import Decision

Kind = Literal["alert", "suppressed", "sample"]
SAMPLE_PART: Final = 0.1  # of a day's budget is kept for samples, while some wait

METADATA: Final = sa.MetaData()
ALERTS: Final = sa.Table(
    "alerts",
    METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),  # of the decision in its log
    sa.Column("decision_id", sa.Text, nullable=False),
    sa.Column("tx_id", sa.Text, nullable=False, index=True),
    sa.Column("decided_at", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("expected_loss", sa.Float(53), nullable=False),  # probability times US dollars at risk
    sa.Column("sample_share", sa.Float(53)),
    sa.Index("alerts_by_value", "kind", "expected_loss"),
)


class Waiting(NamedTuple):
    """One place in the queue. `expected_loss` is in US dollars."""

    decision_id: str
    tx_id: str
    kind: Kind
    expected_loss: float
    sequence: int


class Queue(NamedTuple):
    """What to review today, in order.

    Attributes:
        items: at most what is left of the budget.
        reviewed_today: transactions of the queue that a case was recorded on since midnight UTC.
        alerts_waiting, samples_waiting: how many there are, shown or not.
    """

    items: tuple[Waiting, ...]
    reviewed_today: int
    alerts_waiting: int
    samples_waiting: int


def note_alerts(connection: sa.Connection, decisions: Iterable[tuple[int, Decision]]) -> None:
    """Enters the alerts and samples among decisions that are being stored, each with its place in the log."""
    rows = [row for sequence, decision in decisions if (row := _row(sequence, decision)) is not None]
    if rows:
        connection.execute(sa.insert(ALERTS), rows)


def _row(sequence: int, decision: Decision) -> dict[str, Any] | None:
    if decision.band == "low" and decision.sample_share is None:
        return None
    kind: Kind = "sample" if decision.band == "low" else "suppressed" if decision.suppression else "alert"
    return {
        "sequence": sequence,
        "decision_id": decision.decision_id,
        "tx_id": decision.tx_id,
        "decided_at": decision.decided_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": kind,
        "expected_loss": decision.score * (decision.at_risk_usd or 0.0),
        "sample_share": decision.sample_share,
    }


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """By expected loss, the largest first; equal ones in the order in which they were decided."""
    return sorted(waiting, key=lambda one: (-one.expected_loss, one.sequence))


def places(left: int, budget: int, alerts: int, samples: int, samples_reviewed: int) -> tuple[int, int]:
    """How many alerts and how many samples are shown.

    Samples have a tenth of the budget (at least one place); what either cannot fill, the other gets.

    Args:
        left: of the budget.
        budget: of the day.
        alerts, samples: how many wait.
        samples_reviewed: today.
    """
    kept = max(0, math.ceil(SAMPLE_PART * budget) - samples_reviewed)
    shown = min(samples, kept, left)
    alerts_shown = min(alerts, left - shown)
    return alerts_shown, min(samples, left - alerts_shown)


class AlertQueue:
    """The queue at the `url` of a decision log whose database also has the cases; reads only.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_database(url, create=False)

    def close(self) -> None:
        """Releases the database's connections."""
        self._engine.dispose()

    def today(self, budget: int, now: datetime | None = None) -> Queue:
        """What is left to review of a daily `budget` of transactions.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        now = (now or datetime.now(UTC)).astimezone(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            with self._engine.connect() as connection:
                reviewed = _reviewed_since(connection, midnight)
                left = max(0, budget - sum(reviewed.values()))
                samples_reviewed = sum(count for kind, count in reviewed.items() if kind != "alert")
                alerts, samples = _waiting(connection, _IS_ALERT), _waiting(connection, _IS_SAMPLE)
                n_alerts, n_samples = places(left, budget, alerts, samples, samples_reviewed)
                # samples by decision id, which is random: who comes first says nothing of what it is
                items = [
                    *_first(connection, _IS_ALERT, (ALERTS.c.expected_loss.desc(), ALERTS.c.sequence), n_alerts),
                    *_first(connection, _IS_SAMPLE, (ALERTS.c.decision_id,), n_samples),
                ]
        except SQLAlchemyError as error:
            raise _unavailable(error) from error
        return Queue(tuple(in_order(items)), sum(reviewed.values()), alerts, samples)

    def estimate(self, since: datetime | None = None) -> RecallEstimate:
        """What share of the laundering was alerted, of decisions from `since` on.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        from riskdistill.storage.cases import latest_outcomes  # it needs the decisions, which need this module

        latest = latest_outcomes()
        outcome = sa.func.coalesce(latest.c.outcome, "none").label("outcome")
        query = (
            sa.select(ALERTS.c.kind, ALERTS.c.sample_share, outcome, sa.func.count().label("number"))
            .select_from(ALERTS.outerjoin(latest, latest.c.tx_id == ALERTS.c.tx_id))
            .group_by(ALERTS.c.kind, ALERTS.c.sample_share, outcome)
        )
        if since is not None:
            text = since.astimezone(UTC).isoformat(timespec="microseconds")
            query = query.where(ALERTS.c.decided_at >= text)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
        except SQLAlchemyError as error:
            raise _unavailable(error) from error
        return _estimate([(row.kind, row.sample_share, row.outcome, row.number) for row in rows])


_IS_ALERT: Final = ALERTS.c.kind == "alert"
_IS_SAMPLE: Final = ALERTS.c.sample_share.is_not(None)


def _no_case() -> sa.ColumnElement[bool]:
    from riskdistill.storage.cases import CASE_TRANSACTIONS

    return ~sa.exists().where(CASE_TRANSACTIONS.c.tx_id == ALERTS.c.tx_id)


def _waiting(connection: sa.Connection, kind: sa.ColumnElement[bool]) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(ALERTS).where(kind, _no_case())) or 0)


def _first(
    connection: sa.Connection, kind: sa.ColumnElement[bool], order: tuple[sa.ColumnElement[Any], ...], number: int
) -> list[Waiting]:
    if not number:
        return []
    columns = [ALERTS.c[name] for name in ("decision_id", "tx_id", "kind", "expected_loss", "sequence")]
    rows = connection.execute(sa.select(*columns).where(kind, _no_case()).order_by(*order).limit(number))
    return [Waiting(*row) for row in rows]


def _reviewed_since(connection: sa.Connection, moment: datetime) -> dict[str, int]:
    """Number of the queue's transactions that a case was recorded on, by kind."""
    from riskdistill.storage.cases import CASE_TRANSACTIONS, as_text

    joined = ALERTS.join(CASE_TRANSACTIONS, CASE_TRANSACTIONS.c.tx_id == ALERTS.c.tx_id)
    query = (
        sa.select(ALERTS.c.kind, sa.func.count(ALERTS.c.tx_id.distinct()))
        .select_from(joined)
        .where(CASE_TRANSACTIONS.c.recorded_at >= as_text(moment))
        .group_by(ALERTS.c.kind)
    )
    return {kind: number for kind, number in connection.execute(query).all()}


def _estimate(counts: Iterable[tuple[str, float | None, str, int]]) -> RecallEstimate:
    strata: dict[float, dict[str, int]] = {}
    alerts: dict[str, int] = {}
    for kind, share, outcome, number in counts:
        if kind == "alert":
            alerts[outcome] = alerts.get(outcome, 0) + number
        elif share is not None:
            told = strata.setdefault(share, {})
            told[outcome] = told.get(outcome, 0) + number
    return estimate_recall(
        detected=alerts.get("laundering", 0),
        open_alerts=alerts.get("none", 0) + alerts.get("inconclusive", 0),
        strata=[
            Stratum(
                share=share,
                drawn=sum(told.values()),
                settled=told.get("laundering", 0) + told.get("false_alert", 0),
                laundering=told.get("laundering", 0),
            )
            for share, told in sorted(strata.items())
        ],
    )


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    cause = getattr(error, "orig", None) or error
    return UnavailableError(
        f"the alert queue cannot be read: {cause}", mend="check the database, then send the request again"
    )
