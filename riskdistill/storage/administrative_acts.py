"""The act log: what people did to a running service: keys made, changed or revoked, and what else they may change.

A journal (`riskdistill.storage.journal`) in a database of the administrators' choice. An act is written
*before* it takes effect: an entry may tell of something that then failed, but nothing takes effect unrecorded.
No entry holds a secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from riskdistill.errors import AuditError, ConfigError
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.journal import Entry, Journal
from riskdistill.storage.verification import VerifyResult


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


class ActLog:
    """The log of administrative acts at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and table if missing; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.journal = Journal(url, "administrative_acts", "act log", create=create)

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

        def plan(_connection: sa.Connection, sequence: int) -> list[str]:
            return [_body(fields | {"sequence": sequence, "at": datetime.now(UTC).isoformat()})]

        return _parse(self.journal.append(plan))[0]

    def read(self, after: int = 0, limit: int | None = None) -> tuple[Act, ...]:
        """Acts in order from the one after sequence `after`, at most `limit`.

        Raises:
            UnavailableError: the database cannot be read now.
            AuditError: an entry is not what this log writes.
        """
        return _parse(self.journal.entries(after, limit))

    def verify(self) -> VerifyResult:
        """Checks the chain, see `Journal.verify`."""
        return self.journal.verify()

    def close(self) -> None:
        """Releases the database's connections."""
        self.journal.close()


def _body(fields: Mapping[str, Any]) -> str:
    try:
        return canonical_json(fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the act's details cannot be stored: {error}",
            where="act log",
            mend="use JSON values and finite numbers",
        ) from error


def _parse(entries: Iterable[Entry]) -> tuple[Act, ...]:
    try:
        return tuple(Act(**json.loads(entry.body), hash=entry.hash) for entry in entries)
    except (TypeError, ValueError) as error:
        raise AuditError("an entry cannot be read", where="act log", mend="restore it from a copy") from error
