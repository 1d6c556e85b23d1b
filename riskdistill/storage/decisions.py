"""The decision log: append-only, hash-chained, and the source of truth for account state and reports.

One row is one decision. Its `body` (JSON of `Decision`, compact, in the order of its fields) is what the chain
covers; the other columns repeat parts of the body for queries, and `verify` checks that they still agree. The
chain shows every change, removal or re-ordering inside the log; that the *newest* rows were cut off shows only
against a head kept elsewhere, which is why `verify` returns it and `riskdistill.storage.anchors` signs it.

Acts (`riskdistill.storage.acts`) are entries too, and old decisions can be deleted with proof
(`riskdistill.storage.retention`), so the sequences of the decisions may have gaps; those of the entries have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, func, select, true
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConfigError, ConflictError, UnavailableError
from riskdistill.storage import verification
from riskdistill.storage.acts import NEWEST, Act, Head, head, newest_of, write_act
from riskdistill.storage.alerts import ALERTS, alert_rows, check_alerts
from riskdistill.storage.chain import link
from riskdistill.storage.database import Inserts, cause_of, insert_after, open_database, writing
from riskdistill.storage.schema import prepare
from riskdistill.storage.tables import ACTS, DECISIONS, PAYLOADS
from riskdistill.storage.verification import VerifyResult, as_text
from riskdistill.trusted import Trusted

Band = Literal["low", "medium", "high"]
Action = Literal["allow", "review", "hold"]
Route = Literal["student", "teacher", "student_degraded"]
WantedReason = Literal[
    "above_threshold", "uncertain", "amount", "country", "payment_format", "customer_class", "sampled"
]
RouteReason = Literal[
    "none",
    WantedReason,
    "teacher_late",
    "teacher_failed",
    "teacher_not_loaded",
    "teacher_busy",
    "breaker_open",
    "budget",
    "step_failed",
]
BypassOutcome = Literal["answered", "late", "failed", "not_loaded", "busy", "breaker_open", "budget"]
Fallback = Literal["cheap", "safe"]
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


class Explained(_Record):
    """What the reasons of an alert rest on."""

    catalogue: str = Field(description="version of the sentences that the reasons are told in")
    milliseconds: float = Field(ge=0, description="what finding the reasons took, queueing included")
    past: tuple[StatedReason, ...] = Field(description="past payments that raised the score most, each alone")
    facts: dict[str, float] = Field(description="values that the reasons name, by feature")


class Shadow(_Record):
    """What another student makes of the same features: the champion's beside a canary, else the previous one's."""

    bundle_version: str
    score: float = Field(ge=0, le=1)
    action: Action


class Bypass(_Record):
    """Why the teacher was wanted, what came of it and what it took."""

    wanted: tuple[WantedReason, ...] = Field(
        min_length=1, description="all reasons; `sampled` by itself leaves the decision to the student"
    )
    outcome: BypassOutcome
    teacher: str = Field(description="kind of the teacher: local, riskdistill or open_inference")
    teacher_version: str | None = Field(default=None, description="as a remote teacher states it")
    latency_ms: float | None = Field(
        default=None, ge=0, description="from asking to the answer or the deadline; None where nobody was asked"
    )
    cost: float = Field(default=0.0, ge=0, description="of the call, in the operator's unit")
    sample_share: float | None = Field(
        default=None, gt=0, le=1, description="the chance with which it was drawn; None where it was not"
    )
    student_action: Action = Field(description="what the student's score alone calls for")
    teacher_action: Action | None = Field(
        default=None, description="what the teacher's score alone calls for; None without one"
    )
    raised: bool = Field(default=False, description="the band is one above the student's, for want of an answer")


class Decision(_Record):
    """The stored answer for one transaction.

    `score` is the score that decided: the teacher's on route `teacher`, else the student's. Where `bypass.raised`,
    band and action are above its own. All scores are calibrated probabilities. `transaction` carries
    pseudonyms in place of account ids.
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
    bypass: Bypass | None = Field(default=None, description="None where the teacher was not wanted")
    explained: Explained | None = Field(default=None, description="only for alerts")
    at_risk_usd: float | None = Field(default=None, ge=0, description="amount paid; only for alerts and samples")
    suppression: str | None = Field(
        default=None, description="id of the suppression that made an alert's action `allow`"
    )
    sample_share: float | None = Field(
        default=None, gt=0, le=1, description="probability by which it was drawn into the sample below the line"
    )
    features: str | None = Field(
        default=None, description="the row that the models saw, see `riskdistill.features.packed`"
    )


