"""The alert queue: decisions that somebody should look at, the most valuable first, and a sample of the others.

What is waiting is what no case was recorded on. Samples are decisions below the line (action `allow`), drawn with a
recorded probability that has nothing to do with what they are. Their cases say what the alerts miss; see
`riskdistill.evaluation.recall_estimate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from riskdistill.errors import UnavailableError
from riskdistill.evaluation.recall_estimate import RecallEstimate, Stratum, estimate_recall
from riskdistill.storage.alerts import ALERTS, Kind
from riskdistill.storage.cases import CASE_TRANSACTIONS, as_text, latest_outcomes
from riskdistill.storage.database import open_database

SAMPLE_PART: Final = 0.1  # of a day's budget is kept for samples, while some wait


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
        with self._reading() as connection:
            reviewed = _reviewed_since(connection, midnight)
            left = max(0, budget - sum(reviewed.values()))
            samples_reviewed = sum(count for kind, count in reviewed.items() if kind != "alert")
            alerts, samples = _waiting(connection, _IS_ALERT), _waiting(connection, _IS_SAMPLE)
            n_alerts, n_samples = places(left, budget, alerts, samples, samples_reviewed)
            items = [
                *_first(connection, _IS_ALERT, (ALERTS.c.expected_loss.desc(), ALERTS.c.sequence), n_alerts),
                *_first(connection, _IS_SAMPLE, _RANDOM, n_samples),
            ]
        return Queue(tuple(in_order(items)), sum(reviewed.values()), alerts, samples)

    def estimate(self, since: datetime | None = None) -> RecallEstimate:
        """What share of the laundering was alerted, of decisions from `since` on.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        latest = latest_outcomes()
        outcome = sa.func.coalesce(latest.c.outcome, "none").label("outcome")
        query = (
            sa.select(ALERTS.c.kind, ALERTS.c.sample_share, outcome, sa.func.count().label("number"))
            .select_from(ALERTS.outerjoin(latest, latest.c.tx_id == ALERTS.c.tx_id))
            .group_by(ALERTS.c.kind, ALERTS.c.sample_share, outcome)
        )
        if since is not None:
            query = query.where(ALERTS.c.decided_at >= as_text(since))
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return _estimate([(row.kind, row.sample_share, row.outcome, row.number) for row in rows])

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise UnavailableError(
                f"the alert queue cannot be read: {cause}", mend="check the database, then send the request again"
            ) from error


_IS_ALERT: Final = ALERTS.c.kind == "alert"
_IS_SAMPLE: Final = ALERTS.c.sample_share.is_not(None)
# one of each stratum in turn; in a stratum by decision id, which is random and says nothing of what a decision is
_RANDOM: Final = (
    sa.func.row_number().over(partition_by=ALERTS.c.sample_share, order_by=ALERTS.c.decision_id),
    ALERTS.c.sample_share,
)


def _no_case() -> sa.ColumnElement[bool]:
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
    joined = ALERTS.join(CASE_TRANSACTIONS, CASE_TRANSACTIONS.c.tx_id == ALERTS.c.tx_id)
    query = (
        sa.select(ALERTS.c.kind, sa.func.count(ALERTS.c.tx_id.distinct()))
        .select_from(joined)
        .where(CASE_TRANSACTIONS.c.recorded_at >= as_text(moment))
        .group_by(ALERTS.c.kind)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


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
