"""Verifies the logs that a reviewer names, each by itself, and says in a line what was found of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import anchors_of, checked, read_anchors
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.export import Manifest, check_export
from riskdistill.storage.journal import Journal
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.verification import VerifyResult


class Named(NamedTuple):
    """What to verify: URLs of logs, the folder of an export, a file of anchors, and keys to trust (none: all)."""

    decisions: str | None
    releases: str | None
    acts: str | None
    export: Path | None
    anchors: Path | None
    public_keys: list[str]


def checks(named: Named) -> Iterator[tuple[str, Callable[[], str]]]:
    """What there is to check, by title; calling a check gives what to say of it, or raises AuditError.

    An export comes first: the logs must then hold what it held.
    """
    exported: list[Manifest] = []
    if (folder := named.export) is not None:
        yield "export", partial(_check_export, folder, named.public_keys, exported)
    if (url := named.decisions) is not None:
        yield "decision log", partial(_check_decisions, url, named, exported)
        for journal in desk_journals(url):
            yield journal.title, partial(_check_journal, journal, exported)
    if named.releases is not None:
        releases = ReleaseLog(named.releases, create=False)
        yield "release log", lambda: told(releases.verify())
    if named.acts is not None:
        acts = ActLog(named.acts, create=False)
        yield "act log", lambda: told(acts.verify())


def told(result: VerifyResult) -> str:
    """What to say of a log that verified."""
    return f"intact: {result.entries:,} entries, head {result.head}{_pruned(result.pruned)}"


def _check_decisions(url: str, named: Named, exported: Sequence[Manifest]) -> str:
    log = DecisionLog(url, create=False)
    anchors = [*anchors_of(log), *(read_anchors(named.anchors) if named.anchors else [])]
    kept = checked(anchors, named.public_keys)
    result = log.verify({manifest.last: manifest.head for manifest in exported} | kept)
    return told(result) + _anchored(max(kept, default=0), result.entries)


def _check_journal(journal: Journal, exported: Sequence[Manifest]) -> str:
    ends = [manifest.journals[journal.log] for manifest in exported if journal.log in manifest.journals]
    if not ends and not journal.is_there():
        return "is not in this database"
    return told(journal.verify({end.entries: end.head for end in ends if end.entries}))


def _check_export(folder: Path, public_keys: list[str], exported: list[Manifest]) -> str:
    found = check_export(folder, public_keys)
    manifest = found.manifest
    exported.append(manifest)
    line = f"intact: entries {manifest.first:,} to {manifest.last:,}, head {manifest.head}{_pruned(found.pruned)}"
    line += "".join(f", {end.entries:,} {name}" for name, end in manifest.journals.items())
    line += _anchored(found.anchored, manifest.last)
    if found.public_keys and not public_keys:
        line += f"; signed by {', '.join(found.public_keys)}: compare with the operator's, or give --public-key"
    return line


def _pruned(decisions: int) -> str:
    return f", {decisions:,} decisions deleted with proof" if decisions else ""


def _anchored(anchored: int, entries: int) -> str:
    if not anchored:
        return "; no anchor says that nothing was cut off the end"
    return f"; anchors agree up to entry {anchored:,}, {entries - anchored:,} came after"
