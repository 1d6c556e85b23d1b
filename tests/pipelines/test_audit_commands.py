"""The commands `audit …` that export, prune and explain, on the logs that a real service left."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from databases import execute
from sqlalchemy import text

from riskdistill.bundle import Bundle
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import AnchorKey, anchors_of, write_anchor
from riskdistill.storage.cases import CaseLog, Finding
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.suppressions import SuppressionList, Target

SIGNED = ("--actor", "ann", "--reason", "five years are over")


@pytest.fixture
def folder(service_folder: Path, tmp_path: Path) -> Path:
    """A copy of what the service left, to be changed."""
    return Path(shutil.copytree(service_folder, tmp_path / "service"))


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/decisions.db"


def decisions_of(folder: Path) -> list[Decision]:
    log = DecisionLog(url(folder), create=False)
    found = [entry.decision for entry in log.read()]
    log.close()
    return found


def test_an_export_verifies_for_whoever_has_the_public_key(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "export"
    assert f"export {out}" in done("audit", "export", "--decisions", url(folder), "--out", out)
    [key] = (out / "public_keys.txt").read_text().split()
    told = done("audit", "verify", "--export", out)
    assert f"signed by {key}" in told
    assert "anchors agree up to entry 80, 0 came after" in told
    assert "export intact" in done("audit", "verify", "--export", out, "--public-key", key)
    assert "another key" in refused("audit", "verify", "--export", out, "--public-key", "00" * 32)
    assert "no entry comes after 80" in refused(
        "audit", "export", "--decisions", url(folder), "--out", tmp_path / "b", "--after", 80
    )


def test_a_log_that_was_written_anew_and_signed_by_another_key_is_told_by_its_key(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    """Chain and anchors of the forged log fit each other: only the key tells."""
    [real] = {anchor.public_key for anchor in anchors_of(DecisionLog(url(folder), create=False))}
    forged, mine = DecisionLog(f"sqlite:///{tmp_path}/forged.db"), AnchorKey("11" * 32)
    forged.append(decisions_of(folder)[1:])
    write_anchor(forged, mine)
    forged.close()
    options = ("audit", "verify", "--decisions", f"sqlite:///{tmp_path}/forged.db")
    told = done(*options)
    assert f"signed by {mine.public}: anchors prove nothing until that is compared" in told
    assert f"signed by {real}" in done("audit", "verify", "--decisions", url(folder))
    assert "another key" in refused(*options, "--public-key", real)
    assert "signed by" not in done("audit", "verify", "--decisions", url(folder), "--public-key", real)


def test_a_file_of_anchors_that_is_missing_hides_nothing_of_the_logs(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    options = ("audit", "verify", "--decisions", url(folder), "--anchors", tmp_path / "none.jsonl")
    told = refused(*options)
    assert told.startswith(f"file of anchors: {tmp_path}/none.jsonl: not a file of anchors")
    execute(url(folder), "UPDATE decisions SET score = 0 WHERE sequence = 7")
    told = refused(*options)
    assert "file of anchors: " in told
    assert "decision log: " in told
    assert "sequence 7" in told


def test_anchors_kept_elsewhere_find_a_cut_tail(
    done: Callable[..., str], refused: Callable[..., str], folder: Path
) -> None:
    options = ("audit", "verify", "--decisions", url(folder), "--anchors", folder / "anchors.jsonl")
    assert "anchors agree up to entry 80" in done(*options)
    log = DecisionLog(url(folder))
    with log.writing() as connection:
        for trigger in ("decisions_no_delete", "anchors_no_delete"):
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        connection.execute(text("DELETE FROM decisions WHERE sequence > 75"))
        connection.execute(text("DELETE FROM anchors"))
    log.close()
    assert "75 entries" in done("audit", "verify", "--decisions", url(folder))
    assert "newest entries were cut off" in refused(*options)
    assert "--anchors needs --decisions, --releases or --acts" in refused(
        "audit", "verify", "--export", folder, "--anchors", folder / "anchors.jsonl"
    )


def with_desk(folder: Path) -> str:
    """A case and two suppressions beside the decisions; gives the URL."""
    cases, suppressions = CaseLog(url(folder)), SuppressionList(url(folder))
    decision = decisions_of(folder)[0]
    finding = Finding([decision.tx_id], "laundering", decision.decided_at)
    cases.record(finding, decided={decision.tx_id: decision}, typologies=(), actor="payments")
    for reason in ("payroll", "tax"):
        end = datetime.now(UTC) + timedelta(days=1)
        suppressions.add(Target(typology="cycle"), owner="ops", reason=reason, expires_at=end, actor="ann")
    cases.close()
    suppressions.close()
    return url(folder)


def test_all_that_lives_in_the_database_is_verified_and_each_broken_log_is_named(
    done: Callable[..., str], refused: Callable[..., str], folder: Path
) -> None:
    options = ("audit", "verify", "--decisions", with_desk(folder))
    told = done(*options)
    assert "decision log intact: 80 entries" in told
    assert "case log intact: 1 entry," in told
    assert "suppression log intact: 2 entries" in told
    execute(
        url(folder),
        "UPDATE cases SET body = replace(body, 'laundering', 'false_alert')",
        "UPDATE suppressions SET body = replace(body, 'tax', 'pay') WHERE sequence = 2",
    )
    told = refused(*options)
    assert "case log, entry 1: " in told
    assert "suppression log, entry 2: " in told
    execute(url(folder), "DROP TABLE cases", "DELETE FROM suppressions")
    told = done(*options)
    assert "case log is not in this database" in told
    assert "suppression log intact: 0 entries" in told


def test_an_export_has_cases_and_suppressions_and_finds_what_the_log_lost_since(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    address, out = with_desk(folder), tmp_path / "export"
    assert "cases: 1, head" in done("audit", "export", "--decisions", address, "--out", out)
    both = ("audit", "verify", "--decisions", address, "--export", out)
    assert "80, head" in (told := done(*both))
    assert "cases: 1, no anchor; suppressions: 2, no anchor" in told
    execute(address, "DELETE FROM suppressions WHERE sequence = 2", "DELETE FROM anchors")
    assert "suppression log intact: 1 entry," in done("audit", "verify", "--decisions", address)
    assert "entry 2 is missing, and so are all up to entry 2" in refused(*both)
    execute(address, "DELETE FROM decisions WHERE sequence = 80")
    assert "ends at entry 79, and an anchor or export was made of entry 80" in refused(*both)


def test_a_release_log_that_was_written_anew_does_not_fit_the_anchors_kept_elsewhere_or_with_the_decisions(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    releases, forged = f"sqlite:///{folder}/releases.db", f"sqlite:///{tmp_path}/forged.db"
    kept = (("--anchors", folder / "anchors.jsonl"), ("--decisions", url(folder)))
    for where in kept:
        told = done("audit", "verify", "--releases", releases, *where)
        assert re.search(r"release log intact: 2 entries, head \w{64}; anchors agree up to entry 2, 0 came", told)
    log = ReleaseLog(forged)
    log.register("elsewhere", "v", actor="bob", reason="another")
    log.promote("r1", actor="bob", reason="another", evidence={})
    log.close()
    assert "no anchor says that nothing was cut off" in done("audit", "verify", "--releases", forged)
    for where in kept:
        assert "entry 2 is not the entry that was there before" in refused(
            "audit", "verify", "--releases", forged, *where
        )


def test_an_act_log_that_follows_another_verifies_beside_the_same_decisions_and_tells_of_the_other(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    log, places = DecisionLog(url(folder)), [f"sqlite:///{tmp_path}/{name}.db" for name in ("1st", "2nd", "3rd")]
    for place in places:
        acts = ActLog(place)
        for subject in ("first", "second"):
            acts.append(actor="ann", act="key.created", subject=f"{subject} of {place}")
        if place != places[0]:
            told = refused("audit", "verify", "--decisions", url(folder), "--acts", place)
            assert "no anchor is of a log that begins as this one does" in told
        write_anchor(log, AnchorKey("11" * 32), acts.journal)
        acts.close()
    for place in places:
        told = done("audit", "verify", "--decisions", url(folder), "--acts", place)
        assert re.search(r"act log intact: 2 entries, head \w{64}; anchors agree up to entry 2, 0 came after", told)
        assert "2 anchors are of another act log" in told
        out = tmp_path / place[-6:-3]
        done("audit", "export", "--decisions", url(folder), "--out", out, "--acts", place)
        assert "administrative_acts: 2, anchors agree up to entry 2" in done("audit", "verify", "--export", out)
    log.close()


def test_a_log_that_cannot_be_read_hides_nothing_of_the_others(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    address = with_desk(folder)
    log, cases = DecisionLog(address), CaseLog(address)
    write_anchor(log, AnchorKey("11" * 32), cases.journal)
    for opened in (log, cases):
        opened.close()
    execute(address, "DROP TABLE case_transactions", "UPDATE decisions SET score = 0 WHERE sequence = 7")
    options = ("audit", "verify", "--decisions", address)
    told = refused(*options, "--releases", f"sqlite:///{tmp_path}/none.db")
    assert "decision log: " in told
    assert "sequence 7" in told
    assert "case log: the case log cannot be used: no such table" in told
    assert "none.db: no database there" in told
    execute(address, "DROP TABLE cases")
    assert "case log: case log: the journal is gone" in refused(*options)


def test_an_export_has_releases_and_acts_on_demand_with_their_anchors(
    done: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "export"
    others = ("--releases", f"sqlite:///{folder}/releases.db", "--acts", f"sqlite:///{folder}/acts.db")
    assert "releases: 2, head" in done("audit", "export", "--decisions", url(folder), "--out", out, *others)
    told = done("audit", "verify", "--export", out)
    assert "releases: 2, anchors agree up to entry 2; administrative_acts: 0, no anchor" in told


def test_pruning_takes_old_cases_and_suppressions_with_proof(
    done: Callable[..., str], refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    address = with_desk(folder)
    now = datetime.now(UTC).isoformat()
    options = ("audit", "prune", "--decisions", address, "--before", now, "--forget", *SIGNED)
    told = done(*options)
    assert "80 decisions deleted cases: 1 entry deleted suppressions: 0 entries deleted" in told
    assert "0 shadow scores, 0 idempotency keys deleted" in told
    told = done("audit", "verify", "--decisions", address)
    assert re.search(r"case log intact: 1 entry, head \w{64}, 1 entry deleted with proof", told)
    assert "suppression log intact: 2 entries" in told
    out = tmp_path / "export"
    done("audit", "export", "--decisions", address, "--out", out)
    assert "cases: 1, 1 entry deleted with proof, no anchor" in done("audit", "verify", "--export", out)
    execute(address, "UPDATE suppressions SET body = 'x' WHERE sequence = 1")
    assert "suppression log" in refused(*options)


def test_pruning_needs_a_history_that_holds_what_is_deleted_or_forgets(
    done: Callable[..., str],
    refused: Callable[..., str],
    folder: Path,
    tiny_tables: tuple[pa.Table, pa.Table],
    tmp_path: Path,
) -> None:
    cut = decisions_of(folder)[30].decided_at.isoformat()
    options = ("audit", "prune", "--decisions", url(folder), "--before", cut, *SIGNED)
    assert "give --history" in refused(*options)
    pq.write_table(tiny_tables[0].slice(0, 20), tmp_path / "short.parquet")
    assert "10 of the transactions to delete are not in the history" in refused(
        *options, "--history", tmp_path / "short.parquet"
    )
    pq.write_table(tiny_tables[0].slice(0, 40), tmp_path / "whole.parquet")
    told = done(*options, "--history", tmp_path / "whole.parquet")
    assert told.startswith("30 decisions deleted")
    assert len(decisions_of(folder)) == 50
    assert "81 entries" in (told := done("audit", "verify", "--decisions", url(folder)))
    assert "30 decisions deleted with proof" in told
    assert "0 payloads deleted" in done(*options, "--payloads-only")
    assert "--before" in refused("audit", "prune", "--decisions", url(folder), "--before", "soon", *SIGNED)
    releases = f"sqlite:///{folder}/releases.db"
    done("audit", "record", "--decisions", url(folder), "--releases", releases, "--out", tmp_path / "record")
    page = (tmp_path / "record" / "audit.html").read_text()
    assert "(30 deleted)" in page
    assert "five years are over" in page


def test_a_broken_log_is_not_pruned(refused: Callable[..., str], folder: Path) -> None:
    log = DecisionLog(url(folder))
    with log.writing() as connection:
        connection.execute(text("DROP TRIGGER decisions_no_update"))
        connection.execute(text("UPDATE decisions SET score = 0.5 WHERE sequence = 9"))
    log.close()
    assert "broken at sequence 9" in refused(
        "audit", "prune", "--decisions", url(folder), "--before", "2020-01-01", "--forget", *SIGNED
    )


def test_a_decision_is_explained_by_who_what_why_and_the_features_it_was_made_on(
    done: Callable[..., str], service_folder: Path, tiny_bundle: Bundle
) -> None:
    decision = decisions_of(service_folder)[60]
    options = ("audit", "explain", decision.decision_id, "--decisions", url(service_folder))
    releases = ("--releases", f"sqlite:///{service_folder}/releases.db")
    told = done(*options, *releases)
    assert "r1, promoted by ann" in told
    assert "the first" in told
    assert "the same score, on the features below" in told
    assert f"{decision.action} (band {decision.band})" in told
    found = json.loads(done(*options, *releases, "--json"))
    assert found["score_again"] == pytest.approx(decision.student_score, abs=1e-6)
    assert found["unknown"] == []
    assert (found["sequence"], found["promotion"]["actor"]) == (61, "ann")
    assert {one["name"] for one in found["features"]} == set(tiny_bundle.spec.names)
    assert found["anchored_at"] is not None
    bare = json.loads(done(*options, "--bundle-store", tiny_bundle.path, "--json"))
    assert bare["features"] == found["features"]
    assert bare["unknown"] == ["release: give --releases"]


def test_what_is_not_at_hand_is_said(
    done: Callable[..., str],
    refused: Callable[..., str],
    service_folder: Path,
    tiny_tables: tuple[pa.Table, pa.Table],
    tmp_path: Path,
) -> None:
    decision = decisions_of(service_folder)[60]
    options = ("audit", "explain", decision.decision_id, "--decisions", url(service_folder))
    told = done(*options)
    assert "not known: release: give --releases" in told
    assert "not known: thresholds and features: give --bundle-store" in told
    pq.write_table(tiny_tables[0].slice(80, 100), tmp_path / "other.parquet")
    key = service_folder / "pseudonym.key"
    releases = ("--releases", f"sqlite:///{service_folder}/releases.db")
    told = done(*options, *releases, "--history", tmp_path / "other.parquet", "--pseudonym-key", key)
    assert "these are not the features it saw" in " ".join(told.split())
    assert "no decision d-x" in refused("audit", "explain", "d-x", "--decisions", url(service_folder))


def test_reading_a_payload_needs_the_key(
    refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("audit", "payload", decisions_of(folder)[0].decision_id, "--decisions", url(folder), *SIGNED)
    assert "no payload key is set" in refused(*command)
    monkeypatch.setenv("RISKDISTILL_PAYLOAD_KEY", "aa" * 32)
    assert "no payload is kept" in refused(*command)


def test_migrating_tells_that_it_is_done(done: Callable[..., str], folder: Path) -> None:
    releases = f"sqlite:///{folder}/releases.db"
    told = done("audit", "migrate", "--decisions", url(folder), "--releases", releases)
    assert told == "decision log is of this version release log is of this version"
