"""The decision log: append-only, hash-chained, and the source of truth for account state and reports.

One row is one decision. Its `body` (canonical JSON of `Decision`) is what the chain covers; the other columns
repeat parts of the body for queries, and `verify` checks that they still agree. The chain shows every change,
removal or re-ordering inside the log; that the *newest* rows were cut off shows only against a head kept
elsewhere, which is why `verify` returns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from json import loads
from typing import Any, Final, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import (
    DDL,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    event,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from riskdistill.data.transaction import Transaction
from riskdistill.errors import AuditError, ConflictError, UnavailableError
from riskdistill.storage.canonical_bytes import decision_bytes
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.database import open_database, writing

Band = Literal["low", "medium", "high"]
Action = Literal["allow", "review", "hold"]
Route = Literal["student", "teacher", "student_degraded"]
RouteReason = Literal[
    "none", "above_threshold", "uncertain", "teacher_late", "teacher_failed", "teacher_not_loaded"
]
PAGE: Final = 1_000  # rows fetched at a time: a slow reader keeps no transaction open


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StatedReason(_Record):
    """Why a transaction was flagged: a catalogue code, its words, and its effect on the student's logit."""

    code: str
    text: str
    effect: float = Field(
        description="how much it raised the logit of the student's score, also where the teacher decided"
    )


class Shadow(_Record):
    """What the previous bundle's student makes of the same features; it decides nothing."""

    bundle_version: str
    score: float = Field(ge=0, le=1)
    action: Action


class Decision(_Record):
    """The stored answer for one transaction.

    `score` is the score that decided: the teacher's on route `teacher`, else the student's. All scores are
    calibrated probabilities. `transaction` carries pseudonyms in place of account ids.
    """

    decision_id: str
    tx_id: str
    transaction: Transaction
    request_hash: str
    decided_at: AwareDatetime
    observed: int = Field(
        default=0, ge=0, description="place in the order in which account state saw the transactions"
    )
    score: float = Field(ge=0, le=1)
    student_score: float = Field(ge=0, le=1)
    teacher_score: float | None = Field(default=None, ge=0, le=1)
    band: Band
    action: Action
    route: Route
    route_reason: RouteReason = "none"
    reasons: tuple[StatedReason, ...] = ()
    typology: str | None = Field(default=None, description="the likely typology; only for alerts")
    bundle_version: str
    latency_ms: float = Field(ge=0, description="from arrival to decision, before it was made durable")
    shadow: Shadow | None = None


class Entry(NamedTuple):
    """A decision and its place in the log, counted from 1."""

    sequence: int
    decision: Decision


class VerifyResult(NamedTuple):
    """How many entries verified, and the digest of the last (keep it elsewhere to notice a cut tail)."""

    entries: int
    head: str


