"""The index of alerts and samples: which stored decisions somebody should look at.

The table repeats parts of decisions for queries; it is written in the transaction that stores them, and all of it
stands in their bodies too. `riskdistill.storage.alert_queue` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from riskdistill.errors import AuditError
from riskdistill.storage.tables import DECISIONS, METADATA, Place
from riskdistill.storage.verification import PAGE, Fetch

if TYPE_CHECKING:
    from riskdistill.storage.decisions import Decision

Kind = Literal["alert", "suppressed", "sample"]

ALERTS: Final = sa.Table(
    "alerts",
    METADATA,
    sa.Column("sequence", Place, primary_key=True, autoincrement=False),  # of the decision in its log
    sa.Column("decision_id", sa.Text, nullable=False),
    sa.Column("tx_id", sa.Text, nullable=False, index=True),
    sa.Column("decided_at", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("expected_loss", sa.Float(53), nullable=False),  # probability times US dollars at risk
    sa.Column("sample_share", sa.Float(53)),
    sa.Index("alerts_by_value", "kind", "expected_loss"),
)


def alert_rows(decisions: Iterable[tuple[int, Decision]]) -> list[dict[str, Any]]:
    """The rows of the alerts and samples among decisions that are being stored, each with its place in the log."""
    return [row for sequence, decision in decisions if (row := _row(sequence, decision)) is not None]


def check_alerts(fetch: Fetch, decision_of: Callable[[str], Decision]) -> None:
    """Compares the index with the decisions that it repeats, from its first entry on: older logs had none.

    Args:
        fetch: runs a query on the log's database.
        decision_of: reads the body of a decision.

    Raises:
        AuditError: naming the first alert or sample that is not in the index as it was decided.
    """
    place, decided = ALERTS.c.sequence, DECISIONS.c.sequence
    told = sa.select(ALERTS, DECISIONS.c.body).outerjoin(DECISIONS, place == decided).order_by(place).limit(PAGE)
    after = 0
    while rows := fetch(told.where(place > after)):
        for row in rows:
            expected = None if row.body is None else _row(row.sequence, decision_of(row.body))
            if expected is None or any(getattr(row, name) != value for name, value in expected.items()):
                raise _differs(row.sequence)
        after = rows[-1].sequence
    first = sa.select(sa.func.min(place)).scalar_subquery()
    hidden = sa.select(sa.func.min(decided)).where(DECISIONS.c.action != "allow", decided >= first)
    if (lost := fetch(hidden.where(decided.not_in(sa.select(place))))[0][0]) is not None:
        raise _differs(lost)


def _differs(sequence: int) -> AuditError:
    return AuditError(
        f"the table {ALERTS.name} does not tell of the decision at sequence {sequence} what was decided",
        where=f"entry {sequence}",
        mend="the queue of alerts cannot be trusted: restore the table from a copy, and find out who changed it",
    )


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
