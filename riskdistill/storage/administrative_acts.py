"""The act log: what people did to a running service: keys made, changed or revoked, and what else they may change.

Append-only and hash-chained like the decision log, in a database of the administrators' choice. An act is written
*before* it takes effect: an entry may tell of something that then failed, but nothing takes effect unrecorded.
No entry holds a secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from riskdistill.errors import AuditError, ConfigError, UnavailableError
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.database import open_database, writing
from riskdistill.storage.verification import VerifyResult

_WRITE_ATTEMPTS: Final = 20  # only where a database locks less than SQLite can another writer come first


class Act(BaseModel):
    """One entry: who did what to which subject, and when (UTC)."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    at: datetime
    actor: str
    act: str
    subject: str
    details: dict[str, Any]
    hash: str


_METADATA: Final = sa.MetaData()
_ACTS: Final = sa.Table(
    "administrative_acts",
    _METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text, nullable=False),  # canonical JSON: every field of Act but the hash
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)


class ActLog:
    """The log of administrative acts at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and table if missing; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._engine = open_database(url, create=create)
        if create:
            with (
                suppress(IntegrityError),
                writing(self._engine, "administrative_acts") as connection,
            ):  # another may make it just now
                connection.execute(CreateTable(_ACTS, if_not_exists=True))
                if self._engine.dialect.name == "sqlite":
                    for verb in ("UPDATE", "DELETE"):
                        connection.exec_driver_sql(
                            f"CREATE TRIGGER IF NOT EXISTS administrative_acts_no_{verb.lower()} "
                            f"BEFORE {verb} ON administrative_acts "
                            "BEGIN SELECT RAISE(ABORT, 'the act log is append-only'); END"
                        )

    def append(self, *, actor: str, act: str, subject: str, details: Mapping[str, Any] | None = None) -> Act:
        """Stores one act durably and returns it.

        Args:
            actor: the person, or the name of the key that was used.
            act: what was done, `thing.verb` in the past: `key.created`.
            subject: to what, e.g. the key's name.
            details: JSON values; never a secret.

        Raises:
            ConfigError: no actor, act or subject, or the details are not JSON.
            UnavailableError: the database cannot be written now.
        """
        if not (actor.strip() and act.strip() and subject.strip()):
            raise ConfigError("an act needs an actor, a name and a subject", where="act log")
        fields = {"actor": actor, "act": act, "subject": subject, "details": dict(details or {})}
        for _ in range(_WRITE_ATTEMPTS):
            try:
                with writing(self._engine, "administrative_acts") as connection:
                    newest = sa.select(_ACTS).order_by(_ACTS.c.sequence.desc()).limit(1)
                    before = connection.execute(newest).first()
                    sequence, head = (before.sequence, before.hash) if before else (0, GENESIS)
                    body = _body(fields | {"sequence": sequence + 1, "at": datetime.now(UTC).isoformat()})
                    row = {"sequence": sequence + 1, "body": body, "hash": link(head, body)}
                    connection.execute(sa.insert(_ACTS), row)
                return _parse([row])[0]
            except IntegrityError:  # another writer took the sequence
                continue
            except SQLAlchemyError as error:
                raise _unavailable(error) from error
        raise UnavailableError("other writers always come first", where="act log", mend="try again")

    def read(self, after: int = 0, limit: int | None = None) -> tuple[Act, ...]:
        """Acts in order from the one after sequence `after`, at most `limit`.

        Raises:
            UnavailableError: the database cannot be read now.
            AuditError: an entry is not what this log writes.
        """
        return _parse([row._asdict() for row in self._rows(after, limit)])

    def verify(self) -> VerifyResult:
        """Checks every link; keep the head elsewhere, for a cut-off tail shows only against it.

        Raises:
            AuditError: an entry was changed, removed, inserted or re-ordered; names the first such.
        """
        head, rows = GENESIS, self._rows(0, None)
        for expected, row in enumerate(rows, start=1):
            head = link(head, row.body)
            if (row.sequence, row.hash) != (expected, head) or json.loads(row.body).get("sequence") != expected:
                raise AuditError(
                    f"entry {expected} is missing, was changed, or does not follow from the one before it",
                    where=f"act log, entry {expected}",
                    mend=f"restore the log from a copy; nothing from entry {expected} on can be trusted",
                )
        return VerifyResult(len(rows), head)

    def close(self) -> None:
        """Releases the database's connections."""
        self._engine.dispose()

    def _rows(self, after: int, limit: int | None) -> Sequence[sa.Row[Any]]:
        query = sa.select(_ACTS).where(_ACTS.c.sequence > after).order_by(_ACTS.c.sequence).limit(limit)
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except SQLAlchemyError as error:
            raise _unavailable(error) from error


def _body(fields: Mapping[str, Any]) -> str:
    try:
        return canonical_json(fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the act's details cannot be stored: {error}",
            where="act log",
            mend="use JSON values and finite numbers",
        ) from error


def _parse(rows: Sequence[Mapping[str, Any]]) -> tuple[Act, ...]:
    try:
        return tuple(Act(**json.loads(row["body"]), hash=row["hash"]) for row in rows)
    except (TypeError, ValueError) as error:
        raise AuditError("an entry cannot be read", where="act log", mend="restore it from a copy") from error


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    cause = getattr(error, "orig", None) or error
    return UnavailableError(f"the act log cannot be used: {cause}", where="act log", mend="check the database")
