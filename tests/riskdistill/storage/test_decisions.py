"""The decision log keeps what it was given, in order, and names the first link that somebody broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from databases import execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from stored_decisions import make

from riskdistill.errors import AuditError, ConflictError, UnavailableError
from riskdistill.storage import database
from riskdistill.storage import decisions as decisions_module
from riskdistill.storage.chain import GENESIS
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import Decision, DecisionLog, Shadow, StatedReason


@pytest.fixture
def log(url: str) -> Iterator[DecisionLog]:
    log = DecisionLog(url)
    yield log
    log.close()


def test_a_decision_from_before_the_teacher_was_asked_by_policies_still_loads() -> None:
    older = make(1, route="student_degraded", route_reason="teacher_late").model_dump(mode="json")
    del older["bypass"]
    assert Decision.model_validate(older).bypass is None


def test_what_was_appended_is_found_by_id_by_transaction_and_in_order(log: DecisionLog) -> None:
    first = make(
        1,
        action="hold",
        band="high",
        reasons=(StatedReason(code="in.velocity", text="14 payments in 3 days", effect=1.5),),
        typology="fan_in",
        shadow=Shadow(bundle_version="f" * 16, score=0.5, action="review"),
    )
    log.append([first, make(2)])
    log.append([make(3)])
    assert log.get("d-1") == first
    assert log.by_tx("tx-2") == make(2)
    assert log.by_txs(["tx-1", "tx-3", "tx-9"]) == {"tx-1": first, "tx-3": make(3)}
    assert [(entry.sequence, entry.decision.tx_id) for entry in log.read()] == [
        (1, "tx-1"),
        (2, "tx-2"),
        (3, "tx-3"),
    ]
    assert log.get("d-9") is None
    assert log.by_tx("tx-9") is None


def test_reading_goes_on_after_a_sequence_and_stops_at_the_limit(
    log: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions_module, "PAGE", 3)
    log.append([make(number) for number in range(1, 11)])
    assert [entry.sequence for entry in log.read()] == list(range(1, 11))
    assert [entry.sequence for entry in log.read(after_sequence=4, limit=5)] == [5, 6, 7, 8, 9]
    assert list(log.read(after_sequence=10)) == []
    assert list(log.read(limit=0)) == []


def test_reading_a_period_takes_its_beginning_and_not_its_end_whatever_the_zone(
    log: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions_module, "PAGE", 2)
    log.append([make(number) for number in range(1, 9)])  # each a second after the one before
    start = make(3).decided_at.astimezone(timezone(timedelta(hours=5)))
    assert [entry.sequence for entry in log.read(start=start, end=make(7).decided_at)] == [3, 4, 5, 6]
    assert [entry.sequence for entry in log.read(4, 2, start=start)] == [5, 6]
    assert [entry.sequence for entry in log.read(end=make(2).decided_at)] == [1]


def test_state_order_is_the_order_of_observation(log: DecisionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions_module, "PAGE", 2)
    observed = [2, 1, 5, 3, 4]
    log.append([make(number, observed=place) for number, place in enumerate(observed)])
    assert [decision.observed for decision in log.in_state_order()] == [1, 2, 3, 4, 5]


def test_nothing_of_a_list_is_kept_when_one_of_it_is_there_already(log: DecisionLog) -> None:
    log.append([make(1)])
    with pytest.raises(ConflictError):
        log.append([make(2), make(1, decision_id="other")])
    assert log.verify().entries == 1


def test_an_empty_append_changes_nothing(log: DecisionLog) -> None:
    log.append([])
    assert log.verify() == (0, GENESIS, 0)


def test_a_database_without_the_table_is_unavailable(url: str) -> None:
    open_database(url).dispose()
    log = DecisionLog(url, create=False)
    with pytest.raises(UnavailableError, match=r"no such table|does not exist"):
        log.append([make(1)])
    log.close()


@pytest.mark.parametrize("statement", ["UPDATE decisions SET score = 0", "DELETE FROM decisions"])
def test_the_database_itself_refuses_changes(log: DecisionLog, url: str, statement: str) -> None:
    log.append([make(1)])
    engine = open_database(url)
    with engine.connect() as connection, pytest.raises(DatabaseError, match="append-only"):
        connection.execute(text(statement))
    engine.dispose()


def test_an_untouched_log_verifies_across_appends_and_reopening(log: DecisionLog, url: str) -> None:
    for number in range(1, 6):
        log.append([make(number)])
    again = DecisionLog(url)
    again.append([make(6)])
    assert again.verify() == log.verify()
    assert log.verify().entries == 6
    again.close()


@pytest.mark.parametrize(
    ("statements", "sequence", "decision_id", "fault"),
    [
        (["UPDATE decisions SET body = replace(body, '12.5', '12.6') WHERE sequence = 3"], 3, "d-3", "hash"),
        (["UPDATE decisions SET hash = 'ff' WHERE sequence = 2"], 2, "d-2", "hash mismatch"),
        (
            ["UPDATE decisions SET previous_hash = 'ff' WHERE sequence = 4"],
            4,
            "d-4",
            "previous hash mismatch",
        ),
        (["DELETE FROM decisions WHERE sequence = 3"], 4, "d-4", "sequence gap, 3"),
        (["DELETE FROM decisions WHERE sequence = 1"], 2, "d-2", "sequence gap, 1"),
        (["UPDATE decisions SET score = 0.1 WHERE sequence = 5"], 5, "d-5", "columns differ.*score"),
        (["UPDATE decisions SET decided_at = '2020' WHERE sequence = 1"], 1, "d-1", "decided_at"),
        (
            [
                "UPDATE decisions SET sequence = 99 WHERE sequence = 2",
                "UPDATE decisions SET sequence = 2 WHERE sequence = 3",
                "UPDATE decisions SET sequence = 3 WHERE sequence = 99",
            ],
            2,
            "d-3",
            "previous hash mismatch",
        ),
    ],
)
def test_verify_names_the_first_broken_link(
    log: DecisionLog, url: str, statements: list[str], sequence: int, decision_id: str, fault: str
) -> None:
    log.append([make(number) for number in range(1, 7)])
    execute(url, *statements)
    with pytest.raises(AuditError, match=f"sequence {sequence}: .*{fault}") as caught:
        log.verify()
    assert caught.value.where == f"decision {decision_id}"


def test_a_shortened_log_shows_against_a_head_kept_elsewhere(log: DecisionLog, url: str) -> None:
    log.append([make(1), make(2)])
    kept = log.verify()
    execute(url, "DELETE FROM decisions WHERE sequence = 2")
    assert log.verify() != kept


def test_times_are_stored_in_utc_whatever_zone_they_came_in(log: DecisionLog) -> None:
    east = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))
    log.append([make(1, decided_at=east)])
    assert log.verify().entries == 1
    assert log.get("d-1") == make(1, decided_at=datetime(2026, 1, 1, tzinfo=UTC))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    words=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    cut=st.integers(0, 6),
)
def test_any_decision_comes_back_as_it_was_however_the_appends_are_cut(
    new_database: Callable[[], str], scores: list[float], words: str, cut: int
) -> None:
    log = DecisionLog(new_database())
    reasons = (StatedReason(code="c", text=words, effect=-0.1),)
    given_ = [
        make(number, score=score, student_score=score, reasons=reasons) for number, score in enumerate(scores)
    ]
    log.append(given_[:cut])
    log.append(given_[cut:])
    assert [entry.decision for entry in log.read()] == given_
    assert log.verify().entries == len(given_)
    log.close()


def test_a_log_that_another_writer_holds_or_that_does_not_open_cannot_be_written_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    log, file = DecisionLog(f"sqlite:///{tmp_path}/log.db"), tmp_path / "log.db"
    with DecisionLog(f"sqlite:///{file}").writing(), pytest.raises(UnavailableError, match="database is locked"):
        log.append([make(1)])
    log.append([make(1)])
    log.engine.dispose()
    file.rename(tmp_path / "gone")
    file.mkdir()
    with pytest.raises(UnavailableError, match="unable to open"):
        log.append([make(2)])
    file.rmdir()
    (tmp_path / "gone").rename(file)
    log.append([make(2)])
    assert log.verify().entries == 2
