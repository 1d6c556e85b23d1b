"""Acts, anchors, exports and pruning: what was done to the log is in the log, and others can check it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import execute
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from stored_decisions import make

from riskdistill.errors import AuditError, ConfigError, NotFoundError, UnreadableFileError
from riskdistill.storage import retention
from riskdistill.storage.anchors import AnchorKey, anchors_of, checked, read_anchors, write_anchor
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.export import export
from riskdistill.storage.export_check import check_export
from riskdistill.storage.export_format import ANCHORS, EARLIER, ENTRIES, MANIFEST, sha256_of
from riskdistill.storage.retention import due, needed_of_history, prune, prune_payloads, tombstones, tx_hash
from riskdistill.storage.suppressions import SuppressionList, Target

WHO = {"actor": "ann", "reason": "five years are over"}
CUT = datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)  # three of `filled` are older
KEY, OTHER = AnchorKey("11" * 32), AnchorKey("22" * 32)


def filled(url: str, count: int = 6) -> DecisionLog:
    """Decision number n was made n seconds into the year."""
    log = DecisionLog(url)
    log.append([make(number) for number in range(1, count + 1)])
    return log


# --- acts


def test_an_act_is_an_entry_between_decisions(url: str) -> None:
    log = filled(url, 2)
    assert log.record("key_rotated", actor="ann", reason="yearly", details={"key": "k2"}) == 3
    log.append([make(3)])
    assert [entry.sequence for entry in log.read()] == [1, 2, 4]
    assert log.verify().entries == log.head().sequence == 4
    [(sequence, act)] = log.acts()
    assert (sequence, act.kind, act.actor, act.details) == (3, "key_rotated", "ann", {"key": "k2"})
    assert log.acts("other") == []
    with pytest.raises(AuditError, match="actor and a reason"):
        log.record("key_rotated", actor=" ", reason="yearly", details={})


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE acts SET body = replace(body, 'ann', 'bob')", "sequence 3: hash mismatch"),
        ("UPDATE acts SET kind = 'nothing'", "sequence 3: columns differ"),
        ("DELETE FROM acts", "sequence gap, 3 is missing"),
    ],
)
def test_a_changed_act_breaks_the_chain(url: str, statement: str, says: str) -> None:
    log = filled(url, 2)
    log.record("key_rotated", **WHO, details={})
    log.append([make(3)])
    execute(url, statement)
    with pytest.raises(AuditError, match=says):
        log.verify()


# --- pruning


@pytest.mark.parametrize("chunk", [2, 5_000])
def test_pruned_decisions_leave_proof_and_the_log_verifies(
    url: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(retention, "CHUNK", chunk)
    log = filled(url)
    before = log.verify()
    assert list(due(log, CUT)) == ["tx-1", "tx-2", "tx-3"]
    assert prune(log, CUT, "history", **WHO) == 3
    assert prune(log, CUT, "history", **WHO) == 0  # nothing is left, and no act says so
    acts = log.acts("pruned")
    result = log.verify({before.entries: before.head})
    assert (result.entries, result.pruned) == (6 + len(acts), 3)
    assert [entry.decision.tx_id for entry in log.read()] == ["tx-4", "tx-5", "tx-6"]
    assert log.by_tx("tx-1") is None
    assert {act.actor for _, act in acts} == {"ann"}
    told = tombstones(log)
    assert sum(one.decisions for one in told) == 3
    assert (told[0].before, told[0].first, told[-1].last, told[-1].observed) == (CUT, 1, 3, 3)
    assert sorted(needed_of_history(log)) == sorted(map(tx_hash, ["tx-1", "tx-2", "tx-3"]))
    log.append([make(1)])  # the id is free again
    assert log.verify().pruned == 3


def test_what_accounts_shall_forget_leaves_no_trace_of_the_transactions(url: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    assert len(needed_of_history(log)) == 0
    assert {one.account_state for one in tombstones(log)} == {"forget"}


def test_everything_can_be_pruned_and_the_log_goes_on(url: str) -> None:
    log = filled(url)
    assert prune(log, CUT + timedelta(days=1), "forget", **WHO) == 6
    log.append([make(7)])
    result = log.verify()
    assert (result.entries, result.pruned) == (8, 6)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE pruned_decisions SET hash = 'ff' WHERE sequence = 2", "this act deleted were changed"),
        ("UPDATE pruned_decisions SET hash = 'ff' WHERE sequence = 3", "sequence 4: previous hash"),
        ("DELETE FROM pruned_decisions WHERE sequence = 2", "sequence gap, 2"),
        ("DELETE FROM acts", "act that is not in the log: entry 7"),
        ("DELETE FROM decisions WHERE sequence = 5", "sequence gap, 5"),
        (
            "INSERT INTO pruned_decisions (sequence, hash, tombstone) "
            "SELECT sequence, hash, 7 FROM decisions WHERE sequence = 5",
            "sequence",
        ),
    ],
)
def test_what_pruning_left_cannot_be_changed_unseen(url: str, statement: str, says: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    execute(url, statement)
    with pytest.raises(AuditError, match=says):
        log.verify()


def test_a_decision_deleted_under_a_forged_tombstone_is_found(url: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    execute(
        url,
        "INSERT INTO pruned_decisions (sequence, hash, tombstone) "
        "SELECT sequence, hash, 7 FROM decisions WHERE sequence = 5",
        "DELETE FROM decisions WHERE sequence = 5",
    )
    with pytest.raises(AuditError, match="this act deleted were changed"):
        log.verify()


@pytest.mark.parametrize("table", ["decisions", "acts", "pruned_decisions", "anchors"])
def test_the_database_refuses_to_delete_without_proof(url: str, table: str) -> None:
    log = filled(url)
    prune(log, CUT, "forget", **WHO)
    write_anchor(log, KEY)
    engine = open_database(url)
    with engine.connect() as connection, pytest.raises(DatabaseError, match="append-only"):
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


def test_deleted_bodies_are_gone_from_the_sqlite_files(tmp_path: Path) -> None:
    log = DecisionLog(f"sqlite:///{tmp_path}/decisions.db")
    log.append([make(number, request_hash=f"secret-{number}-{'x' * 50}") for number in range(1, 7)])
    prune(log, CUT, "forget", **WHO)
    held = b"".join(path.read_bytes() for path in tmp_path.glob("decisions.db*"))
    log.close()
    assert b"secret-3" not in held
    assert b"secret-4" in held


def test_the_future_is_not_pruned(url: str) -> None:
    log = filled(url, 1)
    for delete in (lambda at: prune(log, at, "forget", **WHO), lambda at: prune_payloads(log, at, **WHO)):
        with pytest.raises(ConfigError, match="not past"):
            delete(datetime.now(UTC) + timedelta(days=1))


# --- anchors


def test_an_anchor_finds_a_tail_that_was_cut_and_one_that_was_written_anew(url: str) -> None:
    log = filled(url)
    anchor = write_anchor(log, KEY)
    assert anchor is not None
    assert anchor.sequence == 6
    assert write_anchor(log, KEY) is None  # nothing came since
    assert anchors_of(log) == [anchor]
    kept = checked([anchor], [KEY.public])
    assert log.verify(kept).entries == 6
    execute(url, "DELETE FROM decisions WHERE sequence > 4")
    assert log.verify().entries == 4  # the chain alone cannot tell
    with pytest.raises(AuditError, match="ends at entry 4, and an anchor or export was made of entry 6"):
        log.verify(kept)
    log.append([make(5, score=0.1), make(6)])
    with pytest.raises(AuditError, match=r"sequence 6: .*anchor"):
        log.verify(kept)


def test_an_anchor_that_was_changed_or_is_of_another_key_is_refused(url: str) -> None:
    log = filled(url, 2)
    anchor = write_anchor(log, KEY)
    assert anchor is not None
    for change in ({"hash": "0" * 64}, {"sequence": 1}, {"public_key": OTHER.public}, {"signature": "zz"}):
        with pytest.raises(AuditError, match="not signed by its key"):
            checked([anchor.model_copy(update=change)])
    with pytest.raises(AuditError, match="another key"):
        checked([anchor], [OTHER.public])
    contrary = OTHER.sign(anchor.sequence, "0" * 64, anchor.at)
    with pytest.raises(AuditError, match="different hashes"):
        checked([anchor, contrary])


def test_an_empty_log_has_no_anchor(url: str) -> None:
    log, suppressions = DecisionLog(url), SuppressionList(url)
    assert write_anchor(log, KEY) is None
    assert write_anchor(log, KEY, suppressions.journal) is None


def suppressed(url: str, *reasons: str) -> SuppressionList:
    """A suppression for each reason."""
    suppressions, end = SuppressionList(url), datetime.now(UTC) + timedelta(days=1)
    for reason in reasons:
        suppressions.add(Target(typology="cycle"), owner="ops", reason=reason, expires_at=end, actor="ann")
    return suppressions


def test_an_anchor_of_a_journal_finds_that_all_of_it_was_written_anew(
    url: str, new_database: Callable[[], str]
) -> None:
    log = filled(url, 2)
    anchor = write_anchor(log, KEY, suppressed(url, "payroll", "tax").journal)
    assert anchor is not None
    assert (anchor.log, anchor.sequence) == ("suppressions", 2)
    assert write_anchor(log, KEY, suppressed(url).journal) is None  # nothing came since
    assert (anchors_of(log), anchors_of(log, of="suppressions")) == ([], [anchor])
    kept = checked([anchor], [KEY.public], of="suppressions")
    assert suppressed(url).journal.verify(kept).entries == 2
    assert log.verify(checked([anchor])).entries == 2  # it is none of the decision log
    forged = suppressed(new_database(), "payroll", "other", "third")
    assert forged.journal.verify().entries == 3  # the chain alone cannot tell
    with pytest.raises(AuditError, match="entry 2 is not the entry that was there before"):
        forged.journal.verify(kept)


def test_an_anchor_of_one_log_cannot_be_made_one_of_another(url: str) -> None:
    log = filled(url, 2)
    for journal, other in ((None, "suppressions"), (suppressed(url, "tax").journal, "decisions")):
        anchor = write_anchor(log, KEY, journal)
        assert anchor is not None
        with pytest.raises(AuditError, match=f"of the log {other} is not signed by its key"):
            anchor.model_copy(update={"log": other}).check()


@pytest.mark.parametrize("secret", ["", "11" * 31, "zz" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        AnchorKey(secret)
    assert caught.value.__cause__ is None


# --- exports


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
