"""Deletes old cases and suppressions for good and leaves proof of it, as `retention` does of decisions.

A case is old if it and all that are tied to it by a transaction were recorded before a time: if one of two findings
on a payment went, the other would say what it never said beside it. With a case goes the label that it makes. A
suppression is old if it ended before that time; so no decision is left that names it. Releases and administrative
acts are not pruned: they tell of bundles, keys and the people who answer for them, and not of customers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from riskdistill.storage.acts import write_act
from riskdistill.storage.cases import CASE_TRANSACTIONS
from riskdistill.storage.database import delete_for_good, lock, overwrite
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.deletions import ENTRIES_ACT, Deletion
from riskdistill.storage.journal import Journal
from riskdistill.storage.retention import CHUNK, check_past
from riskdistill.storage.schema import LogName
from riskdistill.storage.suppressions import Change
from riskdistill.storage.verification import as_text, pruned_digest


def prune_desk(
    log: DecisionLog, journals: Sequence[Journal], before: datetime, *, actor: str, reason: str
) -> dict[LogName, int]:
    """Deletes what is old in each of `journals`, of cases or of suppressions; gives how many entries.

    In lots, each with its act, as `retention.prune`. Prune the decisions first. The journals are not verified here:
    do so before, for a break among what is deleted cannot be found later.

    Args:
        log: the decision log, in whose database the journals are.

    Raises:
        AuditError: no actor or no reason.
        ConfigError: the time is not past.
        UnavailableError: the database cannot be written now.
    """
    check_past(before)
    return {journal.log: _prune(log, journal, before, actor, reason) for journal in journals if journal.log in _OLD}


def _prune(log: DecisionLog, journal: Journal, before: datetime, actor: str, reason: str) -> int:
    done = 0
    while True:
        with log.writing() as connection:
            lock(connection, journal.log)  # what is old and tied to nothing younger is so when it goes
            lot = journal.hashes(connection, _OLD[journal.log](connection, journal, before)[:CHUNK])
            if lot:
                _delete(connection, journal, lot, before, actor=actor, reason=reason)
        done += len(lot)
        if len(lot) < CHUNK:
            break
    if done:
        overwrite(log.engine, journal.tables)
    return done


def _delete(
    connection: Connection,
    journal: Journal,
    lot: Sequence[tuple[int, str]],
    before: datetime,
    *,
    actor: str,
    reason: str,
) -> None:
    delete_for_good(connection)
    count, digest = pruned_digest(lot)
    told = Deletion(log=journal.log, before=before, entries=count, digest=digest)
    details = told.model_dump(mode="json")
    tombstone, _ = write_act(connection, ENTRIES_ACT, actor=actor, reason=reason, details=details)
    journal.prune(connection, lot, tombstone)


def _old_cases(connection: Connection, _journal: Journal, before: datetime) -> list[int]:
    table, is_old = CASE_TRANSACTIONS, CASE_TRANSACTIONS.c.recorded_at < as_text(before)
    young = set(connection.execute(select(table.c.tx_id).where(~is_old)).scalars())
    old: dict[int, set[str]] = {}
    for place, tx_id in connection.execute(select(table.c.sequence, table.c.tx_id).where(is_old)):
        old.setdefault(place, set()).add(tx_id)
    return sorted(_untied(old, young))


def _untied(cases: Mapping[int, set[str]], kept: set[str]) -> set[int]:
    """The cases that no chain of common transactions ties to one of those that are kept."""
    left = dict(cases)
    while tied := [place for place, found in left.items() if found & kept]:
        for place in tied:
            kept |= left.pop(place)
    return set(left)


def _old_suppressions(connection: Connection, journal: Journal, before: datetime) -> list[int]:
    changes = ((row.sequence, Change.model_validate_json(row.body)) for row in connection.execute(journal.query()))
    return [place for place, change in changes if change.entry.expires_at < before]


_OLD: Final[Mapping[LogName, Callable[[Connection, Journal, datetime], list[int]]]] = {
    "cases": _old_cases,
    "suppressions": _old_suppressions,
}
