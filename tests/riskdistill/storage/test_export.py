"""Exports: whoever has one can check it without the database, and finds what a forger changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filled_log import CUT, KEY, OTHER, WHO, filled, suppressed
from stored_decisions import make

from riskdistill.errors import AuditError, NotFoundError, UnreadableFileError
from riskdistill.storage.anchors import read_anchors, write_anchor
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.export import export
from riskdistill.storage.export_check import check_export
from riskdistill.storage.export_format import ANCHORS, EARLIER, ENTRIES, MANIFEST, sha256_of
from riskdistill.storage.retention import prune


def test_an_export_is_checked_without_the_database(url: str, tmp_path: Path) -> None:
    log = filled(url)
    write_anchor(log, KEY)
    prune(log, CUT, "forget", **WHO)
    log.append([make(7)])
    manifest = export(log, tmp_path / "out")
    log.close()
    found = check_export(tmp_path / "out", [KEY.public])
    assert (manifest.first, manifest.last) == (1, 8)
    assert found == (manifest, 3, 1, 6, 0, (KEY.public,), {})
    assert len(read_anchors(tmp_path / "out" / ANCHORS)) == 1
    with pytest.raises(AuditError, match="there already"):
        export(log, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_an_export_goes_on_from_an_earlier_one(url: str, tmp_path: Path) -> None:
    log = filled(url, 3)
    first = export(log, tmp_path / "first")
    log.append([make(number) for number in (4, 5)])
    prune(log, CUT, "forget", **WHO)  # of what the first export has whole
    second = export(log, tmp_path / "second", after=first.last)
    assert (second.previous_hash, second.first, second.last) == (first.head, 4, 6)
    assert check_export(tmp_path / "second").pruned == 0
    with pytest.raises(NotFoundError, match="no entry comes after 6"):
        export(log, tmp_path / "third", after=6)
    assert not (tmp_path / "third").exists()


def test_anchors_of_what_comes_before_an_export_prove_nothing_of_it(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    log = filled(new_database(), 2)
    early = write_anchor(log, KEY)
    log.append([make(3)])
    border = write_anchor(log, KEY)
    log.append([make(4)])
    export(log, tmp_path / "out", after=3)
    assert early is not None
    assert border is not None
    file = tmp_path / "out" / ANCHORS
    file.write_text("".join(f"{one.model_dump_json()}\n" for one in (early, border)))
    reseal(tmp_path / "out")
    assert check_export(tmp_path / "out")[2:5] == (0, 0, 2)
    file.write_text(f"{KEY.sign(3, early.hash, early.at).model_dump_json()}\n")
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match="what comes before the first entry is not what was there"):
        check_export(tmp_path / "out")


def test_a_journal_of_an_export_must_fit_its_anchors(url: str, tmp_path: Path) -> None:
    log, journal = filled(url), suppressed(url, "payroll", "tax").journal
    write_anchor(log, KEY, journal)
    export(log, tmp_path / "out", journals=[journal])
    assert check_export(tmp_path / "out", [KEY.public]).journals["suppressions"].anchored == 2
    file = tmp_path / "out" / ANCHORS
    for anchor, says in (
        (KEY.sign(1, "0" * 64, CUT, "suppressions"), "entry 1 is not the one that was anchored"),
        (KEY.sign(3, "0" * 64, CUT, "suppressions"), "newest entries are missing"),
        (KEY.sign(3, "0" * 64, CUT, "releases"), "anchors of releases, and it is not in the export"),
        (OTHER.sign(3, "0" * 64, CUT, "suppressions"), "another key"),
    ):
        file.write_text(f"{anchor.model_dump_json()}\n")
        reseal(tmp_path / "out")
        with pytest.raises(AuditError, match=says):
            check_export(tmp_path / "out", [KEY.public])


def reseal(folder: Path) -> None:
    """What a forger does who knows the format: the manifest's digests of the changed files."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: sha256_of(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [line.replace("12.5", "12.6") for line in lines], "broken at entry 4"),
        (lambda lines: lines[:2] + lines[3:], "broken at entry 3"),
        (lambda lines: lines[:-1], "newest entries are missing"),
        (lambda lines: [*lines[:-1], "{}"], "line 8"),
        (lambda lines: lines[1:], "broken at entry 1"),
    ],
)
def test_a_forged_export_is_found(
    new_database: Callable[[], str], tmp_path: Path, change: Callable[[list[str]], list[str]], says: str
) -> None:
    log = filled(new_database())
    prune(log, CUT, "forget", **WHO)
    log.append([make(7)])
    export(log, tmp_path / "out")
    file = tmp_path / "out" / ENTRIES
    file.write_text("".join(f"{line}\n" for line in change(file.read_text().splitlines())))
    with pytest.raises(AuditError, match=f"{ENTRIES} was changed"):
        check_export(tmp_path / "out")
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match=says):
        check_export(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda lines: [line.replace("payroll", "payment") for line in lines],
            "entry 1 is missing, or was changed",
        ),
        (lambda lines: lines[1:], "entry 1 is missing, or was changed"),
        (lambda lines: lines[:-1], "newest entries are missing"),
        (lambda lines: [*lines, "{}"], "not an entry of a journal"),
    ],
)
def test_forged_suppressions_of_an_export_are_found(
    tmp_path: Path, change: Callable[[list[str]], list[str]], says: str
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    suppressed(url, "payroll", "tax")
    journals = [journal for journal in desk_journals(url) if journal.is_there()]
    assert [journal.log for journal in journals] == ["suppressions"]
    manifest = export(filled(url), tmp_path / "out", journals=journals)
    assert manifest.journals["suppressions"].entries == 2
    assert check_export(tmp_path / "out").manifest == manifest
    file = tmp_path / "out" / "suppressions.jsonl"
    file.write_text("".join(f"{line}\n" for line in change(file.read_text().splitlines())))
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match=says):
        check_export(tmp_path / "out")


