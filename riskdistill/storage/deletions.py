"""Proof that entries of a journal were deleted by somebody with a reason: an act in the decisions' chain says so.

An entry that was deleted leaves its place and hash in its journal. What holds these in place is the link of the
entry after it, and the act: it has a digest over the places and hashes of all that it deleted. An act without such
places proves nothing either: what it says was deleted must be gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from riskdistill.errors import AuditError
from riskdistill.storage.acts import Act
from riskdistill.storage.schema import LogName
from riskdistill.storage.verification import pruned_digest

ENTRIES_ACT: Final = "entries_pruned"
_MEND: Final = "restore the log from a copy that verifies, and find out who changed it"
Deleted = dict[int, list[tuple[int, str]]]  # places and hashes by the act that deleted them


class Deletion(BaseModel):
    """What an act of deletion says of the entries that it deleted."""

    model_config = ConfigDict(frozen=True)

    log: LogName
    before: AwareDatetime
    entries: int
    digest: str  # see `verification.pruned_digest`


def check_deletions(log: LogName, deleted: Deleted, acts: Mapping[int, Act]) -> int:
    """Checks what a journal lacks against what acts say was deleted of it; gives how many entries that are.

    Args:
        log: the journal.
        deleted: in the order of their places.
        acts: of kind `ENTRIES_ACT`, of all journals, by their sequence in the decision log.

    Raises:
        AuditError: an act is not there, deleted something else, or what it says that it deleted is there still.
    """
    told = {sequence: _told(sequence, act) for sequence, act in acts.items()}
    own = {sequence: deletion for sequence, deletion in told.items() if deletion.log == log}
    for sequence in sorted({*deleted, *own}):
        left, act = deleted.get(sequence, []), own.get(sequence)
        if act is None or (act.entries, act.digest) != pruned_digest(left):
            raise _unproven(log, sequence, left)
    return sum(map(len, deleted.values()))


def _told(sequence: int, act: Act) -> Deletion:
    try:
        return Deletion.model_validate(act.details)
    except ValidationError as error:
        raise AuditError(
            f"act {sequence} in the decision log does not say what it deleted",
            where=f"entry {sequence}",
            mend=_MEND,
        ) from error


def _unproven(log: LogName, sequence: int, left: Sequence[tuple[int, str]]) -> AuditError:
    if not left:
        fault = f"act {sequence} in the decision log says that entries were deleted, and none is missing by it"
        return AuditError(fault, where=log, mend=_MEND)
    first = left[0][0]
    return AuditError(
        f"entries lack their bodies, {first} first of all, and no act {sequence} in the decision log "
        "deleted just these",
        where=f"{log}, entry {first}",
        mend=_MEND,
    )
