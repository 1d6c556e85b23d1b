"""What is held against a champion, and what is not: outages that all share, labels that came by their outcome."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from traffic_log import EXPECTED, GOOD, REVIEW, Logs, controller, decide, traffic

from monitoring.evidence import Expectation, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.rollback import RollbackController
from riskdistill.storage.decisions import Bypass, Decision, Entry


def served(
    failing: float, seed: int, start: datetime, days: float, rows: int = 1_500, **changes: Any
) -> list[Decision]:
    """Decisions spread over days, all of which want the teacher; a share of them in vain."""
    draw = np.random.default_rng(seed)
    late = {"teacher_score": None, "route": "student_degraded", "route_reason": "teacher_late"}
    return [
        decide(0.1, teacher=0.1).model_copy(
            update={"decided_at": start + timedelta(days=days * place / rows)}
            | (late if draw.random() < failing else {})
            | changes
        )
        for place in range(rows)
    ]


ELSEWHERE = Bypass(
    wanted=("uncertain",), outcome="failed", teacher="open_inference", student_action="allow", cost=0.0
)


@pytest.mark.parametrize(
    ("after", "changes", "action"),
    [
        (0.0, {}, "rolled_back"),
        (2.0, {}, "alarm"),
        (0.0, {"bypass": ELSEWHERE}, "alarm"),
    ],
    ids=["just promoted", "after healthy days", "of a teacher elsewhere"],
)
def test_errors_act_only_where_they_speak_against_the_release(
    logs: Logs, after: float, changes: dict[str, Any], action: str
) -> None:
    champion = logs[0].champion()
    assert champion is not None
    began = champion.changed_at
    before = served(0.02, 1, began - timedelta(days=7), 7, bundle_version=GOOD)
    outage = served(0.5, 3, began + timedelta(days=after), 0.5, **changes)
    healthy = served(0.02, 2, began, after) if after else []
    logs[1].append([*before, *healthy, *outage])
    verdict = controller(logs).look()
    assert verdict.reason.startswith("errors: ")
    assert verdict.action == action


@pytest.mark.parametrize(("days", "action"), [(0.1, "rolled_back"), (2.0, "alarm")])
def test_slow_decisions_act_only_for_a_while_after_a_promotion(logs: Logs, days: float, action: str) -> None:
    champion = logs[0].champion()
    assert champion is not None
    began = champion.changed_at
    before = served(0.0, 1, began - timedelta(days=7), 7, bundle_version=GOOD)
    logs[1].append([*before, *served(0.0, 2, began + timedelta(days=days), 0.1, latency_ms=100.0)])
    verdict = controller(logs).look()
    assert verdict.reason.startswith("slow: ")
    assert verdict.action == action


class Growing:
    """A decision log of which so many entries are there."""

    def __init__(self, decisions: list[Decision]) -> None:
        self.entries, self.there = [Entry(place, one) for place, one in enumerate(decisions, start=1)], 0

    def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]:
        yield from self.entries[after_sequence : self.there]


def test_a_watch_that_begins_anew_finds_what_one_that_went_on_finds(logs: Logs) -> None:
    """A healthy day, and then the teacher fails in 12 % of the decisions not 2 %, which the day would hide."""
    champion = logs[0].champion()
    assert champion is not None
    began = champion.changed_at
    before = served(0.02, 1, began - timedelta(days=7), 7, rows=2_000, bundle_version=GOOD)
    healthy = served(0.02, 2, began, 1, rows=5_000)
    source = Growing([*before, *healthy, *served(0.12, 3, began + timedelta(days=1), 0.1, rows=500)])

    def begun() -> RollbackController:
        return RollbackController(logs[0], source, RollbackPolicy(), lambda _: EXPECTED)

    going_on = begun()
    for there in range(len(before), len(source.entries) + 1, 100):
        source.there = there
        kept = going_on.look()
    anew = begun().look()
    assert anew.action == kept.action == "alarm"
    assert anew.reason.startswith("errors: ")
    e_values = [{one.metric: one.e_value for one in verdict.measures} for verdict in (kept, anew)]
    assert e_values[0]["errors"] == pytest.approx(e_values[1]["errors"], rel=0.5)


def test_labels_count_in_the_order_in_which_they_became_known(logs: Logs) -> None:
    """Of a watch that begins anew: a healthy past does not hide what labels have shown since."""
    champion = logs[0].champion()
    assert champion is not None
    decisions = [
        one.model_copy(update={"decided_at": champion.changed_at + timedelta(minutes=place)})
        for place, one in enumerate(traffic(3_000, 0.3, 0.3, 0.0, seed=4))
    ]
    labels = {
        one.tx_id: Outcome((one.student_score < REVIEW) != (place < 2_600), one.decided_at + timedelta(hours=1))
        for place, one in enumerate(decisions)
    }
    source, end = Growing(decisions), decisions[-1].decided_at + timedelta(days=1)
    source.there = len(decisions)
    policy = RollbackPolicy(labels=True)
    verdict = RollbackController(logs[0], source, policy, lambda _: EXPECTED, lambda: end).look(labels)
    assert verdict.reason.startswith("false_alerts")


def test_late_labels_that_show_false_alerts_lead_to_a_rollback(logs: Logs) -> None:
    decisions = traffic(1_000, 0.1, 0.1, 0.1, seed=3)
    logs[1].append(decisions)
    watcher = controller(logs, labels=True)
    assert watcher.look().action == "none"
    only_new = {d.tx_id: Outcome(False) for d in decisions if d.student_score > 0.5}
    only_old = {d.tx_id: Outcome(True) for d in decisions if d.student_score < 0.5}
    assert watcher.look(only_new).action == "none", "labels of one side alone are no comparison"
    verdict = watcher.look(only_old)
    assert verdict.reason.startswith("false_alerts")
    assert verdict.action == "rolled_back"


@pytest.mark.parametrize("placeholder", ["of the payment", "of tomorrow"])
def test_a_label_counts_once_it_is_a_verdict_and_waits_while_it_is_none(logs: Logs, placeholder: str) -> None:
    """The champion's own alerts are false and the previous model's are not, which the first labels do not tell."""
    decisions = traffic(1_000, 0.1, 0.1, 0.1, seed=3)
    logs[1].append(decisions)
    moment = decisions[0].transaction.timestamp
    if placeholder == "of tomorrow":
        moment = datetime.now(UTC) + timedelta(days=1)
    watcher = controller(logs, labels=True)
    told = watcher.look({one.tx_id: Outcome(False, moment) for one in decisions})
    assert next(one for one in told.measures if one.metric == "false_alerts").e_value == 1
    verdicts = {one.tx_id: Outcome(one.student_score < REVIEW, datetime.now(UTC)) for one in decisions}
    verdict = watcher.look(verdicts)
    assert verdict.reason.startswith("false_alerts")
    assert verdict.action == "rolled_back"


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_come_by_their_outcome_roll_no_healthy_champion_back(logs: Logs, seed: int) -> None:
    """Of alerts that the previous model alone raised, what is told is mostly laundering that surfaced."""
    draw, decisions, labels = np.random.default_rng(seed), traffic(2_000, 0.2, 0.2, 0.2, seed), {}
    for place, one in enumerate(decisions):
        laundering, passed = bool(draw.random() < 0.3), one.action == "allow"
        if passed:
            decisions[place] = one.model_copy(update={"sample_share": None})
        if not passed or draw.random() < (0.3 if laundering else 0.02):
            labels[one.tx_id] = Outcome(laundering)
    logs[1].append(decisions)
    assert controller(logs, labels=True).look(labels).action == "none"


@pytest.mark.parametrize(("precision", "action"), [(0.3, "none"), (0.1, "rolled_back")])
def test_false_alerts_are_compared_on_a_logged_sample(logs: Logs, precision: float, action: str) -> None:
    """More is drawn near the line, where more is laundering; what surfaces by itself comes on top."""
    draw, decisions, labels = np.random.default_rng(0), [], {}
    for one in traffic(6_000, 0.2, 0.2, 0.0, seed=1):
        near = bool(draw.random() < 0.3)
        chance = precision if one.student_score >= REVIEW else 0.65 if near else 0.15  # 0.3 altogether
        laundering, share = bool(draw.random() < chance), 0.9 if near else 0.3
        drawn = one.action == "allow" and draw.random() < share
        decisions.append(one.model_copy(update={"sample_share": share if drawn else None}))
        if one.action != "allow" or drawn or (laundering and draw.random() < 0.5):
            labels[one.tx_id] = Outcome(laundering)
    logs[1].append(decisions)
    assert controller(logs, labels=True, missed_margin=2.0).look(labels).action == action


def test_a_rare_sample_of_everything_does_not_thin_the_one_of_the_previous_models_alerts(logs: Logs) -> None:
    """One in a thousand is drawn of what nobody alerts on, all of what the previous model alone would have."""
    draw, decisions, labels = np.random.default_rng(0), [], {}
    for one in traffic(4_000, 0.2, 0.2, 0.0, seed=1):
        quiet = one.shadow is not None and one.shadow.action == "allow"
        drawn = one.action == "allow" and (not quiet or bool(draw.random() < 0.001))
        decisions.append(one.model_copy(update={"sample_share": (0.001 if quiet else 1.0) if drawn else None}))
        if one.action != "allow" or drawn:
            labels[one.tx_id] = Outcome(bool(draw.random() < (0.1 if one.action != "allow" else 0.3)))
    assert any(one.sample_share == 0.001 for one in decisions)
    logs[1].append(decisions)
    verdict = controller(logs, labels=True, missed_margin=2.0).look(labels)
    assert verdict.reason.startswith("false_alerts")


def answered(student: float, teacher: float, kind: str = "local") -> Decision:
    """A decision of the teacher's on what both students see alike."""
    bypass = Bypass(
        wanted=("uncertain",),
        outcome="answered",
        teacher=kind,
        student_action="allow" if student < REVIEW else "review",
        cost=0.0,
    )
    return decide(student, student, teacher=teacher).model_copy(update={"bypass": bypass})


