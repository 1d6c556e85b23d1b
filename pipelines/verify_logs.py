"""Verifies the logs that a reviewer names, each by itself, and says in a line what was found of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from pipelines.command_options import counted
from riskdistill.errors import AuditError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import Anchor, anchors_for, anchors_of, checked, read_anchors
from riskdistill.storage.cases import case_journal
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.export_check import JournalCheck, check_export
from riskdistill.storage.export_format import Manifest
from riskdistill.storage.journal import Journal
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.schema import LogName
from riskdistill.storage.suppressions import suppression_journal
from riskdistill.storage.verification import VerifyResult

_DECISIONS: Final = ("decision", "decisions")


class Named(NamedTuple):
    """What to verify: URLs of logs, the folder of an export, a file of anchors, and keys to trust (none: all)."""

    decisions: str | None
    releases: str | None
    acts: str | None
    export: Path | None
    anchors: Path | None
    public_keys: list[str]


@dataclass
class _Proof:
    """What was stated of the logs, in exports and anchors: they must hold it still.

    Attributes:
        public_keys: whose anchors are trusted; none: all.
        log: also holds anchors, of itself and of journals wherever they are; None until it is open.
        exported, shipped: of an export and of a file.
        named: keys that were told of.
    """

    public_keys: list[str]
    log: DecisionLog | None = None
    exported: list[Manifest] = field(default_factory=list)
    shipped: list[Anchor] = field(default_factory=list)
    named: set[str] = field(default_factory=set)

    def anchors(self, name: LogName) -> list[Anchor]:
        """The anchors of a log, or of all journals of that name."""
        kept = [] if self.log is None else anchors_of(self.log, of=name)
        return [*kept, *(anchor for anchor in self.shipped if anchor.log == name)]

    def signers(self, keys: Iterable[str]) -> str:
        """Told once of each key: whoever can write a log anew can sign the new one too, with a key of their own."""
        new = {*keys} - self.named
        self.named |= new
        if not new or self.public_keys:
            return ""
        return (
            f"; signed by {', '.join(sorted(new))}: anchors prove nothing until that is compared with the keys "
            "that the operator has published (or give them as --public-key)"
        )


def checks(named: Named) -> Iterator[tuple[str, Callable[[], str]]]:
    """What there is to check, by title; calling a check gives what to say of it, or raises RiskDistillError.

    An export and a file of anchors come first: the logs must then hold what these state. A log is opened by its
    check, so that one that does not open hides nothing of the others.
    """
    proof = _Proof(named.public_keys)
    if (folder := named.export) is not None:
        yield "export", partial(_check_export, folder, proof)
    if (file := named.anchors) is not None:
        yield "file of anchors", partial(_take_anchors, file, proof)
    if (url := named.decisions) is not None:
        yield "decision log", partial(_check_decisions, url, proof)
        yield "case log", partial(_check_journal, partial(case_journal, url, create=False), proof)
        yield "suppression log", partial(_check_journal, partial(suppression_journal, url, create=False), proof)
    if (url := named.releases) is not None:
        yield "release log", partial(_check_journal, partial(_release_journal, url), proof)
    if (url := named.acts) is not None:
        yield "act log", partial(_check_journal, partial(_act_journal, url), proof)


def told(result: VerifyResult, deleted: tuple[str, str] = ("entry", "entries")) -> str:
    """What to say of a log that verified; `deleted` is what its pruned entries are called, one and several."""
    entries = counted(result.entries, "entry", "entries")
    return f"intact: {entries}, head {result.head}{_pruned(result.pruned, deleted)}"


def _take_anchors(file: Path, proof: _Proof) -> str:
    proof.shipped += read_anchors(file)
    return f"holds {counted(len(proof.shipped), 'anchor', 'anchors')}"


def _release_journal(url: str) -> Journal:
    return ReleaseLog(url, create=False).journal


def _act_journal(url: str) -> Journal:
    return ActLog(url, create=False).journal


def _check_decisions(url: str, proof: _Proof) -> str:
    proof.log = DecisionLog(url, create=False)
    anchors = proof.anchors("decisions")
    kept = checked(anchors, proof.public_keys)
    result = proof.log.verify({manifest.last: manifest.head for manifest in proof.exported} | kept)
    line = told(result, _DECISIONS) + _anchored(max(kept, default=0), result.entries)
    return line + proof.signers(anchor.public_key for anchor in anchors)


def _check_journal(opened: Callable[[], Journal], proof: _Proof) -> str:
    journal = opened()
    ends = [manifest.journals[journal.log] for manifest in proof.exported if journal.log in manifest.journals]
    stated = {end.entries: end.head for end in ends if end.entries}
    if not journal.is_there():
        return _absent(journal, stated, proof)
    anchors, others = anchors_for(journal, proof.anchors(journal.log))
    try:
        kept = checked(anchors, proof.public_keys, of=journal.log)
        result = journal.verify(stated | kept)
    except AuditError as error:
        if not anchors or any(anchor.origin == journal.origin() for anchor in anchors):
            raise
        raise AuditError(
            f"{error.what}; no anchor is of a log that begins as this one does",
            where=error.where,
            mend="if this log is new, verify it after the service has anchored it; else restore it from a copy",
        ) from error
    line = told(result) + _anchored(max(kept, default=0), result.entries)
    if others:
        strange = counted(len(others), "anchor is", "anchors are")
        line += (
            f"; {strange} of another {journal.title}: verify that too, or if there was none, this was written anew"
        )
    return line + proof.signers(anchor.public_key for anchor in anchors)


def _absent(journal: Journal, stated: Mapping[int, str], proof: _Proof) -> str:
    """What to say of a journal that its database does not have: that is well only if nobody says that it had."""
    if not stated and not proof.anchors(journal.log):
        return "is not in this database"
    raise AuditError(
        "the journal is gone: its table is not in this database, and an anchor or export says that it was",
        where=journal.title,
        mend="restore it from a copy that verifies, and find out who deleted it",
    )


def _check_export(folder: Path, proof: _Proof) -> str:
    found = check_export(folder, proof.public_keys)
    manifest = found.manifest
    proof.exported.append(manifest)
    line = f"intact: entries {manifest.first:,} to {manifest.last:,}, head {manifest.head}"
    line += _pruned(found.pruned, _DECISIONS) + _anchored(found.anchored, manifest.last)
    if before := found.anchors_before:
        anchors = counted(before, "anchor is", "anchors are")
        line += f"; {anchors} of entries before its first: that proves nothing of what is in it"
    for name, check in found.journals.items():
        line += f"; {name}: {_exported(check, manifest.journals[name].entries)}"
    return line + proof.signers(set(found.public_keys))


def _exported(check: JournalCheck, entries: int) -> str:
    line = f"{entries:,}{_pruned(check.pruned, ('entry', 'entries'))}"
    if check.unproven:
        line += f", {check.unproven:,} more deleted by acts that only an earlier export has"
    return line + (f", anchors agree up to entry {check.anchored:,}" if check.anchored else ", no anchor")


def _pruned(number: int, names: tuple[str, str]) -> str:
    return f", {counted(number, *names)} deleted with proof" if number else ""


def _anchored(anchored: int, entries: int) -> str:
    if not anchored:
        return "; no anchor says that nothing was cut off the end"
    return f"; anchors agree up to entry {anchored:,}, {entries - anchored:,} came after"