@pytest.mark.parametrize(("act", "says"), [(0, "line 2"), (-1, "line 2"), (1, "no act 1 in"), (9, "no act 9 in")])
def test_a_body_that_a_forger_took_out_of_a_journal_of_a_whole_export_is_found(
    tmp_path: Path, act: int, says: str
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    export(filled(url), tmp_path / "out", journals=[suppressed(url, "payroll", "tax").journal])
    file = tmp_path / "out" / "suppressions.jsonl"
    first, second = file.read_text().splitlines()
    left = {name: value for name, value in json.loads(second).items() if name != "body"} | {"pruned_by": act}
    file.write_text(f"{first}\n{json.dumps(left)}\n")
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match=says):
        check_export(tmp_path / "out")


def hidden(line: str, **change: object) -> str:
    """What a forger makes of a line whose body shall not be seen."""
    told = json.loads(line) | {"kind": "pruned"} | change
    return json.dumps({name: value for name, value in told.items() if name != "body"})


def relabelled(line: str, kind: str) -> str:
    return json.dumps(json.loads(line) | {"kind": kind})


@pytest.mark.parametrize(
    ("at", "change", "says"),
    [
        (5, lambda line: hidden(line, kind="decision"), "line 5"),
        (5, lambda line: hidden(line, kind="act", pruned_by=7), "line 5"),
        (5, hidden, "line 5"),
        (5, lambda line: json.dumps(json.loads(line) | {"pruned_by": 7}), "line 5"),
        (5, lambda line: hidden(line, pruned_by=6), "no act 6 after them"),
        (5, lambda line: hidden(line, pruned_by=9), "no act 9 after them"),
        (5, lambda line: hidden(line, pruned_by=70), "no act 70 after them"),
        (5, lambda line: hidden(line, pruned_by=7), "act 7 does not fit"),
        (8, lambda line: hidden(line, pruned_by=7), "no act 7 after them"),
        (7, lambda line: hidden(line, pruned_by=9), "no act 7 after them"),
        (7, lambda line: relabelled(line, "decision"), "entry 7 is no decision"),
        (5, lambda line: relabelled(line, "act"), "entry 5 is no act"),
        (3, lambda line: json.dumps(json.loads(line) | {"pruned_by": 9}), "act 7 does not fit"),
    ],
    ids=[
        "decision without its body",
        "act without its body",
        "pruned by nothing",
        "pruned with its body",
        "pruned by a decision",
        "pruned by another act",
        "pruned by an act beyond the end",
        "pruned by an act that deleted others",
        "pruned by an act before it",
        "act of pruning hidden",
        "act of pruning as a decision",
        "decision as an act",
        "pruned by another act than it was",
    ],
)
def test_an_entry_that_a_forger_hid_in_an_export_is_found(
    new_database: Callable[[], str], tmp_path: Path, at: int, change: Callable[[str], str], says: str
) -> None:
    """Entries 1 to 3 are pruned, by act 7; 9 is another act; the anchor of all, by the right key, still fits."""
    log = filled(new_database())
    prune(log, CUT, "forget", **WHO)
    log.append([make(7)])
    log.record("key_rotated", **WHO, details={})
    write_anchor(log, KEY)
    export(log, tmp_path / "out")
    file = tmp_path / "out" / ENTRIES
    lines = file.read_text().splitlines()
    lines[at - 1] = change(lines[at - 1])
    file.write_text("".join(f"{line}\n" for line in lines))
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match=says):
        check_export(tmp_path / "out", [KEY.public])