trusted: Final = Trusted(Decision)


class Entry(NamedTuple):
    """A decision and its place in the log, counted from 1."""

    sequence: int
    decision: Decision


class SealedPayload(NamedTuple):
    """The encrypted request behind a decision (`riskdistill.storage.payloads`), and which key opens it."""

    key_id: str
    sealed: bytes


class DecisionLog:
    """The log at a database `url`. Safe to use from several threads, and on PostgreSQL from several processes.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and tables if missing, and migrate older ones; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`, or it holds a log of a newer version (for a reader: of an older).
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.engine: Engine = open_database(url, create=create)
        try:
            prepare(self.engine, "decisions", create=create)
        except ConfigError:
            self.engine.dispose()
            raise

    def append(self, decisions: Sequence[Decision], payloads: Mapping[str, SealedPayload] | None = None) -> None:
        """Stores all of `decisions`, in order, in one durable transaction; on an error, none of them.

        Args:
            decisions: what to store.
            payloads: what to keep beside them, by decision id.

        Raises:
            ConflictError: a decision id or transaction id is in the log already.
            UnavailableError: the database cannot be written now.
        """
        if not decisions:
            return
        bodies = [decision.model_dump_json() for decision in decisions]  # before the lock: others wait for it

        def inserts(newest: Sequence[Any]) -> Inserts:
            rows = list(_chained(decisions, bodies, newest_of(newest)))
            yield DECISIONS, rows
            yield ALERTS, alert_rows((row["sequence"], one) for row, one in zip(rows, decisions, strict=True))
            yield PAYLOADS, list(_kept(rows, payloads or {}))

        try:
            insert_after(self.engine, "decisions", NEWEST, inserts)
        except IntegrityError as error:
            raise ConflictError("a decision for this transaction is in the log already") from error
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def record(self, kind: str, *, actor: str, reason: str, details: Mapping[str, Any]) -> int:
        """Appends an act to the chain; gives its sequence.

        Raises:
            AuditError: it has no actor or no reason.
            UnavailableError: the database cannot be written now.
        """
        with self.writing() as connection:
            return write_act(connection, kind, actor=actor, reason=reason, details=details)[0]

    def acts(self, kind: str | None = None) -> list[tuple[int, Act]]:
        """The acts of that kind, or all, with their sequences, oldest first."""
        query = select(ACTS.c.sequence, ACTS.c.body).order_by(ACTS.c.sequence)
        rows = self.fetch(query if kind is None else query.where(ACTS.c.kind == kind))
        return [(row.sequence, Act.model_validate_json(row.body)) for row in rows]

    def get(self, decision_id: str) -> Decision | None:
        """The decision of that id, or None."""
        return next(self._select(DECISIONS.c.decision_id == decision_id), None)

    def by_tx(self, tx_id: str) -> Decision | None:
        """The decision for that transaction, or None."""
        return self.by_txs([tx_id]).get(tx_id)

    def by_txs(self, tx_ids: Sequence[str]) -> dict[str, Decision]:
        """The decisions that exist for these transactions, by transaction id, in one read."""
        return {found.tx_id: found for found in self._select(DECISIONS.c.tx_id.in_(tx_ids))}

    def read(
        self,
        after_sequence: int = 0,
        limit: int | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[Entry]:
        """Entries in the order of the log, from the one after `after_sequence`, at most `limit`.

        Args:
            start: decided then or later.
            end: decided before.
        """
        for row in self._rows(after_sequence, limit, within(start, end)):
            yield Entry(row.sequence, Decision.model_validate_json(row.body))

    def head(self) -> Head:
        """The newest entry of the chain now."""
        with self._reading() as connection:
            return head(connection)

    def last_observed(self) -> int:
        """The highest `Decision.observed` that the log had or has; 0 where it is empty."""
        kept = self.fetch(select(func.max(DECISIONS.c.observed)))[0][0] or 0
        gone = (int(act.details["observed"]) for _, act in self.acts(verification.PRUNED_ACT))
        return max(int(kept), *gone, 0)

    def in_state_order(self) -> Iterator[Decision]:
        """All decisions that are kept, in the order in which account state saw the transactions (`observed`).

        It differs from the log's order only where a transaction waited for the teacher while others went on.
        """
        key = (-1, 0)
        while True:
            rows = self.fetch(
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

    def verify(self, kept: Mapping[int, str] | None = None) -> VerifyResult:
        """Follows the chain from the first entry to the last, and checks that the index of alerts repeats it.

        Args:
            kept: digests by sequence, known from elsewhere, that the log must agree with.

        Raises:
            AuditError: naming the first broken link: its sequence, its decision, and what does not fit.
        """
        result = verification.verify(self.fetch, kept or {})
        check_alerts(self.fetch, Decision.model_validate_json)
        return result

    def close(self) -> None:
        """Releases the database's connections."""
        self.engine.dispose()

    def _rows(self, after: int, limit: int | None, which: ColumnElement[bool]) -> Iterator[Row[Any]]:
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            page = select(DECISIONS).where(DECISIONS.c.sequence > after, which).order_by(DECISIONS.c.sequence)
            rows = self.fetch(page.limit(size))
            yield from rows
            if len(rows) < size:
                return
            after, limit = rows[-1].sequence, None if limit is None else limit - size

    def _select(self, condition: Any) -> Iterator[Decision]:
        for row in self.fetch(select(DECISIONS.c.body).where(condition)):
            yield Decision.model_validate_json(row.body)

    def fetch(self, query: Any) -> Sequence[Row[Any]]:
        """All rows of one query.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        with self._reading() as connection:
            return connection.execute(query).all()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the chain: nobody else appends until it ends.

        Raises:
            UnavailableError: the database cannot be written now; nothing was.
            IntegrityError: what was written is there already.
        """
        try:
            with writing(self.engine, "decisions") as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _unavailable(error) from error


