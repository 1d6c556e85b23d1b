"""Deletes old decisions for good and leaves proof of it.

What a decision tells of a person is in its row. The row goes; its sequence and hash stay, and an act in the
chain says who deleted how many, when, why and under which rule, with a digest over their hashes. So the log still
verifies, a copy of a deleted decision kept elsewhere can still be told from a forgery, and nothing else of it is
left. Encrypted payloads and the index of alerts go with their decisions, payloads also alone before them; cases and
suppressions go after them (`riskdistill.storage.desk_retention`), and so do shadow scores and idempotency keys, of
which nothing is left but their number.

Account state is rebuilt from the log, so whoever prunes says what becomes of what the deleted transactions told:
`history`: the history given at start must hold them, which is checked by a 64-bit hash of each transaction's id;
`forget`: accounts start anew from what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, delete, func, select

from riskdistill.errors import ConfigError
from riskdistill.storage.acts import write_act
from riskdistill.storage.alerts import ALERTS
from riskdistill.storage.database import delete_for_good, insert_many, overwrite
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.shadows import ShadowLog
from riskdistill.storage.tables import DECISIONS, IDEMPOTENCY, PAYLOADS, PRUNED
from riskdistill.storage.verification import PRUNED_ACT, as_text, pruned_digest

CHUNK: Final = 5_000  # decisions deleted at a time: the service waits for the log no longer
PAYLOADS_ACT: Final = "payloads_pruned"
UNCHAINED_ACT: Final = "unchained_pruned"
_OF_DECISIONS: Final = (PAYLOADS, ALERTS, DECISIONS)
AccountState = Literal["history", "forget"]


class Tombstone(BaseModel):
    """What an act of pruning says of what it deleted."""

    model_config = ConfigDict(frozen=True)

    before: datetime  # decided before this
    account_state: AccountState
    decisions: int
    first: int  # sequences
    last: int
    observed: int  # the last place in the order of observation
    digest: str  # see `verification.pruned_digest`


def prune(
    log: DecisionLog,
    before: datetime,
    account_state: AccountState,
    *,
    actor: str,
    reason: str,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Deletes what was decided before a time, some thousand at a time, each lot with its act; gives how many.

    If it is stopped, what is deleted is proven, and the next call goes on. The log is not verified here: do so
    first, for a break among what is deleted cannot be found later.

    Raises:
        AuditError: no actor or no reason.
        ConfigError: the time is not past.
        UnavailableError: the database cannot be written now.
    """
    check_past(before)
    done, last = 0, _last(log, before)
    while True:
        with log.writing() as connection:
            count = _prune_lot(connection, before, last, account_state, actor, reason)
        done += count
        progress(done)
        if count < CHUNK:
            break
    if done:
        overwrite(log.engine, _OF_DECISIONS)
    return done


def prune_payloads(log: DecisionLog, before: datetime, *, actor: str, reason: str) -> int:
    """Deletes the encrypted payloads of what was decided before a time; gives how many. As `prune`."""
    check_past(before)
    with log.writing() as connection:
        delete_for_good(connection)
        old = PAYLOADS.c.decided_at < as_text(before)
        count = connection.execute(select(func.count()).select_from(PAYLOADS).where(old)).scalar_one()
        if count:
            connection.execute(delete(PAYLOADS).where(old))
            details = {"before": as_text(before), "payloads": count}
            write_act(connection, PAYLOADS_ACT, actor=actor, reason=reason, details=details)
    if count:
        overwrite(log.engine, (PAYLOADS,))
    return count


