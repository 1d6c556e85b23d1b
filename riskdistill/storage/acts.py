"""Acts: entries of the decision log's chain that are no decisions, e.g. that old decisions were deleted.

They share sequence and hash chain with the decisions, so that who did what stands between the decisions that
came before and after it, and cannot be taken out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, insert

from riskdistill.errors import AuditError
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.tables import ACTS, DECISIONS

# as text, for every commit asks it: composed, and compiled once, it still takes four times as long
NEWEST: Final = " UNION ALL ".join(
    f"SELECT * FROM (SELECT sequence, hash FROM {table.name} ORDER BY sequence DESC LIMIT 1) AS of_{table.name}"
    for table in (DECISIONS, ACTS)
)


class Act(BaseModel):
    """One act: what kind of it, who did it, when, why, and its figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    at: AwareDatetime
    actor: str
    reason: str
    details: dict[str, Any]


class Head(NamedTuple):
    """The newest entry of the chain: its sequence (as many entries there are) and its hash."""

    sequence: int
    hash: str


def head(connection: Connection) -> Head:
    """The head of the chain as `connection` sees it; under the log's write lock it stays the head."""
    return newest_of(connection.exec_driver_sql(NEWEST).all())


def newest_of(rows: Sequence[Any]) -> Head:
    """The head, of what the query `NEWEST` found."""
    return Head(*max(rows)) if rows else Head(0, GENESIS)


def write_act(
    connection: Connection, kind: str, *, actor: str, reason: str, details: Mapping[str, Any]
) -> tuple[int, Act]:
    """Appends an act to the chain, in a transaction that holds the log's write lock; gives its sequence too.

    Raises:
        AuditError: it has no actor or no reason.
    """
    if not actor.strip() or not reason.strip():
        raise AuditError("an act needs an actor and a reason", where=kind, mend="say who does it, and why")
    act = Act(kind=kind, at=datetime.now(UTC), actor=actor, reason=reason, details=dict(details))
    body = canonical_json(act.model_dump(mode="json"))
    sequence, previous = head(connection)
    row = {
        "sequence": sequence + 1,
        "kind": kind,
        "body": body,
        "previous_hash": previous,
        "hash": link(previous, body),
    }
    connection.execute(insert(ACTS), [row])
    return sequence + 1, act