def within(start: datetime | None, end: datetime | None) -> ColumnElement[bool]:
    """Which rows of DECISIONS were decided from `start` on and before `end`; None is no limit."""
    since = true() if start is None else DECISIONS.c.decided_at >= as_text(start)
    return and_(since, true() if end is None else DECISIONS.c.decided_at < as_text(end))


def _chained(decisions: Iterable[Decision], bodies: Iterable[str], newest: Head) -> Iterator[dict[str, Any]]:
    sequence, previous = newest
    for decision, body in zip(decisions, bodies, strict=True):
        sequence, digest = sequence + 1, link(previous, body)
        yield {
            "sequence": sequence,
            "decision_id": decision.decision_id,
            "tx_id": decision.tx_id,
            "decided_at": as_text(decision.decided_at),
            "observed": decision.observed,
            "score": decision.score,
            "action": decision.action,
            "route": decision.route,
            "bundle_version": decision.bundle_version,
            "body": body,
            "previous_hash": previous,
            "hash": digest,
        }
        previous = digest


def _kept(rows: Iterable[Mapping[str, Any]], payloads: Mapping[str, SealedPayload]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if payload := payloads.get(row["decision_id"]):
            yield {"sequence": row["sequence"], "decided_at": row["decided_at"], **payload._asdict()}


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    return UnavailableError(
        f"the decision log cannot be used: {cause_of(error)}",
        mend="check the database, then send the request again",
    )