def prune_unchained(
    log: DecisionLog, shadows: ShadowLog | None, before: datetime, *, actor: str, reason: str
) -> tuple[int, int]:
    """Deletes shadow scores and idempotency keys from before a time; gives how many of each.

    They are in no chain, so that their act says how many they were and proves nothing. It is written before the
    scores go, which may be in another database; if this is stopped, the next call goes on.

    Args:
        shadows: None where there are none.

    Raises:
        AuditError: no actor or no reason.
        ConfigError: the time is not past.
        UnavailableError: a database cannot be written now.
    """
    check_past(before)
    scores, old = 0 if shadows is None else shadows.count(before), IDEMPOTENCY.c.claimed_at < as_text(before)
    with log.writing() as connection:
        keys = connection.execute(select(func.count()).select_from(IDEMPOTENCY).where(old)).scalar_one()
        if scores or keys:
            delete_for_good(connection)
            connection.execute(delete(IDEMPOTENCY).where(old))
            figures = {
                "before": as_text(before),
                "shadow_scores": scores,
                "idempotency_keys": keys,
                "chained": False,
            }
            write_act(connection, UNCHAINED_ACT, actor=actor, reason=reason, details=figures)
    if keys:
        overwrite(log.engine, (IDEMPOTENCY,))
    if shadows is not None and scores:
        shadows.prune(before)
    return scores, keys


def tombstones(log: DecisionLog) -> list[Tombstone]:
    """What was pruned, oldest act first."""
    return [Tombstone.model_validate(act.details) for _, act in log.acts(PRUNED_ACT)]


def due(log: DecisionLog, before: datetime) -> Iterator[str]:
    """The ids of the transactions that `prune` would delete the decisions of."""
    after, last = 0, _last(log, before)
    while rows := log.fetch(
        _old(before, last, DECISIONS.c.sequence, DECISIONS.c.tx_id).where(DECISIONS.c.sequence > after)
    ):
        yield from (row.tx_id for row in rows)
        after = rows[-1].sequence


def needed_of_history(log: DecisionLog) -> NDArray[np.uint64]:
    """Hashes of the transactions that only a history can still tell account state of, sorted."""
    rows = log.fetch(select(PRUNED.c.tx_hash).where(PRUNED.c.tx_hash.is_not(None)))
    return np.unique(np.array([row.tx_hash for row in rows], np.int64).view(np.uint64))


def tx_hash(tx_id: str) -> int:
    """64-bit hash of a transaction's id, unsigned."""
    return xxhash.xxh64_intdigest(tx_id.encode())


def check_past(before: datetime) -> None:
    """Raises ConfigError unless a time is past."""
    if before > datetime.now(UTC):
        raise ConfigError(
            f"{as_text(before)} is not past", where="retention", mend="name the day up to which nothing is kept"
        )


def _last(log: DecisionLog, before: datetime) -> int:
    """The last sequence that is old enough: up to there is searched while others wait for the log."""
    query = select(func.max(DECISIONS.c.sequence)).where(DECISIONS.c.decided_at < as_text(before))
    return log.fetch(query)[0][0] or 0


def _old(before: datetime, last: int, *columns: Any) -> Any:
    return (
        select(*columns)
        .where(DECISIONS.c.decided_at < as_text(before), DECISIONS.c.sequence <= last)
        .order_by(DECISIONS.c.sequence)
        .limit(CHUNK)
    )


def _prune_lot(
    connection: Connection, before: datetime, last: int, account_state: AccountState, actor: str, reason: str
) -> int:
    columns = [DECISIONS.c[name] for name in ("sequence", "hash", "tx_id", "observed")]
    rows = connection.execute(_old(before, last, *columns)).all()
    if not rows:
        return 0
    delete_for_good(connection)
    count, digest = pruned_digest((row.sequence, row.hash) for row in rows)
    told = Tombstone(
        before=before,
        account_state=account_state,
        decisions=count,
        first=rows[0].sequence,
        last=rows[-1].sequence,
        observed=max(row.observed for row in rows),
        digest=digest,
    )
    tombstone, _ = write_act(
        connection, PRUNED_ACT, actor=actor, reason=reason, details=told.model_dump(mode="json")
    )
    left = [
        {
            "sequence": row.sequence,
            "hash": row.hash,
            "tombstone": tombstone,
            "tx_hash": _signed(tx_hash(row.tx_id)) if account_state == "history" else None,
        }
        for row in rows
    ]
    insert_many(connection, PRUNED, left)
    gone = select(PRUNED.c.sequence).where(PRUNED.c.tombstone == tombstone)
    for table in _OF_DECISIONS:
        connection.execute(delete(table).where(table.c.sequence.in_(gone)))
    return count


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number  # what a BIGINT holds
