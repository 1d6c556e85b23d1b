"""Proof that entries of a journal were deleted by somebody with a reason: an act in the decisions' chain says so.

An entry that was deleted leaves its place and hash in its journal. What holds these in place is the link of the
entry after it, and the act: it has a digest over the places and hashes of all that it deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from riskdistill.errors import AuditError
from riskdistill.storage.acts import Act
from riskdistill.storage.schema import LogName
from riskdistill.storage.verification import pruned_digest

ENTRIES_ACT: Final = "entries_pruned"
Deleted = dict[int, list[tuple[int, str]]]  # places and hashes by the act that deleted them


class Deletion(BaseModel):
    """What an act of deletion says of the entries that it deleted."""

    model_config = ConfigDict(frozen=True)

    log: LogName
    before: AwareDatetime
    entries: int
    digest: str  # see `verification.pruned_digest`


def check_deletions(log: LogName, deleted: Deleted, act_at: Callable[[int], Act | None]) -> int:
    """Checks what a journal lacks against the acts that deleted it; gives how many entries that are.

    Args:
        log: the journal.
        deleted: in the order of their places.
        act_at: the act at a sequence of the decision log; None where there is none.

    Raises:
        AuditError: an act is not there, or deleted something else.
    """
    for sequence, left in deleted.items():
        if not _fits(log, left, act_at(sequence)):
            raise AuditError(
                f"entries lack their bodies, {left[0][0]} first of all, and no act {sequence} in the decision log "
                "deleted just these",
                where=f"{log}, entry {left[0][0]}",
                mend="restore the log from a copy that verifies, and find out who changed it",
            )
    return sum(map(len, deleted.values()))


def _fits(log: LogName, left: Sequence[tuple[int, str]], act: Act | None) -> bool:
    if act is None or act.kind != ENTRIES_ACT:
        return False
    try:
        told = Deletion.model_validate(act.details)
    except ValidationError:
        return False
    return (told.log, told.entries, told.digest) == (log, *pruned_digest(left))
