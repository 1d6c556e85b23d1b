"""Checks an exported decision log by itself, without the database that it came from.

Its chain, the proofs of what was deleted, its journals, and its anchors. What an anchor says of an entry that the
export does not have proves nothing of it, and is counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json import loads
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from riskdistill.errors import AuditError, UnreadableFileError
from riskdistill.storage.acts import Act
from riskdistill.storage.anchors import checked, read_anchors
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.deletions import ENTRIES_ACT, Deleted, check_deletions
from riskdistill.storage.export_format import (
    ANCHORS,
    EARLIER,
    ENTRIES,
    MANIFEST,
    Exported,
    ExportedLine,
    JournalEnd,
    Manifest,
    files_of,
    sha256_of,
)
from riskdistill.storage.retention import Tombstone
from riskdistill.storage.schema import LogName
from riskdistill.storage.verification import PRUNED_ACT, pruned_digest

_Line = TypeVar("_Line", bound=BaseModel)


class JournalCheck(NamedTuple):
    """What an export proved of a journal.

    Attributes:
        pruned: entries of which it has the hash only, and the act that deleted them.
        unproven: entries of which it has the hash only, and the act is before the export's first entry: an earlier
            export has it.
        anchored: up to which entry anchors agree; 0: no anchor.
    """

    pruned: int
    unproven: int
    anchored: int


class ExportCheck(NamedTuple):
    """What an export proved.

    Attributes:
        manifest: what it is.
        pruned: of how many decisions it has the hash only.
        anchors: how many anchors of its decisions agree with it.
        anchored: up to which entry; what comes after could have been cut or written anew. 0: no anchor.
        anchors_before: how many anchors are of entries before its first: they prove nothing of what is in it.
        public_keys: what signed the anchors: compare them with those that the operator has published.
        journals: what it proved of each.
    """

    manifest: Manifest
    pruned: int
    anchors: int
    anchored: int
    anchors_before: int
    public_keys: tuple[str, ...]
    journals: dict[LogName, JournalCheck]


def check_export(folder: Path, public_keys: Sequence[str] = ()) -> ExportCheck:
    """Checks an export by itself, and against its anchors.

    Args:
        folder: what `export` wrote.
        public_keys: if given, only anchors of these keys are accepted.

    Raises:
        UnreadableFileError: a file is missing or not of this format.
        AuditError: naming the first thing that does not fit.
    """
    manifest = _manifest(folder)
    anchors = read_anchors(folder / ANCHORS)
    if strange := {anchor.log for anchor in anchors} - {"decisions", *manifest.journals}:
        raise AuditError(f"there are anchors of {min(strange)}, and it is not in the export", where=str(folder))
    kept = checked(anchors, public_keys)
    pruned, deletions = _check_entries(folder, manifest, kept)
    journals = {
        name: _check_journal(folder, name, manifest, deletions, checked(anchors, public_keys, of=name))
        for name in manifest.journals
    }
    own = [anchor for anchor in anchors if anchor.log == "decisions"]
    before = sum(anchor.sequence < manifest.first for anchor in own)
    anchored = max((sequence for sequence in kept if sequence >= manifest.first), default=0)
    keys = tuple(sorted({anchor.public_key for anchor in anchors}))
    return ExportCheck(manifest, pruned, len(own) - before, anchored, before, keys, journals)


def _check_entries(folder: Path, manifest: Manifest, kept: Mapping[int, str]) -> tuple[int, dict[int, Act]]:
    """Follows the chain; gives how many decisions were deleted, and the acts that deleted entries of journals."""
    if kept.get(manifest.first - 1, manifest.previous_hash) != manifest.previous_hash or (
        manifest.first == 1 and manifest.previous_hash != GENESIS
    ):
        raise AuditError("what comes before the first entry is not what was there", where=str(folder))
    deleted, hashes, deletions = _earlier(folder / EARLIER, manifest.first), 0, dict[int, Act]()
    expected, head = manifest.first, manifest.previous_hash
    for entry in _lines(folder / ENTRIES, Exported, "decision log"):
        if entry.sequence != expected or (entry.body is not None and entry.hash != link(head, entry.body)):
            raise AuditError(
                f"the export is broken at entry {expected}: it is missing, or was changed", where=str(folder)
            )
        if kept.get(entry.sequence, entry.hash) != entry.hash:
            raise AuditError(f"entry {entry.sequence} is not the one that was anchored", where=str(folder))
        if entry.pruned_by is not None:
            deleted.setdefault(entry.pruned_by, []).append((entry.sequence, entry.hash))
            hashes += 1
        elif (act := _act(entry)) is not None and act.kind == PRUNED_ACT:
            _check_deletion(entry.sequence, act, deleted.pop(entry.sequence, []))
        elif act is not None and act.kind == ENTRIES_ACT:
            deletions[entry.sequence] = act
        expected, head = entry.sequence + 1, entry.hash
    if (expected - 1, head) != (manifest.last, manifest.head) or any(place > manifest.last for place in kept):
        raise AuditError("the newest entries are missing from the export", where=str(folder))
    if deleted:
        raise AuditError(
            f"decisions lack their bodies, and no act {min(deleted)} after them deleted them", where=str(folder)
        )
    return hashes, deletions


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        changed = [name for name, digest in manifest.files.items() if sha256_of(folder / name) != digest]
    except (OSError, ValidationError) as error:
        raise UnreadableFileError(
            f"not an export of a decision log ({type(error).__name__})",
            where=str(folder),
            mend="name a folder that audit export wrote",
        ) from error
    if changed or {*manifest.files} != files_of(manifest.journals):
        raise AuditError(f"{', '.join(changed) or 'the list of files'} was changed", where=str(folder))
    return manifest


def _lines(path: Path, model: type[_Line], of: str) -> Iterator[_Line]:
    """The lines of a file, each an entry `of` that log."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield model.model_validate_json(line)
            except ValidationError as error:
                raise AuditError(f"not an entry of a {of}", where=f"{path}, line {number}") from error


