"""Suppressions: alerts that nobody shall review for a while, each with an owner, a reason and an end.

An entry names an account, a sender with a receiver, or a typology. It never hides an alert: the decision is made,
recorded and counted as ever, only its action is `allow`, and it names the suppression. Band high is not suppressed
unless the entry says so, for what would be held must not pass by an oversight. An entry lapses at its end by
itself; adding and removing are entries of one journal, each with its actor.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self

import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from riskdistill.errors import CaseError, NotFoundError
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import Band
from riskdistill.storage.journal import Journal, Plan
from riskdistill.storage.verification import VerifyResult

LONGEST: Final = timedelta(days=366)  # until somebody must think about it again
_ACCOUNT: Final = r"^[0-9a-f]{32}$"  # a pseudonym


class Target(BaseModel):
    """What a suppression covers: one of account, sender with receiver, typology. Accounts are pseudonyms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: str | None = Field(None, pattern=_ACCOUNT, description="either party of a payment")
    sender: str | None = Field(None, pattern=_ACCOUNT)
    receiver: str | None = Field(None, pattern=_ACCOUNT)
    typology: str | None = Field(None, min_length=1, max_length=64, description="likely typology of the alert")

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        pair = (self.sender is not None) + (self.receiver is not None)
        if pair == 1 or (self.account is not None) + (pair == 2) + (self.typology is not None) != 1:
            raise ValueError("name one of: account; sender and receiver; typology")
        return self

    def covers(self, sender: str, receiver: str, typology: str | None) -> bool:
        """Whether an alert on a payment from `sender` to `receiver` is meant."""
        if self.account is not None:
            return self.account in (sender, receiver)
        if self.sender is not None:
            return (self.sender, self.receiver) == (sender, receiver)
        return self.typology == typology


class Suppression(BaseModel):
    """One entry as it stands.

    Attributes:
        owner: who answers for it.
        expires_at: when it lapses by itself.
        covers_high: whether it also lets pass what would be held.
        added_by: whose key or token added it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suppression_id: str
    target: Target
    owner: str
    reason: str
    expires_at: AwareDatetime
    covers_high: bool
    added_at: AwareDatetime
    added_by: str


class Change(BaseModel):
    """One entry of the journal: `entry` was added, or taken back before its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    change: Literal["added", "removed"]
    at: AwareDatetime
    actor: str
    reason: str
    entry: Suppression


class SuppressionList:
    """The journal of suppressions at a database `url`, and what of it is in force; see `Journal`.

    `match` looks at what was in force at the last `refresh`, and waits for nothing.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.journal = suppression_journal(url, create=create)
        self._entries: Mapping[str, Suppression] = {}
        self._seen = 0
        self._lock = threading.Lock()
        self.refresh()

    def close(self) -> None:
        """Releases the database's connections."""
        self.journal.close()

    def refresh(self) -> None:
        """Takes in what was added or removed since the last time, also by other processes.

        Raises:
            UnavailableError: the database cannot be read now; what was known stays in force until its end.
        """
        with self._lock:
            entries = dict(self._entries)
            for sequence, body, _ in self.journal.entries(self._seen):
                _apply(entries, Change.model_validate_json(body))
                self._seen = sequence
            self._entries = entries

    def active(self, now: datetime | None = None) -> list[Suppression]:
        """What is in force at `now`, oldest first."""
        now = now or datetime.now(UTC)
        return [entry for entry in self._entries.values() if now < entry.expires_at]

    def match(self, sender: str, receiver: str, typology: str | None, band: Band, now: datetime) -> str | None:
        """Id of the oldest entry in force that covers such an alert, or None."""
        for entry in self._entries.values():
            if (
                now < entry.expires_at
                and (entry.covers_high or band != "high")
                and entry.target.covers(sender, receiver, typology)
            ):
                return entry.suppression_id
        return None

    def add(
        self,
        target: Target,
        *,
        owner: str,
        reason: str,
        expires_at: datetime,
        actor: str,
        covers_high: bool = False,
        now: datetime | None = None,
    ) -> Suppression:
        """Puts an entry into force.

        Raises:
            CaseError: it is over already, or would last longer than `LONGEST`.
            UnavailableError: the database cannot be written now.
        """
        now = now or datetime.now(UTC)
        if not now < expires_at <= now + LONGEST:
            raise CaseError(
                f"it must end after now and within {LONGEST.days} days", where="expires_at", mend="give another end"
            )

        def plan(_connection: sa.Connection, sequence: int) -> list[str]:
            entry = Suppression(
                suppression_id=f"s{sequence}",
                target=target,
                owner=owner,
                reason=reason,
                expires_at=expires_at.astimezone(UTC),
                covers_high=covers_high,
                added_at=now.astimezone(UTC),
                added_by=actor,
            )
            return _told(Change(change="added", at=entry.added_at, actor=actor, reason=reason, entry=entry))

        return self._write(plan)

    def remove(self, suppression_id: str, *, reason: str, actor: str, now: datetime | None = None) -> Suppression:
        """Takes an entry back before its end; gives it as it was.

        Raises:
            NotFoundError: no entry of that id is in force.
            UnavailableError: the database cannot be written now.
        """
        at = (now or datetime.now(UTC)).astimezone(UTC)

        def plan(_connection: sa.Connection, _sequence: int) -> list[str]:
            self.refresh()
            entry = next((one for one in self.active(at) if one.suppression_id == suppression_id), None)
            if entry is None:
                raise NotFoundError("no suppression of this id is in force", mend="list them")
            return _told(Change(change="removed", at=at, actor=actor, reason=reason, entry=entry))

        return self._write(plan)

    def history(self) -> list[Change]:
        """All that was added and removed, oldest first."""
        return [Change.model_validate_json(entry.body) for entry in self.journal.entries()]

    def verify(self) -> VerifyResult:
        """Checks the chain, see `Journal.verify`."""
        return self.journal.verify()

    def _write(self, plan: Plan) -> Suppression:
        (written,) = self.journal.append(plan)
        self.refresh()
        return Change.model_validate_json(written.body).entry


def suppression_journal(url: str, *, create: bool) -> Journal:
    """What the suppressions at `url` are kept in."""
    return Journal(url, "suppressions", "suppression log", prunable=True, create=create)


def _apply(entries: dict[str, Suppression], change: Change) -> None:
    if change.change == "added":
        entries[change.entry.suppression_id] = change.entry
    else:
        entries.pop(change.entry.suppression_id, None)


def _told(change: Change) -> list[str]:
    return [canonical_json(change.model_dump(mode="json", exclude_none=True))]