def hours_before(began: datetime, teacher_agrees: float = 1.0, rows: int = 4_000) -> list[Decision]:
    """A week of the previous model, which alerts on a twentieth; the teacher clears what it does not agree with."""
    draw = np.random.default_rng(0)
    made = []
    for place in range(rows):
        alert, agrees = draw.random() < 0.05, draw.random() < teacher_agrees
        one = answered(0.9 if alert else 0.1, 0.9 if alert and agrees else 0.1)
        when = began - timedelta(days=7 * (1 - place / rows))
        made.append(one.model_copy(update={"decided_at": when, "bundle_version": GOOD, "shadow": None}))
    return made


def deciding(
    began: datetime, after: float, teacher_alerts: float, teacher_agrees: float, kind: str, rows: int = 3_000
) -> list[Decision]:
    """Both students alert on a twentieth of half a day; the teacher raises some of the rest, and clears some."""
    draw = np.random.default_rng(1)
    made = []
    for place in range(rows):
        alert = draw.random() < 0.05
        final = draw.random() < (teacher_agrees if alert else teacher_alerts)
        when = began + timedelta(days=after + 0.5 * place / rows)
        one = answered(0.9 if alert else 0.1, 0.9 if final else 0.1, kind)
        made.append(one.model_copy(update={"decided_at": when}))
    return made


