"""The queue shows the most valuable alerts within the budget, and samples that say what alerts miss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import execute
from hypothesis import given
from hypothesis import strategies as st
from made_decisions import decision

from riskdistill.errors import AuditError, ConfigError, UnavailableError
from riskdistill.evaluation.recall_estimate import Stratum
from riskdistill.storage.alert_queue import AlertQueue, Waiting, in_order, places
from riskdistill.storage.cases import CaseLog, Finding, Outcome
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog

NOW = datetime(2026, 6, 1, 15, tzinfo=UTC)


class Desk:
    """A decision log with its cases and queue."""

    def __init__(self, url: str) -> None:
        self.log, self.cases, self.queue = DecisionLog(url), CaseLog(url), AlertQueue(url)

    def alert(self, name: str, score: float, at_risk: float, **changes: Any) -> None:
        fields = {"band": "medium", "action": "review", "score": score, "at_risk_usd": at_risk} | changes
        self.log.append([decision(name).model_copy(update=fields)])

    def sample(self, name: str, share: float = 0.01, **changes: Any) -> None:
        self.alert(name, 0.01, 100.0, band="low", action="allow", sample_share=share, **changes)

    def case(self, name: str, outcome: Outcome, known: datetime = NOW) -> None:
        finding = Finding([name], outcome, known - timedelta(days=2))
        self.cases.record(finding, decided={name: decision(name)}, typologies=(), actor="ann", now=NOW)

    def shown(self, budget: int = 100, now: datetime = NOW) -> list[str]:
        return [item.tx_id for item in self.queue.today(budget, now).items]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(f"sqlite:///{tmp_path}/decisions.db")


def test_alerts_come_by_probability_times_amount_and_equal_ones_as_decided(desk: Desk) -> None:
    for name, score, at_risk in (("a", 0.9, 100), ("b", 0.5, 1_000), ("c", 0.5, 180), ("d", 0.6, 5_000)):
        desk.alert(name, score, at_risk)
    desk.log.append([decision("allowed").model_copy(update={"band": "low", "action": "allow"})])
    desk.alert("suppressed", 0.7, 9_000, action="allow", suppression="s1")
    assert desk.shown() == ["d", "b", "a", "c"]
    assert desk.shown(budget=2) == ["d", "b"]


def test_what_has_a_case_leaves_the_queue_and_counts_against_today_s_budget(desk: Desk) -> None:
    for number in range(5):
        desk.alert(f"t{number}", 0.5, 100.0 * (9 - number))
    desk.case("t0", "false_alert")
    desk.case("t1", "inconclusive")
    today = desk.queue.today(3, NOW)
    assert ([item.tx_id for item in today.items], today.reviewed_today, today.alerts_waiting) == (["t2"], 2, 3)
    assert desk.shown(budget=3, now=NOW + timedelta(days=1)) == ["t2", "t3", "t4"]


def test_samples_have_a_tenth_of_the_places_and_are_marked(desk: Desk) -> None:
    for number in range(20):
        desk.alert(f"t{number}", 0.5, 1_000.0)
        desk.sample(f"s{number}")
    items = desk.queue.today(20, NOW).items
    assert [item.kind for item in items] == ["alert"] * 18 + ["sample"] * 2
    desk.case(items[-1].tx_id, "false_alert")
    assert [item.kind for item in desk.queue.today(20, NOW).items] == ["alert"] * 18 + ["sample"]


def test_each_stratum_of_samples_has_its_turn_and_chance_chooses_within(desk: Desk) -> None:
    for number in range(9):
        desk.sample(f"near{number}", share=0.1, decision_id=f"{9 - number}")
    desk.sample("far", share=0.01, decision_id="99")
    assert set(desk.shown(budget=2)) == {"far", "near8"}
    assert set(desk.shown(budget=3)) == {"far", "near8", "near7"}


def test_the_estimate_rests_on_samples_and_their_cases(desk: Desk) -> None:
    for number in range(4):
        desk.alert(f"t{number}", 0.5, 100.0)
        desk.sample(f"s{number}")
    desk.sample("near", share=0.1)
    desk.alert("suppressed", 0.5, 100.0, action="allow", suppression="s1", sample_share=0.1)
    desk.case("t0", "laundering")
    desk.case("t1", "false_alert")
    desk.case("t2", "inconclusive")
    for number, outcome in enumerate(("false_alert", "laundering", "inconclusive")):
        desk.case(f"s{number}", outcome)  # type: ignore[arg-type]
    desk.case("near", "false_alert")
    desk.case("suppressed", "laundering")
    told = desk.queue.estimate()
    assert told.strata == (Stratum(0.01, 4, 2, 1), Stratum(0.1, 2, 2, 1))
    assert (told.detected, told.open_alerts) == (1, 2)
    assert told.missed == pytest.approx(1 / 0.005 + 1 / 0.1)
    assert told.recall == pytest.approx(1 / 211)
    assert desk.queue.estimate(since=NOW).strata == ()


def test_a_queue_without_its_database_says_so(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        AlertQueue(f"sqlite:///{tmp_path}/none.db")
    engine = open_database(f"sqlite:///{tmp_path}/decisions.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alerts")
    with pytest.raises(UnavailableError, match="check the database"):
        desk.queue.today(5)


WAITING = st.builds(
    Waiting,
    decision_id=st.text(max_size=3),
    tx_id=st.text(max_size=3),
    kind=st.sampled_from(["alert", "sample"]),
    expected_loss=st.floats(0, 1e9) | st.sampled_from([0.0, 10.0]),
    sequence=st.integers(1, 10**9),
)


@given(st.lists(WAITING, unique_by=lambda one: one.sequence), st.randoms())
def test_the_order_is_one_whatever_order_alerts_come_in(waiting: list[Waiting], random: Any) -> None:
    ordered = in_order(waiting)
    random.shuffle(waiting)
    assert in_order(waiting) == ordered
    values = [one.expected_loss for one in ordered]
    assert values == sorted(values, reverse=True)


@given(*[st.integers(0, 200)] * 5)
def test_places_keep_to_the_budget_and_leave_none_empty(
    reviewed: int, budget: int, alerts: int, samples: int, samples_reviewed: int
) -> None:
    left = max(0, budget - reviewed)
    shown = places(left, budget, alerts, samples, samples_reviewed)
    assert min(shown) >= 0
    assert shown[0] <= alerts
    assert shown[1] <= samples
    assert sum(shown) == min(left, alerts + samples)


@pytest.mark.parametrize(
    ("tampering", "sequence"),
    [
        ("DELETE FROM alerts WHERE tx_id = 'b'", 2),
        ("UPDATE alerts SET expected_loss = 0 WHERE tx_id = 'b'", 2),
        ("UPDATE alerts SET kind = 'suppressed' WHERE tx_id = 'c'", 3),
        ("INSERT INTO alerts VALUES (9, 'd-9', 'z', '2026', 'alert', 1.0, NULL)", 9),
    ],
)
def test_a_queue_that_tells_otherwise_than_the_decisions_does_not_verify(
    desk: Desk, tmp_path: Path, tampering: str, sequence: int
) -> None:
    for name in "abc":
        desk.alert(name, 0.9, 100)
    desk.sample("d")
    assert desk.log.verify().entries == 4
    execute(f"sqlite:///{tmp_path}/decisions.db", tampering)
    with pytest.raises(AuditError, match=f"entry {sequence}: the table alerts"):
        desk.log.verify()


def test_decisions_from_before_there_was_a_queue_are_not_missed_in_it(desk: Desk, tmp_path: Path) -> None:
    desk.alert("old", 0.9, 100)
    execute(f"sqlite:///{tmp_path}/decisions.db", "DELETE FROM alerts")
    desk.alert("new", 0.9, 100)
    assert desk.log.verify().entries == 2