def _earlier(path: Path, first: int) -> Deleted:
    """What acts in the export deleted before its first entry. Nothing but their digest holds it in place."""
    deleted: Deleted = {}
    for entry in _lines(path, Exported, "decision log"):
        if entry.pruned_by is None or entry.sequence >= first:
            raise AuditError(f"entry {entry.sequence} is none that was deleted earlier", where=str(path))
        deleted.setdefault(entry.pruned_by, []).append((entry.sequence, entry.hash))
    return deleted


def _check_journal(
    folder: Path, name: LogName, manifest: Manifest, deletions: Mapping[int, Act], kept: Mapping[int, str]
) -> JournalCheck:
    """Its entries must follow from one another up to the head that the manifest states, and fit the anchors."""
    path, end = folder / f"{name}.jsonl", manifest.journals[name]
    number, head, deleted = 0, GENESIS, Deleted()
    for number, entry in enumerate(_lines(path, ExportedLine, "journal"), start=1):
        head = entry.hash if entry.body is None else link(head, entry.body)
        if (entry.sequence, entry.hash) != (number, head):
            raise AuditError(f"entry {number} is missing, or was changed", where=str(path))
        if kept.get(number, head) != head:
            raise AuditError(f"entry {number} is not the one that was anchored", where=str(path))
        if entry.pruned_by is not None:
            deleted.setdefault(entry.pruned_by, []).append((number, head))
    if JournalEnd(entries=number, head=head) != end or any(place > number for place in kept):
        raise AuditError("the newest entries are missing from the export", where=str(path))
    known = {act: left for act, left in deleted.items() if act >= manifest.first}
    pruned = check_deletions(name, known, deletions)
    return JournalCheck(pruned, sum(map(len, deleted.values())) - pruned, max(kept, default=0))


def _act(entry: Exported) -> Act | None:
    """The act that an entry is, None for a decision: its body says which, and the line must say the same."""
    try:
        body = loads(entry.body or "")
        act = None if "decision_id" in body else Act.model_validate(body)
    except (TypeError, ValueError) as error:
        raise AuditError(f"the body of entry {entry.sequence} is of no decision and no act") from error
    if entry.kind != ("decision" if act is None else "act"):
        raise AuditError(f"entry {entry.sequence} is no {entry.kind}: its body says otherwise")
    return act


def _check_deletion(sequence: int, act: Act, left: Sequence[tuple[int, str]]) -> None:
    """An act that deleted decisions must fit the hashes that are left of them."""
    try:
        told = Tombstone.model_validate(act.details)
    except ValidationError as error:
        raise AuditError(f"act {sequence} does not say what it deleted") from error
    if pruned_digest(left) != (told.decisions, told.digest):
        raise AuditError(f"act {sequence} does not fit the hashes of the decisions that it deleted")
