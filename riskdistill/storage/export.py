"""A decision log as files that somebody else can check without this software's database.

A folder of `entries.jsonl` (one entry of the chain a line), `anchors.jsonl`, `public_keys.txt` and
`manifest.json`, and a file of each journal: `cases.jsonl` and `suppressions.jsonl` where the database has them, for
decisions name the suppressions that let them pass, and models learn from the cases; releases and administrative
acts on demand. An entry's hash is SHA-256 over the hash before it, a line feed, and its `body`, taken as the text
that it is; a deleted one has its hash only, and the act that deleted it a digest over all that it deleted
(`riskdistill.storage.verification`). An export may go on where an earlier one ended: its manifest then says which
hash comes before its first entry, and `earlier.jsonl` has the hashes before it that its acts deleted. Journals are
exported whole each time; what was deleted of them before the first entry, the earlier export has the act of.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sqlalchemy import Row

from riskdistill.errors import AuditError, NotFoundError, UnavailableError
from riskdistill.storage.anchors import anchors_for, anchors_of
from riskdistill.storage.chain import GENESIS
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.export_check import check_export
from riskdistill.storage.export_format import (
    ANCHORS,
    EARLIER,
    ENTRIES,
    KEYS,
    MANIFEST,
    Exported,
    ExportedLine,
    JournalEnd,
    Kind,
    Manifest,
    files_of,
    sha256_of,
)
from riskdistill.storage.journal import Journal, Link
from riskdistill.storage.verification import PRUNED_ACT, entries_of, pruned_by


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


def _write(log: DecisionLog, folder: Path, journals: Sequence[Journal], after: int) -> Manifest:
    last, head = log.head()  # what comes meanwhile is for the next export
    if last <= after:
        raise NotFoundError(f"no entry comes after {after}", mend="export again when there is one")
    _lines(folder / ENTRIES, (_line(row, last) for row in _up_to(last, entries_of(log.fetch, after))))
    _lines(
        folder / EARLIER, (entry.model_dump_json(exclude_none=True) for entry in _deleted_later(log, after, last))
    )
    ends = {journal.log: _write_journal(folder / f"{journal.log}.jsonl", journal, last) for journal in journals}
    anchors = [anchor for anchor in anchors_of(log, after) if anchor.sequence <= last]
    for journal in journals:
        own, _ = anchors_for(journal, anchors_of(log, of=journal.log))
        anchors += [anchor for anchor in own if anchor.sequence <= ends[journal.log].entries]
    _lines(folder / ANCHORS, (anchor.model_dump_json() for anchor in anchors))
    _lines(folder / KEYS, sorted({anchor.public_key for anchor in anchors}))
    manifest = Manifest(
        made_at=datetime.now(UTC),
        first=after + 1,
        last=last,
        previous_hash=_hash_at(log, after),
        head=head,
        journals=ends,
        files={name: sha256_of(folder / name) for name in files_of(ends)},
    )
    _lines(folder / MANIFEST, [json.dumps(manifest.model_dump(mode="json"), indent=2)])
    return manifest


def _write_journal(path: Path, journal: Journal, last: int) -> JournalEnd:
    entries, head = journal.verify()[:2]  # what comes meanwhile is for the next export
    those = takewhile(lambda one: one.sequence <= entries, journal.links())
    _lines(path, (_journal_line(one, last) for one in those))
    return JournalEnd(entries=entries, head=head)


def _journal_line(entry: Link, last: int) -> str:
    _check_not_meanwhile(entry.tombstone, last)
    line = ExportedLine(sequence=entry.sequence, hash=entry.hash, body=entry.body, pruned_by=entry.tombstone)
    return line.model_dump_json(exclude_none=True)


def _up_to(last: int, rows: Iterator[Row[Any]]) -> Iterator[Row[Any]]:
    return takewhile(lambda row: row.sequence <= last, rows)


def _line(row: Row[Any], last: int) -> str:
    _check_not_meanwhile(row.tombstone, last)
    kind: Kind = "pruned" if row.tombstone else "decision" if row.decision_id else "act"
    entry = Exported(sequence=row.sequence, kind=kind, hash=row.hash, body=row.body, pruned_by=row.tombstone)
    return entry.model_dump_json(exclude_none=True)


def _check_not_meanwhile(tombstone: int | None, last: int) -> None:
    if (tombstone or 0) > last:
        raise UnavailableError("entries were pruned while they were exported", mend="export again")


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
