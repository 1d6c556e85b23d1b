"""The audit record: reproducible from the logs, and plain about a log that does not verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from traffic_log import NEW, decide, open_logs, traffic

from monitoring.audit import AuditRecord, audit, write_audit_record
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.suppressions import SuppressionList, Target


def tamper(folder: Path, *statements: str) -> None:
    engine = sa.create_engine(f"sqlite:///{folder}/logs.db")
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_the_record_holds_heads_transitions_evidence_and_counts(tmp_path: Path) -> None:
    releases, decisions = open_logs(tmp_path)
    decisions.append([*traffic(20, 0.0, 0.0, 0.0, seed=0), decide(0.9, teacher=0.2), decide(0.9)])
    releases.rollback(actor="monitor", reason="harm <b>", evidence={"metric": "more_alerts", "e_value": 812.5})
    page = write_audit_record(tmp_path / "audit", releases, decisions)
    record = AuditRecord.model_validate_json((page.parent / "audit.json").read_text())
    assert record == audit(releases, decisions)
    assert record.intact
    assert record.decision_log.entries == 22
    assert record.release_log.head == releases.verify().head
    counts = {(c.bundle_version, c.route, c.action): c.decisions for c in record.decisions}
    assert counts == {
        (NEW, "student", "allow"): 20,
        (NEW, "teacher", "allow"): 1,
        (NEW, "student", "review"): 1,
    }
    assert record.transitions[-1].evidence["e_value"] == 812.5
    html = page.read_text()
    assert record.decision_log.head is not None
    assert record.decision_log.head in html
    assert "812.5" in html
    assert "harm &lt;b&gt;" in html


def test_logs_that_live_beside_the_decisions_are_in_the_record(tmp_path: Path) -> None:
    logs, url = open_logs(tmp_path), f"sqlite:///{tmp_path}/logs.db"
    assert audit(*logs, desk_journals(url)).journals == {}  # a database without them
    suppressions = SuppressionList(url)
    end = datetime.now(UTC) + timedelta(days=1)
    suppressions.add(Target(typology="cycle"), owner="ops", reason="payroll", expires_at=end, actor="ann")
    record = audit(*logs, desk_journals(url))
    assert (record.journals["suppressions"].entries, record.intact) == (1, True)
    tamper(
        tmp_path,
        "DROP TRIGGER suppressions_no_update",
        "UPDATE suppressions SET body = replace(body, 'ann', 'eve')",
    )
    page = write_audit_record(tmp_path / "audit", *logs, desk_journals(url))
    record = AuditRecord.model_validate_json((page.parent / "audit.json").read_text())
    assert not record.intact
    assert "broken: suppression log, entry 1" in page.read_text()


def test_the_same_logs_give_the_same_files(tmp_path: Path) -> None:
    logs = open_logs(tmp_path)
    first, second = (write_audit_record(tmp_path / name, *logs) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_empty_logs_make_a_record(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/logs.db"
    page = write_audit_record(tmp_path, ReleaseLog(url), DecisionLog(url))
    assert "No decision was made" in page.read_text()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("decisions", "UPDATE decisions SET body = replace(body, 'EUR', 'USD') WHERE sequence = 3"),
        ("decisions", "UPDATE decisions SET body = '{}' WHERE sequence = 3"),
        ("release_transitions", "UPDATE release_transitions SET body = 'nothing' WHERE sequence = 3"),
    ],
)
def test_a_broken_log_is_recorded_with_its_first_broken_link(tmp_path: Path, table: str, change: str) -> None:
    releases, decisions = open_logs(tmp_path)
    decisions.append(traffic(5, 0.0, 0.0, 0.0, seed=0))
    tamper(tmp_path, f"DROP TRIGGER {table}_no_update", change)
    page = write_audit_record(tmp_path / "audit", releases, decisions)
    record = AuditRecord.model_validate_json((page.parent / "audit.json").read_text())
    broken = record.decision_log if table == "decisions" else record.release_log
    assert not record.intact
    assert broken.fault is not None
    assert "3" in broken.fault
    assert "broken" in page.read_text()
    assert (record.decisions, record.transitions)[table != "decisions"] == ()
