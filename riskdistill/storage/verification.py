"""Follows the chain of a decision log from the first entry to the last, pruned decisions and acts included.

A pruned decision's body is gone, so its hash cannot be computed again. Three things hold it in place: the entry
after it names its hash, the act that deleted it holds a digest over the hashes of all that it deleted, and that
act is an entry of the chain itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from json import loads
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, cast, literal, null, select, union_all

from riskdistill.errors import AuditError
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.tables import ACTS, DECISIONS, PRUNED

PAGE: Final = 1_000  # entries fetched at a time: a slow reader keeps no transaction open
PRUNED_ACT: Final = "pruned"
COPIED: Final = ("decision_id", "tx_id", "observed", "score", "action", "route", "bundle_version")
_MEND: Final = "restore the log from a backup that verifies, and find out who changed it"
Fetch = Callable[[Any], Sequence[Row[Any]]]


class VerifyResult(NamedTuple):
    """How many entries verified, the digest of the last, and of how many decisions only the hash is left.

    Keep the digest elsewhere, or an anchor (`riskdistill.storage.anchors`): a cut tail shows only against it.
    """

    entries: int
    head: str
    pruned: int = 0


def verify(fetch: Fetch, kept: Mapping[int, str]) -> VerifyResult:
    """Follows the chain.

    Args:
        fetch: runs a query on the log's database.
        kept: digests by sequence, known from elsewhere.

    Raises:
        AuditError: naming the first broken link: its sequence, its decision, and what does not fit.
    """
    entries, head, pruned = 0, GENESIS, 0
    tombstones: set[int] = set()
    for row in entries_of(fetch):
        fault = _fault(row, entries + 1, head)
        if not fault and row.kind == PRUNED_ACT:
            fault = _tombstone_fault(row, fetch)
            tombstones.discard(row.sequence)
        if not fault and kept.get(row.sequence, row.hash) != row.hash:
            fault = "it is not the entry that an anchor or export was made of"
        if fault:
            raise AuditError(
                f"the decision log is broken at sequence {row.sequence}: {fault}",
                where=f"decision {row.decision_id}" if row.decision_id else f"entry {row.sequence}",
                mend=_MEND,
            )
        entries, head = row.sequence, row.hash
        if row.tombstone is not None:
            pruned += 1
            tombstones.add(row.tombstone)
    if tombstones:
        raise AuditError(
            f"decisions were deleted by an act that is not in the log: entry {min(tombstones)}", mend=_MEND
        )
    if cut := [sequence for sequence in kept if sequence > entries]:
        raise AuditError(
            f"the decision log ends at entry {entries}, and an anchor or export was made of entry {max(cut)}: "
            "its newest entries were cut off",
            mend=_MEND,
        )
    return VerifyResult(entries, head, pruned)


def entries_of(fetch: Fetch, after: int = 0) -> Iterator[Row[Any]]:
    """All entries after a sequence, in order: `kind`, `tombstone` (of a pruned one), and a decision's columns."""
    while True:
        rows = fetch(_page(after))
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].sequence


def pruned_by(tombstone: int, fetch: Fetch) -> Iterator[tuple[int, str]]:
    """Sequence and hash of what the act at `tombstone` deleted, in order."""
    after = 0
    while rows := fetch(
        select(PRUNED.c.sequence, PRUNED.c.hash)
        .where(PRUNED.c.tombstone == tombstone, PRUNED.c.sequence > after)
        .order_by(PRUNED.c.sequence)
        .limit(PAGE)
    ):
        for row in rows:
            yield row.sequence, row.hash
        after = rows[-1].sequence


def pruned_digest(hashes: Iterable[tuple[int, str]]) -> tuple[int, str]:
    """How many, and the SHA-256 hex digest over the lines `sequence hash` in the order of sequence."""
    digest, count = hashlib.sha256(), 0
    for sequence, one in hashes:
        digest.update(f"{sequence} {one}\n".encode())
        count += 1
    return count, digest.hexdigest()


def _page(after: int) -> Any:
    def of(table: Any, **given: Any) -> Select[Any]:
        """`table` with the columns of all; what it has not is null."""
        return select(
            *(
                given[name].label(name) if name in given else _column(table, name).label(name)
                for name in ("kind", "tombstone", *DECISIONS.c.keys())
            )
        ).where(table.c.sequence > after)

    # one statement sees one state: a decision that is pruned meanwhile is in it once
    return (
        union_all(of(DECISIONS, kind=literal("decision")), of(PRUNED, kind=literal("deleted")), of(ACTS))
        .order_by("sequence")
        .limit(PAGE)
    )


def _column(table: Any, name: str) -> Any:
    if name in table.c:
        return table.c[name]
    return cast(null(), (PRUNED if name == "tombstone" else DECISIONS).c[name].type)


def _fault(row: Row[Any], sequence: int, previous: str) -> str | None:
    """What is wrong with `row`, given the sequence and digest that the entry before it calls for."""
    if row.sequence != sequence:
        return f"sequence gap, {sequence} is missing"
    if row.tombstone is not None:
        return None
    if row.previous_hash != previous:
        return "previous hash mismatch, it does not follow the entry before it"
    if row.hash != link(row.previous_hash, row.body):
        return "hash mismatch, the body was changed"
    body = loads(row.body)
    if row.kind != "decision":
        return None if row.kind == body["kind"] else "columns differ from the body: kind"
    differing = [name for name in COPIED if getattr(row, name) != body[name]]
    if row.decided_at != as_text(datetime.fromisoformat(body["decided_at"])):
        differing.append("decided_at")
    return f"columns differ from the body: {', '.join(differing)}" if differing else None


def _tombstone_fault(row: Row[Any], fetch: Fetch) -> str | None:
    details = loads(row.body)["details"]
    found = pruned_digest(pruned_by(row.sequence, fetch))
    if found == (details["decisions"], details["digest"]):
        return None
    return "the hashes of the decisions that this act deleted were changed"


def as_text(moment: datetime) -> str:
    """How times are stored: ISO 8601 in UTC with microseconds, which sorts as text."""
    moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")
