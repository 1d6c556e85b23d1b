"""Cases say what is known since when; suppressions what need not be looked at; both keep all they were told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_decisions import PAID, A, B, decided
from sqlalchemy.exc import DatabaseError

from riskdistill.data.schema import LABELS
from riskdistill.errors import AuditError, CaseError, ContradictionError, NotFoundError, UnavailableError
from riskdistill.storage.cases import Case, CaseLog, Finding, Outcome
from riskdistill.storage.database import open_database
from riskdistill.storage.suppressions import SuppressionList, Target

NOW = datetime(2026, 6, 1, tzinfo=UTC)
C = "c" * 32


@pytest.fixture
def log(url: str) -> Iterator[CaseLog]:
    cases = CaseLog(url)
    yield cases
    cases.close()


def record(log: CaseLog, *tx_ids: str, outcome: Outcome = "laundering", known: int = 30, **changes: Any) -> Case:
    """A case whose outcome became known so many days after the payment."""
    finding = Finding(tx_ids, outcome, PAID + timedelta(days=known), **changes)
    return log.record(
        finding, decided=decided("t1", "t2", "t3"), typologies=("fan_in", "cycle", "normal"), actor="ann", now=NOW
    )


def labels(log: CaseLog, days: int = 150) -> list[tuple[Any, ...]]:
    table = log.labels(PAID + timedelta(days=days))
    assert table.schema == LABELS
    return [
        tuple(row[name] for name in ("tx_id", "is_laundering", "typology", "scheme_id"))
        for row in table.to_pylist()
    ]


def test_a_case_is_kept_as_it_was_told_and_makes_labels(log: CaseLog) -> None:
    case = record(log, "t2", "t1", typology="fan_in", note="mule account")
    record(log, "t3", outcome="false_alert", known=31)
    assert (case.case_id, case.tx_ids, case.actor, case.recorded_at) == ("c1", ("t1", "t2"), "ann", NOW)
    assert log.get("c1") == case
    assert [one.case_id for one in log.list()] == ["c1", "c2"]
    assert [one.case_id for one in log.list(after=1, limit=1)] == ["c2"]
    assert labels(log) == [
        ("t1", True, "fan_in", "c1"),
        ("t2", True, "fan_in", "c1"),
        ("t3", False, "normal", None),
    ]
    assert log.labels(NOW)["known_at"].to_pylist()[0] == PAID + timedelta(days=30)
    assert log.verify().entries == 2


def test_a_corrected_outcome_holds_from_when_it_became_known_and_no_earlier(log: CaseLog) -> None:
    record(log, "t1", known=30)
    record(log, "t1", outcome="false_alert", known=60)
    record(log, "t1", outcome="inconclusive", known=90)
    assert labels(log, 29) == []
    assert labels(log, 30) == labels(log, 59) == [("t1", True, "unlisted", "c1")]
    assert labels(log, 60) == [("t1", False, "normal", None)]
    assert labels(log, 90) == []


def test_the_same_case_told_again_is_recorded_once(log: CaseLog) -> None:
    first = record(log, "t1", "t2", typology="cycle")
    assert record(log, "t2", "t1", "t1", typology="cycle", note="told twice") == first
    assert record(log, "t1", typology="cycle") == first  # it says so of t1 already
    assert record(log, "t1", "t3", typology="cycle").case_id == "c2"
    assert log.verify().entries == 2


def test_an_outcome_that_contradicts_one_of_the_same_moment_is_refused(log: CaseLog) -> None:
    record(log, "t1", "t2")
    with pytest.raises(ContradictionError, match="case c1 of the same known_at says laundering of transaction t2"):
        record(log, "t2", "t3", outcome="false_alert")
    assert log.verify().entries == 1


@pytest.mark.parametrize(
    ("tx_ids", "changes", "error", "said"),
    [
        (("t1", "t9"), {}, NotFoundError, "transaction t9"),
        ((), {}, CaseError, "needs a transaction"),
        (("t1",), {"known": 152}, CaseError, "in the future"),
        (("t1",), {"known": -1}, CaseError, "before a payment"),
        (("t1",), {"typology": "no_such"}, CaseError, "use one of cycle, fan_in, unlisted"),
        (("t1",), {"typology": "normal"}, CaseError, "no such typology"),
        (("t1",), {"typology": "cycle", "outcome": "false_alert"}, CaseError, "has no typology"),
    ],
)
def test_what_cannot_be_true_is_refused_and_nothing_is_kept(
    log: CaseLog, tx_ids: tuple[str, ...], changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        record(log, *tx_ids, **changes)
    assert log.verify().entries == 0


@pytest.mark.parametrize("case_id", ["c1", "c0", "x", "", "c99999999999999999999", "1"])
def test_a_case_that_is_not_there_is_not_found(log: CaseLog, case_id: str) -> None:
    with pytest.raises(NotFoundError):
        log.get(case_id)


def test_rows_cannot_be_changed_and_a_forged_one_is_named(url: str, log: CaseLog) -> None:
    record(log, "t1")
    record(log, "t2")
    engine = open_database(url)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE cases SET body = 'x'")
    execute(url, "UPDATE cases SET body = replace(body, 'laundering', 'false_alert') WHERE sequence = 1")
    with pytest.raises(AuditError, match="case log, entry 1: "):
        log.verify()


@pytest.mark.parametrize(
    ("tampering", "entry"),
    [
        ("UPDATE case_transactions SET outcome = 'false_alert' WHERE tx_id = 't2'", 2),
        ("DELETE FROM case_transactions WHERE tx_id = 't1'", 1),
        ("INSERT INTO case_transactions VALUES (9, 't3', 'c9', 'laundering', NULL, '2026', '2026')", 9),
    ],
)
def test_labels_that_the_cases_do_not_make_are_named(url: str, log: CaseLog, tampering: str, entry: int) -> None:
    record(log, "t1")
    record(log, "t2", "t3")
    assert log.verify().entries == 2
    execute(url, tampering)
    with pytest.raises(AuditError, match=f"case log, entry {entry}: .* case_transactions"):
        log.verify()


def test_two_services_add_to_one_chain(url: str) -> None:
    one, other = CaseLog(url), CaseLog(url)
    for number in range(4):
        record((one, other)[number % 2], "t1", known=30 + number)
    assert one.verify() == other.verify()
    assert [case.case_id for case in other.list()] == ["c1", "c2", "c3", "c4"]
    one.close()
    other.close()


def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    log = CaseLog(f"sqlite:///{tmp_path}/cases.db")
    engine = open_database(f"sqlite:///{tmp_path}/cases.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE case_transactions")
    with pytest.raises(UnavailableError, match="check the database"):
        record(log, "t1")
    with pytest.raises(UnavailableError, match="check the database"):
        log.labels(NOW)
    engine.dispose()
    log.close()


TOLD = st.tuples(
    st.sampled_from(["t1", "t2"]), st.sampled_from(["laundering", "false_alert", "inconclusive"]), st.integers(1, 9)
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(TOLD, max_size=8), day=st.integers(0, 10))
def test_labels_are_those_of_the_latest_finding_known_by_then(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, Outcome, int]], day: int
) -> None:
    log = CaseLog(f"sqlite:///{tmp_path_factory.mktemp('cases')}/cases.db")
    known: dict[tuple[str, int], str] = {}
    for tx_id, outcome, known_on in told:
        if known.setdefault((tx_id, known_on), outcome) == outcome:
            record(log, tx_id, outcome=outcome, known=known_on)
        else:
            with pytest.raises(ContradictionError):
                record(log, tx_id, outcome=outcome, known=known_on)
    expected = {}
    for (tx_id, known_on), outcome in sorted(known.items(), key=lambda item: item[0][1]):
        if known_on <= day:
            expected[tx_id] = outcome
    found = {row[0]: "laundering" if row[1] else "false_alert" for row in labels(log, day)}
    assert found == {tx_id: outcome for tx_id, outcome in expected.items() if outcome != "inconclusive"}
    log.close()


# --- suppressions


def test_a_suppression_covers_its_target_until_its_end(url: str) -> None:
    known = SuppressionList(url)
    day = timedelta(days=1)
    entry = known.add(Target(account=A), owner="ops", reason="payroll", expires_at=NOW + day, actor="ann", now=NOW)
    assert (entry.suppression_id, entry.added_by, entry.covers_high) == ("s1", "ann", False)
    assert known.match(A, B, None, "medium", NOW) == known.match(B, A, None, "medium", NOW) == "s1"
    assert known.match(B, C, None, "medium", NOW) is None
    assert known.match(A, B, None, "medium", NOW + day) is None
    assert known.active(NOW) == [entry]
    assert known.active(NOW + day) == []
    assert known.verify().entries == 1
    known.close()


def test_what_would_be_held_passes_only_where_an_entry_says_so(url: str) -> None:
    known = SuppressionList(url)
    given_ = {"owner": "ops", "reason": "known", "expires_at": NOW + timedelta(days=1), "actor": "ann", "now": NOW}
    known.add(Target(sender=A, receiver=B), **given_)
    assert known.match(A, B, None, "high", NOW) is None
    known.add(Target(sender=A, receiver=B), covers_high=True, **given_)
    assert known.match(A, B, None, "high", NOW) == "s2"
    assert known.match(B, A, None, "high", NOW) is None
    known.add(Target(typology="fan_in"), **given_)
    assert known.match(C, C, "fan_in", "medium", NOW) == "s3"
    assert known.match(C, C, None, "medium", NOW) is None
    known.close()


def test_taking_one_back_is_an_entry_too_and_other_processes_see_it(url: str) -> None:
    one, other = SuppressionList(url), SuppressionList(url)
    one.add(
        Target(account=A), owner="ops", reason="payroll", expires_at=NOW + timedelta(days=1), actor="ann", now=NOW
    )
    other.refresh()
    assert other.match(A, B, None, "medium", NOW) == "s1"
    other.remove("s1", reason="account closed", actor="bob", now=NOW)
    one.refresh()
    assert one.match(A, B, None, "medium", NOW) is None
    assert [(change.change, change.actor, change.reason) for change in one.history()] == [
        ("added", "ann", "payroll"),
        ("removed", "bob", "account closed"),
    ]
    with pytest.raises(NotFoundError, match="in force"):
        one.remove("s1", reason="again", actor="bob", now=NOW)
    assert one.verify().entries == 2
    one.close()
    other.close()


def test_one_that_has_lapsed_cannot_be_taken_back(url: str) -> None:
    known = SuppressionList(url)
    end = NOW + timedelta(days=1)
    known.add(Target(account=A), owner="ops", reason="payroll", expires_at=end, actor="ann", now=NOW)
    with pytest.raises(NotFoundError):
        known.remove("s1", reason="late", actor="bob", now=end)
    known.close()


@pytest.mark.parametrize("ends_in", [timedelta(0), timedelta(days=-1), timedelta(days=367)])
def test_a_suppression_must_end_and_not_be_over(tmp_path: Path, ends_in: timedelta) -> None:
    known = SuppressionList(f"sqlite:///{tmp_path}/cases.db")
    with pytest.raises(CaseError, match="within 366 days"):
        known.add(Target(account=A), owner="ops", reason="x", expires_at=NOW + ends_in, actor="ann", now=NOW)
    assert known.history() == []
    known.close()


@pytest.mark.parametrize(
    "fields", [{}, {"sender": A}, {"account": A, "typology": "cycle"}, {"account": "DE02"}, {"other": 1}]
)
def test_a_target_is_one_thing(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name one of|pattern|Extra"):
        Target(**fields)