def test_an_export_that_goes_on_proves_what_an_act_deleted_on_both_sides_of_its_start(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    log = filled(new_database())
    prune(log, CUT, "forget", **WHO)
    export(log, tmp_path / "out", after=2)
    assert check_export(tmp_path / "out").pruned == 1
    entries, earlier = tmp_path / "out" / ENTRIES, tmp_path / "out" / EARLIER
    whole, before = entries.read_text(), earlier.read_text()
    lines = whole.splitlines()
    forgeries = [
        ("\n".join([lines[0], hidden(lines[1], pruned_by=7), *lines[2:]]), before, "act 7 does not fit"),
        (whole, before.splitlines()[0], "act 7 does not fit"),
        (whole, f"{before}{lines[0]}", "entry 3 is none that was deleted earlier"),
        (whole, f"{before}{lines[1]}", "entry 4 is none that was deleted earlier"),
        (whole, before.replace('"pruned_by":7', '"pruned_by":9'), "act 7 does not fit"),
    ]
    for forged, forged_before, says in forgeries:
        entries.write_text(f"{forged.rstrip()}\n")
        earlier.write_text(f"{forged_before.rstrip()}\n")
        reseal(tmp_path / "out")
        with pytest.raises(AuditError, match=says):
            check_export(tmp_path / "out")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("no JSON", "no decision and no act"),
        ("7", "no decision and no act"),
        ('{"kind": "pruned"}', "no decision and no act"),
        (
            '{"kind": "pruned", "at": "2026-01-01T00:00:00Z", "actor": "a", "reason": "b", "details": {}}',
            "does not say what it deleted",
        ),
    ],
)
def test_a_made_up_body_of_an_export_is_refused(
    new_database: Callable[[], str], tmp_path: Path, body: str, says: str
) -> None:
    """The chain is the forger's own, and fits."""
    log = filled(new_database(), 1)
    export(log, tmp_path / "out")
    line = {"sequence": 1, "kind": "act", "hash": link(GENESIS, body), "body": body}
    (tmp_path / "out" / ENTRIES).write_text(f"{json.dumps(line)}\n")
    reseal(tmp_path / "out")
    with pytest.raises(AuditError, match=says):
        check_export(tmp_path / "out")


def test_a_chain_written_anew_does_not_fit_its_anchors(
    url: str, new_database: Callable[[], str], tmp_path: Path
) -> None:
    log, forged = filled(url), DecisionLog(new_database())
    write_anchor(log, KEY)
    export(log, tmp_path / "out")
    forged.append([make(number, score=0.01) for number in range(1, 7)])
    export(forged, tmp_path / "forged")
    shutil.copy(tmp_path / "out" / ANCHORS, tmp_path / "forged" / ANCHORS)
    reseal(tmp_path / "forged")
    with pytest.raises(AuditError, match="entry 6 is not the one that was anchored"):
        check_export(tmp_path / "forged")


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="not an export"):
        check_export(tmp_path)
    (tmp_path / ANCHORS).write_text("no anchor")
    with pytest.raises(UnreadableFileError, match="not a file of anchors"):
        read_anchors(tmp_path / ANCHORS)
