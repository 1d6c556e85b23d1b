"""The audit record: reproducible from the logs, and plain about a log that does not verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from traffic_log import NEW, decide, open_logs, traffic

from monitoring.audit import AuditRecord, audit
from monitoring.audit_page import write_audit_record
from riskdistill.storage.decisions import Bypass, DecisionLog, StatedReason
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.releases import ReleaseLog, State
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
    page = write_audit_record(tmp_path / "audit", audit(releases, decisions))
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
    page = write_audit_record(tmp_path / "audit", audit(*logs, desk_journals(url)))
    record = AuditRecord.model_validate_json((page.parent / "audit.json").read_text())
    assert not record.intact
    assert "broken: suppression log, entry 1" in page.read_text()


def test_the_same_logs_give_the_same_files(tmp_path: Path) -> None:
    logs = open_logs(tmp_path)
    first, second = (write_audit_record(tmp_path / name, audit(*logs)) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def moment(day: int) -> datetime:
    return datetime(2026, 3, day, tzinfo=UTC)


def test_a_period_tells_what_was_decided_in_it_and_what_served(tmp_path: Path) -> None:
    releases, decisions = open_logs(tmp_path)
    made = [decide(0.1).model_copy(update={"decided_at": moment(day)}) for day in (1, 2, 3, 4)]
    decisions.append([*made, decide(0.9)])
    record = audit(releases, decisions, start=moment(2), end=moment(4))
    assert (record.first_decision, record.last_decision) == (moment(2), moment(3))
    assert sum(count.decisions for count in record.decisions) == 2
    assert record.decision_log.entries == 5  # the chain is checked whole
    assert record.transitions == ()  # of later
    since = releases.history()[3].at  # `NEW` was promoted then
    later = audit(releases, decisions, start=since + timedelta(microseconds=1))
    assert [(step.release_id, step.after) for step in later.transitions] == [("r2", State.CHAMPION)]
    assert sum(count.decisions for count in later.decisions) == 1
    page = write_audit_record(tmp_path / "period", record).read_text()
    assert "Asked for from 2026-03-02 00:00:00+00:00" in page
    assert "until 2026-03-04 00:00:00+00:00" in page


def test_reasons_the_bypass_and_suppressions_are_counted(tmp_path: Path) -> None:
    releases, decisions = open_logs(tmp_path)
    reasons = tuple(StatedReason(code=code, text="words", effect=1.0) for code in ("amount", "fan_in"))
    asked = Bypass(
        wanted=("uncertain",),
        outcome="answered",
        teacher="local",
        cost=0.5,
        student_action="review",
        teacher_action="allow",
    )
    late = asked.model_copy(update={"outcome": "late", "teacher_action": None, "raised": True})
    changes: list[dict[str, Any]] = [
        {"reasons": reasons, "bypass": asked},
        {"reasons": reasons[1:], "bypass": asked.model_copy(update={"teacher_action": "review"})},
        {"bypass": late, "band": "high", "suppression": "s1"},
        {"suppression": "s1"},
        {"suppression": "s2"},
    ]
    decisions.append([decide(0.9).model_copy(update=change) for change in changes])
    journal = SuppressionList(f"sqlite:///{tmp_path}/logs.db")
    until = datetime.now(UTC) + timedelta(days=1)
    journal.add(Target(account="a" * 32), owner="ops", reason="payroll", expires_at=until, actor="ann")
    record = audit(releases, decisions, desk_journals(f"sqlite:///{tmp_path}/logs.db"))
    assert [(one.code, one.alerts, one.strongest) for one in record.reasons] == [("fan_in", 2, 1), ("amount", 1, 1)]
    assert [(one.outcome, one.decisions, one.changed, one.raised, one.cost) for one in record.bypass] == [
        ("answered", 2, 1, 0, 1.0),
        ("late", 1, 0, 1, 0.5),
    ]
    first, second = record.suppressed
    assert (first.alerts, first.held, second.alerts, second.entry) == (2, 1, 1, None)
    assert first.entry is not None
    page = write_audit_record(tmp_path / "audit", record).read_text()
    assert "payroll" in page
    assert "its journal is not at hand" in page


def test_empty_logs_make_a_record(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/logs.db"
    page = write_audit_record(tmp_path, audit(ReleaseLog(url), DecisionLog(url)))
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
    page = write_audit_record(tmp_path / "audit", audit(releases, decisions))
    record = AuditRecord.model_validate_json((page.parent / "audit.json").read_text())
    broken = record.decision_log if table == "decisions" else record.release_log
    assert not record.intact
    assert broken.fault is not None
    assert "3" in broken.fault
    assert "broken" in page.read_text()
    assert (record.decisions, record.transitions)[table != "decisions"] == ()
