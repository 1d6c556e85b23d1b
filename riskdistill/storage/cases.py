"""Cases: what investigators found of transactions, and since when that is known. Labels are made from them.

A case is an entry of a journal and never changes. What is known of a transaction at a moment is the case with the
latest `known_at` up to then; so a later finding supersedes an earlier one from its own `known_at` on, and what was
known before stays what it was. Of two cases of one `known_at` that agree, the later entry holds; if they contradict
each other, the second is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict

from riskdistill.data.schema import LABELS, NORMAL, UNLISTED
from riskdistill.errors import CaseError, ContradictionError, NotFoundError
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import Decision
from riskdistill.storage.journal import Index, Journal
from riskdistill.storage.verification import VerifyResult

Outcome = Literal["laundering", "false_alert", "inconclusive"]
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
SETTLED: Final = ("laundering", "false_alert")  # outcomes that say what is true

_METADATA: Final = sa.MetaData()
CASE_TRANSACTIONS: Final = sa.Table(
    "case_transactions",
    _METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),  # of the case in the journal
    sa.Column("tx_id", sa.Text, primary_key=True),
    sa.Column("case_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("typology", sa.Text),
    sa.Column("known_at", sa.Text, nullable=False),  # ISO 8601, UTC, microseconds: sorts as text
    sa.Column("recorded_at", sa.Text, nullable=False, index=True),
    sa.Index("case_transactions_by_tx", "tx_id", "known_at"),
)


class Case(BaseModel):
    """One finding on one or several transactions.

    Attributes:
        typology: of laundering; `unlisted` where none was named.
        known_at: when the outcome became known.
        recorded_at: when it was told to this log.
        actor: whose key or token told it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: str
    tx_ids: tuple[str, ...]
    outcome: Outcome
    typology: str | None = None
    note: str | None = None
    known_at: AwareDatetime
    recorded_at: AwareDatetime
    actor: str


class Finding(NamedTuple):
    """What an investigator tells; see `Case`."""

    tx_ids: Sequence[str]
    outcome: Outcome
    known_at: datetime
    typology: str | None = None
    note: str | None = None


class CaseLog:
    """The journal of cases at a database `url`; see `Journal` for arguments and errors."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.journal = case_journal(url, create=create)

    def close(self) -> None:
        """Releases the database's connections."""
        self.journal.close()

    def record(
        self,
        finding: Finding,
        *,
        decided: Mapping[str, Decision],
        typologies: Collection[str] | None,
        actor: str,
        now: datetime | None = None,
    ) -> Case:
        """Keeps a finding; told again word for word, it gives the case that is there.

        Args:
            decided: the decisions on its transactions, by transaction.
            typologies: names that a typology may have, beside those that earlier cases gave; None: it is new.
            actor: who tells it.
            now: the default is the clock's.

        Raises:
            NotFoundError: a transaction was never decided on.
            CaseError: it cannot be true: known in the future or before the payment, an unknown typology, or a
                typology of what is no laundering.
            ContradictionError: another case of the same `known_at` says otherwise.
            UnavailableError: the database cannot be written now.
        """
        now = now or datetime.now(UTC)
        if typologies is not None:
            typologies = {*typologies, *self._named(finding.typology)}
        finding = _checked(finding, decided, typologies, now)
        known: list[str] = []  # id of the case that says the same already

        def plan(connection: sa.Connection, sequence: int) -> list[str]:
            same = _told_before(connection, finding)
            if same is not None:
                known.append(same)
                return []
            case = Case(case_id=f"c{sequence}", recorded_at=now.astimezone(UTC), actor=actor, **finding._asdict())
            return [canonical_json(case.model_dump(mode="json", exclude_none=True))]

        written = self.journal.append(plan)
        return Case.model_validate_json(written[0].body) if written else self.get(known[-1])

    def _named(self, typology: str | None) -> set[str]:
        """The typology, if an earlier case gave it."""
        query = sa.select(CASE_TRANSACTIONS.c.typology).where(CASE_TRANSACTIONS.c.typology == typology).limit(1)
        return {row.typology for row in self.journal.fetch(query)} if typology is not None else set()

    def get(self, case_id: str) -> Case:
        """The case of that id.

        Raises:
            NotFoundError: there is none.
        """
        number = case_id.removeprefix("c")
        if number.isascii() and number.isdecimal() and len(number) < 19:
            for entry in self.journal.entries(int(number) - 1, 1):
                if f"c{entry.sequence}" == case_id:
                    return Case.model_validate_json(entry.body)
        raise NotFoundError("no case has this id", mend="use a case_id that recording a case gave")

    def list(self, after: int = 0, limit: int = 100) -> list[Case]:
        """Cases in the order in which they were recorded, from the one after number `after`."""
        return [Case.model_validate_json(entry.body) for entry in self.journal.entries(after, limit)]

    def labels(self, as_known_at: datetime) -> pa.Table:
        """The canonical labels that the cases make, as known at a moment, in order of transaction id.

        What is inconclusive then has no label. `scheme_id` is the case: its payments belong together.
        """
        latest = latest_outcomes(as_known_at)
        settled = sa.select(latest).where(latest.c.outcome.in_(SETTLED)).order_by(latest.c.tx_id)
        rows = []
        for row in self.journal.fetch(settled):
            laundering = row.outcome == "laundering"
            rows.append(
                {
                    "tx_id": row.tx_id,
                    "is_laundering": laundering,
                    "typology": row.typology if laundering else NORMAL,
                    "scheme_id": row.case_id if laundering else None,
                    "known_at": datetime.fromisoformat(row.known_at),
                }
            )
        return pa.Table.from_pylist(rows, schema=LABELS)

    def verify(self) -> VerifyResult:
        """Checks the chain and its index, see `Journal.verify`."""
        return self.journal.verify()


