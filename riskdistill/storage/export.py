"""A decision log as files that somebody else can check without this software's database.

A folder of `entries.jsonl` (one entry of the chain a line), `anchors.jsonl`, `public_keys.txt` and
`manifest.json`, and `cases.jsonl` and `suppressions.jsonl` where the database has them: decisions name the
suppressions that let them pass, and models learn from the cases. An entry's hash is SHA-256 over the hash before
it, a line feed, and its `body`, taken as the text that it is; a pruned decision has its hash only, and the act that
deleted it a digest over the hashes of all that it deleted (`riskdistill.storage.verification`). An export may go on
where an earlier one ended: its manifest then says which hash comes before its first entry, and `earlier.jsonl` has
the hashes before it that its acts deleted. Cases and suppressions are exported whole each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from json import loads
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import Row

from riskdistill.errors import AuditError, NotFoundError, UnavailableError, UnreadableFileError
from riskdistill.storage.acts import Act
from riskdistill.storage.anchors import anchors_of, checked, read_anchors
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.journal import Entry, Journal
from riskdistill.storage.retention import Tombstone
from riskdistill.storage.schema import LogName
from riskdistill.storage.verification import PRUNED_ACT, entries_of, pruned_by, pruned_digest

ENTRIES: Final = "entries.jsonl"
EARLIER: Final = "earlier.jsonl"
ANCHORS: Final = "anchors.jsonl"
KEYS: Final = "public_keys.txt"
MANIFEST: Final = "manifest.json"
Kind = Literal["decision", "act", "pruned"]
Deleted = dict[int, list[tuple[int, str]]]  # sequences and hashes by the act that deleted them


class Exported(BaseModel):
    """One line of `entries.jsonl` or `earlier.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    kind: Kind
    hash: str
    body: str | None = None  # not of a pruned decision
    pruned_by: int | None = None  # the sequence of the act

    @model_validator(mode="after")
    def _either_told_or_deleted(self) -> Self:
        pruned = self.kind == "pruned"
        if (self.body is None) != pruned or (self.pruned_by is not None) != pruned:
            raise ValueError("only a pruned entry lacks its body, and it names the act that deleted it")
        return self


class JournalEnd(BaseModel):
    """How many entries a journal had, and the hash of the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: int
    head: str


class Manifest(BaseModel):
    """What is in the export: entries `first` to `last`, the hash before them, journals, and the files' SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["riskdistill decision log 1"] = "riskdistill decision log 1"
    made_at: AwareDatetime
    first: int
    last: int
    previous_hash: str
    head: str
    journals: dict[LogName, JournalEnd] = Field(default_factory=dict)
    files: dict[str, str]


class ExportCheck(NamedTuple):
    """What an export proved.

    Attributes:
        manifest: what it is.
        pruned: of how many decisions it has the hash only.
        anchors: how many anchors agree with it.
        anchored: up to which entry; what comes after could have been cut or written anew. 0: no anchor.
        public_keys: what signed the anchors: compare them with those that the operator has published.
    """

    manifest: Manifest
    pruned: int
    anchors: int
    anchored: int
    public_keys: tuple[str, ...]


def export(log: DecisionLog, folder: Path, *, journals: Sequence[Journal] = (), after: int = 0) -> Manifest:
    """Writes the entries after a sequence, and all of `journals`, to a new `folder`, whole or not at all.

    Raises:
        AuditError: the folder is there already, or a log is broken.
        NotFoundError: there is no entry after that sequence.
        UnavailableError: the log cannot be read now.
    """
    if folder.exists():
        raise AuditError("it is there already", where=str(folder), mend="name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        manifest = _write(log, draft, journals, after)
        check_export(draft)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


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
    kept = checked(anchors, public_keys)
    deleted, hashes = _earlier(folder / EARLIER, manifest.first), 0
    expected, head = manifest.first, manifest.previous_hash
    for entry in _entries(folder / ENTRIES):
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
        expected, head = entry.sequence + 1, entry.hash
    if (expected - 1, head) != (manifest.last, manifest.head) or any(place > manifest.last for place in kept):
        raise AuditError("the newest entries are missing from the export", where=str(folder))
    if deleted:
        raise AuditError(
            f"decisions lack their bodies, and no act {min(deleted)} after them deleted them", where=str(folder)
        )
    for name, end in manifest.journals.items():
        _check_journal(folder / f"{name}.jsonl", end)
    keys = tuple(sorted({anchor.public_key for anchor in anchors}))
    return ExportCheck(manifest, hashes, len(anchors), max(kept, default=0), keys)


def _write(log: DecisionLog, folder: Path, journals: Sequence[Journal], after: int) -> Manifest:
    last, head = log.head()  # what comes meanwhile is for the next export
    if last <= after:
        raise NotFoundError(f"no entry comes after {after}", mend="export again when there is one")
    _lines(folder / ENTRIES, (_line(row, last) for row in _up_to(last, entries_of(log.fetch, after))))
    _lines(
        folder / EARLIER, (entry.model_dump_json(exclude_none=True) for entry in _deleted_later(log, after, last))
    )
    anchors = [anchor for anchor in anchors_of(log, after) if anchor.sequence <= last]
    _lines(folder / ANCHORS, (anchor.model_dump_json() for anchor in anchors))
    _lines(folder / KEYS, sorted({anchor.public_key for anchor in anchors}))
    ends = {journal.log: _write_journal(folder / f"{journal.log}.jsonl", journal) for journal in journals}
    manifest = Manifest(
        made_at=datetime.now(UTC),
        first=after + 1,
        last=last,
        previous_hash=_hash_at(log, after),
        head=head,
        journals=ends,
        files={name: _sha256(folder / name) for name in _files(ends)},
    )
    _lines(folder / MANIFEST, [json.dumps(manifest.model_dump(mode="json"), indent=2)])
    return manifest


def _write_journal(path: Path, journal: Journal) -> JournalEnd:
    entries, head = journal.verify()[:2]  # what comes meanwhile is for the next export
    kept = islice(journal.every(), entries)
    _lines(path, (json.dumps(entry._asdict(), ensure_ascii=False) for entry in kept))
    return JournalEnd(entries=entries, head=head)


def _files(journals: Iterable[LogName]) -> set[str]:
    return {ENTRIES, EARLIER, ANCHORS, KEYS, *(f"{name}.jsonl" for name in journals)}


def _up_to(last: int, rows: Iterator[Row[Any]]) -> Iterator[Row[Any]]:
    return takewhile(lambda row: row.sequence <= last, rows)


def _line(row: Row[Any], last: int) -> str:
    if (row.tombstone or 0) > last:
        raise UnavailableError("decisions were pruned while they were exported", mend="export again")
    kind: Kind = "pruned" if row.tombstone else "decision" if row.decision_id else "act"
    entry = Exported(sequence=row.sequence, kind=kind, hash=row.hash, body=row.body, pruned_by=row.tombstone)
    return entry.model_dump_json(exclude_none=True)


def _deleted_later(log: DecisionLog, after: int, last: int) -> Iterator[Exported]:
    """The entries up to `after` that acts from there to `last` deleted: without them their digest says nothing."""
    for act, _ in log.acts(PRUNED_ACT):
        if after < act <= last:
            for sequence, hash in takewhile(lambda one: one[0] <= after, pruned_by(act, log.fetch)):
                yield Exported(sequence=sequence, kind="pruned", hash=hash, pruned_by=act)


def _hash_at(log: DecisionLog, sequence: int) -> str:
    if sequence == 0:
        return GENESIS
    found = next(entries_of(log.fetch, sequence - 1), None)
    if found is None or found.sequence != sequence:
        raise NotFoundError(f"the log has no entry {sequence}", mend="name the last entry of the earlier export")
    return str(found.hash)


def _lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        changed = [name for name, digest in manifest.files.items() if _sha256(folder / name) != digest]
    except (OSError, ValidationError) as error:
        raise UnreadableFileError(
            f"not an export of a decision log ({type(error).__name__})",
            where=str(folder),
            mend="name a folder that audit export wrote",
        ) from error
    if changed or {*manifest.files} != _files(manifest.journals):
        raise AuditError(f"{', '.join(changed) or 'the list of files'} was changed", where=str(folder))
    return manifest


def _entries(path: Path) -> Iterator[Exported]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Exported.model_validate_json(line)
            except ValidationError as error:
                raise AuditError("not an entry of a decision log", where=f"{path}, line {number}") from error


def _earlier(path: Path, first: int) -> Deleted:
    """What acts in the export deleted before its first entry. Nothing but their digest holds it in place."""
    deleted: Deleted = {}
    for entry in _entries(path):
        if entry.pruned_by is None or entry.sequence >= first:
            raise AuditError(f"entry {entry.sequence} is none that was deleted earlier", where=str(path))
        deleted.setdefault(entry.pruned_by, []).append((entry.sequence, entry.hash))
    return deleted


def _check_journal(path: Path, end: JournalEnd) -> None:
    """Its entries must follow from one another up to the head that the manifest states."""
    number, head = 0, GENESIS
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = Entry(**loads(line))
                head = link(head, entry.body)
            except (TypeError, ValueError) as error:
                raise AuditError("not an entry of a journal", where=f"{path}, line {number}") from error
            if (entry.sequence, entry.hash) != (number, head):
                raise AuditError(f"entry {number} is missing, or was changed", where=str(path))
    if (number, head) != (end.entries, end.head):
        raise AuditError("the newest entries are missing from the export", where=str(path))


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
