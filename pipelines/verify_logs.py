"""Verifies the logs that a reviewer names, each by itself, and says in a line what was found of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipelines.command_options import counted
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import Anchor, anchors_of, checked, read_anchors
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

    An export and a file of anchors come first: the logs must then hold what these state.
    """
    exported: list[Manifest] = []
    shipped: list[Anchor] = []
    if (folder := named.export) is not None:
        yield "export", partial(_check_export, folder, named.public_keys, exported)
    if (file := named.anchors) is not None:
        yield "file of anchors", partial(_take_anchors, file, shipped)
    if (url := named.decisions) is not None:
        yield "decision log", partial(_check_decisions, url, named.public_keys, exported, shipped)
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
    entries = counted(result.entries, "entry", "entries")
    return f"intact: {entries}, head {result.head}{_pruned(result.pruned)}"


def _take_anchors(file: Path, shipped: list[Anchor]) -> str:
    shipped += read_anchors(file)
    return f"holds {counted(len(shipped), 'anchor', 'anchors')}"


def _check_decisions(
    url: str, public_keys: list[str], exported: Sequence[Manifest], shipped: Sequence[Anchor]
) -> str:
    log = DecisionLog(url, create=False)
    anchors = [*anchors_of(log), *shipped]
    kept = checked(anchors, public_keys)
    result = log.verify({manifest.last: manifest.head for manifest in exported} | kept)
    signers = sorted({anchor.public_key for anchor in anchors})
    return told(result) + _anchored(max(kept, default=0), result.entries) + _signers(signers, public_keys)


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
    line += "".join(f", {name}: {end.entries:,}" for name, end in manifest.journals.items())
    return line + _anchored(found.anchored, manifest.last) + _signers(found.public_keys, public_keys)


def _pruned(decisions: int) -> str:
    return f", {counted(decisions, 'decision', 'decisions')} deleted with proof" if decisions else ""


def _anchored(anchored: int, entries: int) -> str:
    if not anchored:
        return "; no anchor says that nothing was cut off the end"
    return f"; anchors agree up to entry {anchored:,}, {entries - anchored:,} came after"


def _signers(signers: Sequence[str], public_keys: Sequence[str]) -> str:
    """Whoever can write the log anew can sign the new one too, with a key of their own."""
    if not signers or public_keys:
        return ""
    return (
        f"; signed by {', '.join(signers)}: anchors prove nothing until that is compared with the keys that the "
        "operator has published (or give them as --public-key)"
    )