_metadata = MetaData()
DECISIONS: Final = Table(
    "decisions",
    _metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("tx_id", Text, nullable=False, unique=True),
    Column("decided_at", Text, nullable=False),  # ISO 8601, UTC, microseconds: sorts as text
    Column("observed", Integer, nullable=False, index=True),
    Column("score", Float(53), nullable=False, index=True),
    Column("action", Text, nullable=False, index=True),
    Column("route", Text, nullable=False, index=True),
    Column("bundle_version", Text, nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
_COPIED: Final = ("decision_id", "tx_id", "observed", "score", "action", "route", "bundle_version")
for _verb in ("update", "delete"):
    _forbid = DDL(  # type: ignore[no-untyped-call]
        f"CREATE TRIGGER IF NOT EXISTS decisions_no_{_verb} BEFORE {_verb.upper()} ON decisions "
        "BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END"
    )
    event.listen(DECISIONS, "after_create", _forbid.execute_if(dialect="sqlite"))


class DecisionLog:
    """The log at a database `url`. Safe to use from several threads; one process at a time may append.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and table if missing; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._engine = open_database(url, create=create)
        if create:
            _metadata.create_all(self._engine)

    def append(self, decisions: Sequence[Decision]) -> None:
        """Stores all of `decisions`, in order, in one durable transaction; on an error, none of them.

        Raises:
            ConflictError: a decision id or transaction id is in the log already.
            UnavailableError: the database cannot be written now.
        """
        if not decisions:
            return
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(DECISIONS), list(_chained(decisions, *_head(connection))))
        except IntegrityError as error:
            raise ConflictError("a decision for this transaction is in the log already") from error
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def get(self, decision_id: str) -> Decision | None:
        """The decision of that id, or None."""
        return next(self._select(DECISIONS.c.decision_id == decision_id), None)

    def by_tx(self, tx_id: str) -> Decision | None:
        """The decision for that transaction, or None."""
        return self.by_txs([tx_id]).get(tx_id)

    def by_txs(self, tx_ids: Sequence[str]) -> dict[str, Decision]:
        """The decisions that exist for these transactions, by transaction id, in one read."""
        return {found.tx_id: found for found in self._select(DECISIONS.c.tx_id.in_(tx_ids))}

    def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries in the order of the log, from the one after `after_sequence`, at most `limit`."""
        for row in self._rows(after_sequence, limit):
            yield Entry(row.sequence, Decision.model_validate_json(row.body))

    def in_state_order(self) -> Iterator[Decision]:
        """All decisions in the order in which account state saw their transactions (`Decision.observed`).

        It differs from the log's order only where a transaction waited for the teacher while others went on.
        """
        key = (-1, 0)
        while True:
            rows = self._fetch(
                select(DECISIONS.c.observed, DECISIONS.c.sequence, DECISIONS.c.body)
                .where(
                    (DECISIONS.c.observed > key[0])
                    | ((DECISIONS.c.observed == key[0]) & (DECISIONS.c.sequence > key[1]))
                )
                .order_by(DECISIONS.c.observed, DECISIONS.c.sequence)
                .limit(PAGE)
            )
            for row in rows:
                yield Decision.model_validate_json(row.body)
            if len(rows) < PAGE:
                return
            key = (rows[-1].observed, rows[-1].sequence)

    def verify(self) -> VerifyResult:
        """Follows the chain from the first entry to the last.

        Raises:
            AuditError: naming the first broken link: its sequence, its decision, and what does not fit.
        """
        entries, head = 0, GENESIS
        for row in self._rows(0, None):
            fault = _fault(row, entries + 1, head)
            if fault:
                raise AuditError(
                    f"the decision log is broken at sequence {row.sequence}: {fault}",
                    where=f"decision {row.decision_id}",
                    mend="restore the log from a backup that verifies, and find out who changed it",
                )
            entries, head = row.sequence, row.hash
        return VerifyResult(entries, head)

    def close(self) -> None:
        """Releases the database's connections."""
        self._engine.dispose()

    def _rows(self, after: int, limit: int | None) -> Iterator[Row[Any]]:
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            page = select(DECISIONS).where(DECISIONS.c.sequence > after).order_by(DECISIONS.c.sequence)
            rows = self._fetch(page.limit(size))
            yield from rows
            if len(rows) < size:
                return
            after, limit = rows[-1].sequence, None if limit is None else limit - size

    def _select(self, condition: Any) -> Iterator[Decision]:
        for row in self._fetch(select(DECISIONS.c.body).where(condition)):
            yield Decision.model_validate_json(row.body)

    def _fetch(self, query: Any) -> Sequence[Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except SQLAlchemyError as error:
            raise _unavailable(error) from error


def _head(connection: Connection) -> tuple[int, str]:
    newest = select(DECISIONS.c.sequence, DECISIONS.c.hash).order_by(DECISIONS.c.sequence.desc()).limit(1)
    row = connection.execute(newest).first()
    return (row.sequence, row.hash) if row else (0, GENESIS)


def _chained(decisions: Iterable[Decision], sequence: int, previous: str) -> Iterator[dict[str, Any]]:
    for sequence, decision in enumerate(decisions, sequence + 1):  # noqa: B020 - counts on from the head
        body = decision_bytes(decision).decode()
        digest = link(previous, body)
        yield {
            "sequence": sequence,
            "decided_at": _as_text(decision.decided_at),
            **{name: getattr(decision, name) for name in _COPIED},
            "body": body,
            "previous_hash": previous,
            "hash": digest,
        }
        previous = digest


def _fault(row: Row[Any], sequence: int, previous: str) -> str | None:
    """What is wrong with `row`, given the sequence and digest that the entry before it calls for."""
    if row.sequence != sequence:
        return f"sequence gap, {sequence} is missing"
    if row.previous_hash != previous:
        return "previous hash mismatch, it does not follow the entry before it"
    if row.hash != link(row.previous_hash, row.body):
        return "hash mismatch, the body was changed"
    body = loads(row.body)
    differing = [name for name in _COPIED if getattr(row, name) != body[name]]
    if row.decided_at != _as_text(datetime.fromisoformat(body["decided_at"])):
        differing.append("decided_at")
    return f"columns differ from the body: {', '.join(differing)}" if differing else None


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    cause = getattr(error, "orig", None) or error
    return UnavailableError(
        f"the decision log cannot be used: {cause}", mend="check the database, then send the request again"
    )