def case_journal(url: str, *, create: bool) -> Journal:
    """What the cases at `url` are kept in."""
    return Journal(
        url, "cases", "case log", index=Index(CASE_TRANSACTIONS, _index_rows), prunable=True, create=create
    )


def latest_outcomes(as_known_at: datetime | None = None) -> sa.Subquery:
    """Rows of CASE_TRANSACTIONS that hold, one for each transaction; at a moment, or of all that is recorded."""
    table = CASE_TRANSACTIONS
    order = sa.func.row_number().over(
        partition_by=table.c.tx_id, order_by=(table.c.known_at.desc(), table.c.sequence.desc())
    )
    ranked = sa.select(table, order.label("place"))
    if as_known_at is not None:
        ranked = ranked.where(table.c.known_at <= as_text(as_known_at))
    inner = ranked.subquery()
    return sa.select(inner).where(inner.c.place == 1).subquery()


def as_text(moment: datetime) -> str:
    """How the index spells a moment."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _checked(
    finding: Finding, decided: Mapping[str, Decision], typologies: Collection[str] | None, now: datetime
) -> Finding:
    unknown = [tx_id for tx_id in finding.tx_ids if tx_id not in decided]
    if unknown:
        raise NotFoundError(
            f"{len(unknown)} of its transactions were never decided on here",
            where=f"transaction {unknown[0]}",
            mend="name transactions that were scored",
        )
    if not finding.tx_ids:
        raise CaseError("a case needs a transaction")
    if finding.known_at > now:
        raise CaseError("known_at is in the future", where="known_at", mend="say when it became known")
    newest = max(decided[tx_id].transaction.timestamp for tx_id in finding.tx_ids)
    if finding.known_at < newest:
        raise CaseError(
            "known_at is before a payment of the case was made", where="known_at", mend="say when it became known"
        )
    if finding.typology is not None and finding.outcome != "laundering":
        raise CaseError(f"an outcome of {finding.outcome} has no typology", where="typology", mend="leave it out")
    if finding.typology is not None:
        _check_typology(finding.typology, typologies)
    typology = finding.typology or UNLISTED if finding.outcome == "laundering" else None
    return finding._replace(
        tx_ids=tuple(sorted(set(finding.tx_ids))), typology=typology, known_at=finding.known_at.astimezone(UTC)
    )


def _check_typology(name: str, typologies: Collection[str] | None) -> None:
    if typologies is None:
        if name == NORMAL or not _NAME.fullmatch(name):
            raise CaseError(
                f"{name!r} cannot name a typology",
                where="typology",
                mend="write it in small letters, as layered_cycle",
            )
        return
    named = sorted({*typologies, UNLISTED} - {NORMAL})
    if name not in named:
        raise CaseError(
            "no such typology", where="typology", mend=f"use one of {', '.join(named)}, or say that it is new"
        )


def _told_before(connection: sa.Connection, finding: Finding) -> str | None:
    """Id of a case that says the same of all transactions.

    Raises:
        ContradictionError: one says something else, as known at the same moment.
    """
    table = CASE_TRANSACTIONS
    rows = connection.execute(
        sa.select(table)
        .where(table.c.tx_id.in_(finding.tx_ids), table.c.known_at == as_text(finding.known_at))
        .order_by(table.c.sequence)
    ).all()
    for row in rows:
        if row.outcome != finding.outcome:
            raise ContradictionError(
                f"case {row.case_id} of the same known_at says {row.outcome} of transaction {row.tx_id}",
                where="outcome",
                mend="give the corrected outcome the time when it became known",
            )
    members: dict[str, set[str]] = {}
    for row in rows:
        if row.typology == finding.typology:
            members.setdefault(row.case_id, set()).add(row.tx_id)
    return next((case_id for case_id, found in members.items() if found == set(finding.tx_ids)), None)


def _index_rows(sequence: int, body: str) -> list[dict[str, Any]]:
    case = Case.model_validate_json(body)
    return [
        {
            "sequence": sequence,
            "tx_id": tx_id,
            "case_id": case.case_id,
            "outcome": case.outcome,
            "typology": case.typology,
            "known_at": as_text(case.known_at),
            "recorded_at": as_text(case.recorded_at),
        }
        for tx_id in case.tx_ids
    ]