@pytest.mark.parametrize(
    ("after", "raised", "agrees", "kind", "metric", "action"),
    [
        (0.0, 0.2, 1.0, "local", "more_final_alerts", "rolled_back"),
        (0.0, 0.0, 0.1, "local", "fewer_final_alerts", "rolled_back"),
        (2.0, 0.2, 1.0, "local", "more_final_alerts", "alarm"),
        (0.0, 0.2, 1.0, "open_inference", "more_final_alerts", "alarm"),
        (0.0, 0.01, 0.8, "local", "no harm is shown", "none"),
    ],
    ids=["a flood", "silence", "a flood after healthy days", "of a teacher elsewhere", "healthy"],
)
def test_what_the_teacher_makes_of_alerts_is_held_against_a_new_champion(
    logs: Logs, after: float, raised: float, agrees: float, kind: str, metric: str, action: str
) -> None:
    champion = logs[0].champion()
    assert champion is not None
    began = champion.changed_at
    logs[1].append([*hours_before(began, 0.8), *deciding(began, after, raised, agrees, kind)])
    verdict = controller(logs, Expectation(REVIEW, 0.05), teacher_margin=1e6).look()
    assert verdict.reason.startswith(metric)
    assert verdict.action == action


def test_a_teacher_that_always_cleared_many_alerts_is_no_harm(logs: Logs) -> None:
    """Beside the previous model's student nine of ten alerts are missing, as they were before."""
    champion = logs[0].champion()
    assert champion is not None
    began = champion.changed_at
    logs[1].append([*hours_before(began, 0.1), *deciding(began, 0.0, 0.0, 0.1, "local")])
    assert controller(logs, Expectation(REVIEW, 0.05), teacher_margin=1e6).look().action == "none"


def test_drift_that_raises_final_alerts_and_the_previous_models_alike_is_no_harm(logs: Logs) -> None:
    champion = logs[0].champion()
    assert champion is not None
    flood = [answered(0.9, 0.9) if place % 3 == 0 else answered(0.1, 0.1) for place in range(3_000)]
    logs[1].append([*hours_before(champion.changed_at), *flood])
    assert controller(logs, Expectation(REVIEW, 0.05), teacher_margin=1e6).look().action == "none"


@pytest.mark.parametrize(("kind", "action"), [("local", "rolled_back"), ("open_inference", "alarm")])
def test_a_teacher_whose_alerts_turn_out_false_is_held_against_the_champion(
    logs: Logs, kind: str, action: str
) -> None:
    """The students differ little; what the teacher raises by itself is false, what only the other raised is not."""
    raised = [answered(0.1, 0.9, kind) for _ in range(200)]
    passed = [
        decide(0.1, 0.9).model_copy(update={"sample_share": 1.0, "bypass": raised[0].bypass}) for _ in range(200)
    ]
    logs[1].append([one for pair in zip(raised, passed, strict=True) for one in pair])
    labels = {one.tx_id: Outcome(one.action == "allow") for one in (*raised, *passed)}
    verdict = controller(logs, labels=True, missed_margin=1e6, alert_margin=1e6, teacher_margin=1e6).look(labels)
    assert verdict.reason.startswith("false_final_alerts")
    assert verdict.action == action
