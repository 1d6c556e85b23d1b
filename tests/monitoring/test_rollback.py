"""The rollback controller: harm is rolled back with its evidence; noise, drift and silence are not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traffic_log import EXPECTED, GOOD, NEW, REVIEW, Logs, controller, decide, traffic

from monitoring.drift import DriftReport, LoggedWindow, measure_drift
from monitoring.evidence import STEP, Expectation, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.notices import Notices
from monitoring.profile import build_profile
from monitoring.rollback import RollbackController, Verdict, watch
from riskdistill.errors import BundleDamagedError, ConfigError, UnavailableError
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.releases import Release, ReleaseLog, State


def flood(logs: Logs, rows: int = 400) -> None:
    """The champion alerts on a fifth of the traffic, the previous model on a fiftieth."""
    logs[1].append(traffic(rows, 0.18, 0.0, 0.02, seed=1))


def test_a_champion_that_floods_the_team_is_rolled_back_with_its_evidence(logs: Logs) -> None:
    flood(logs)
    verdict = controller(logs).look()
    assert (verdict.action, verdict.release_id, verdict.restored) == ("rolled_back", "r2", "r1")
    champion = logs[0].champion()
    assert champion is not None
    assert champion.bundle_version == GOOD
    entry = logs[0].history()[-1]
    assert entry.actor == "monitor"
    evidence = entry.evidence
    assert (evidence["metric"], evidence["compared"], evidence["looks"]) == ("more_alerts", 400, 1)
    assert evidence["e_value"] >= 1 / evidence["alpha"]
    assert evidence["counts"]["champion_only"] > 50
    assert (evidence["window"]["first_sequence"], evidence["window"]["last_sequence"]) == (1, 400)
    assert [measure["metric"] for measure in evidence["measures"]] == [
        "more_alerts",
        "fewer_alerts",
        "more_final_alerts",
        "fewer_final_alerts",
        "errors",
        "slow",
        "teacher_disagreement",
    ]
    assert evidence["policy"]["alpha"] == 0.01


def test_a_champion_that_falls_silent_is_rolled_back(logs: Logs) -> None:
    logs[1].append(traffic(1_000, 0.0, 0.1, 0.0, seed=2))
    verdict = controller(logs).look()
    assert verdict.action == "rolled_back"
    assert verdict.reason.startswith("fewer_alerts")


def test_a_champion_at_its_own_budget_is_not_rolled_back_to_one_that_drifted(logs: Logs) -> None:
    """The previous model floods after a drift, the retrained one keeps its half percent: it is the mend."""
    watcher = controller(logs, Expectation(REVIEW, alert_rate=0.005))
    for seed in range(10):
        logs[1].append(traffic(1_000, 0.001, 0.011, 0.004, seed))
        assert watcher.look().action == "none"


def test_a_champion_that_mends_a_previous_model_gone_silent_is_left_alone(logs: Logs) -> None:
    watcher = controller(logs, EXPECTED)
    for seed in range(5):
        logs[1].append(traffic(1_000, 0.02, 0.0, 0.001, seed))
        assert watcher.look().action == "none"


@pytest.mark.parametrize("seed", range(5))
def test_a_flood_far_above_a_small_budget_is_found_within_a_thousand_transactions(logs: Logs, seed: int) -> None:
    watcher = controller(logs, Expectation(REVIEW, alert_rate=0.005))
    for part in range(20):
        logs[1].append(traffic(50, 0.096, 0.001, 0.004, 100 * seed + part))
        verdict = watcher.look()
        if verdict.action == "rolled_back":
            break
    assert verdict.reason.startswith("more_alerts")
    assert verdict.compared <= 1_000


def test_a_champion_that_is_farther_from_the_teacher_is_an_alarm_and_no_rollback(logs: Logs) -> None:
    logs[1].append([decide(0.9, 0.8, teacher=0.7) for _ in range(200)])
    verdict = controller(logs).look()
    assert verdict.action == "alarm"
    assert verdict.reason.startswith("teacher_disagreement")
    assert [measure.acts for measure in verdict.measures] == [True] * 6 + [False]
    assert logs[0].get("r2").state is State.CHAMPION


def test_an_equal_champion_is_not_rolled_back_for_the_errors_by_which_it_called_the_teacher(logs: Logs) -> None:
    """Two equally noisy students; the teacher, always right, is asked where the champion scores high."""
    draw = np.random.default_rng(0)
    truth = draw.normal(-1.5, 1.0, 6_000)
    champion, previous, teacher = (
        1 / (1 + np.exp(-(truth + noise * draw.normal(size=len(truth))))) for noise in (1.0, 1.0, 0.0)
    )
    asked = champion >= REVIEW
    logs[1].append(
        [
            decide(a, b, teacher=t if called else None)
            for a, b, t, called in zip(champion, previous, teacher, asked, strict=True)
        ]
    )
    verdict = controller(logs).look()
    assert verdict.measures[-1].harm, "the bias is real"
    assert verdict.action == "alarm"
    assert logs[0].get("r2").state is State.CHAMPION


def test_harm_that_acts_goes_before_harm_that_only_alarms(logs: Logs) -> None:
    logs[1].append([decide(0.9, 0.8, teacher=0.7) for _ in range(200)])
    flood(logs, 1_500)
    assert controller(logs).look().reason.startswith("more_alerts")


def test_the_same_distance_from_the_teacher_is_no_harm(logs: Logs) -> None:
    logs[1].append([decide(0.9, 0.89, teacher=0.7) for _ in range(300)])
    assert controller(logs).look().action == "none"


def test_false_alerts_have_a_share_of_the_budget_only_where_labels_come(logs: Logs) -> None:
    def shares(verdict: Verdict) -> dict[str, float]:
        return {measure.metric: measure.alpha for measure in verdict.measures if measure.acts}

    always, final = ("more_alerts", "fewer_alerts", "errors", "slow"), ("more_final_alerts", "fewer_final_alerts")
    assert shares(controller(logs).look()) == pytest.approx(
        dict.fromkeys(always, 0.01 / 5) | dict.fromkeys(final, 0.01 / 5 / 2)
    )
    assert shares(controller(logs, labels=True).look()) == pytest.approx(
        dict.fromkeys((*always, "false_alerts", "missed"), 0.01 / 7)
        | dict.fromkeys((*final, "false_final_alerts"), 0.01 / 7 / 3)
    )
    with pytest.raises(ConfigError, match="labels came"):
        controller(logs).look({"d1": Outcome(True)})


def test_equal_models_are_left_alone_over_many_looks(logs: Logs) -> None:
    watcher = controller(logs)
    for seed in range(40):
        logs[1].append(traffic(100, 0.01, 0.01, 0.02, seed))
        verdict = watcher.look()
        assert verdict.action == "none"
    assert (verdict.compared, verdict.looks) == (4_000, 40)


def test_drift_that_hits_both_models_is_no_reason(logs: Logs) -> None:
    logs[1].append(traffic(1_000, 0.01, 0.01, 0.5, seed=4))
    assert controller(logs).look().action == "none"


def test_looks_without_traffic_are_no_evidence(logs: Logs) -> None:
    watcher = controller(logs)
    before = [watcher.look().measures for _ in range(50)][-1]
    assert all(measure.e_value == 1 for measure in before)
    flood(logs)
    assert watcher.look().action == "rolled_back"


def test_decisions_of_other_bundles_without_shadow_or_from_before_are_not_compared(logs: Logs) -> None:
    early = [d.model_copy(update={"decided_at": datetime(2026, 1, 1, tzinfo=UTC)}) for d in traffic(9, 1, 0, 0, 5)]
    logs[1].append([*early, decide(0.9), decide(0.9, 0.1, version=GOOD), decide(0.9, 0.1)])
    assert controller(logs).look().compared == 1


def test_too_few_transactions_wait_and_then_count(logs: Logs) -> None:
    watcher = controller(logs, minimum=400)
    flood(logs, 300)
    assert watcher.look().action == "waiting"
    flood(logs, 100)
    assert watcher.look().action == "rolled_back"


def test_without_a_previous_release_harm_is_an_alarm(logs: Logs) -> None:
    watcher = controller(logs, minimum=400)
    flood(logs, 400)
    releases = logs[0]
    releases.hold(actor="ann", reason="a migration")
    held = controller(logs)
    assert held.look().action == "held"
    releases.retire("r1", actor="ann", reason="disk full", evidence={})
    verdict = held.look()
    assert (verdict.action, verdict.restored) == ("alarm", None)
    assert watcher.look().action == "none", "nothing is comparable once the previous release is gone"
    assert releases.get("r2").state is State.CHAMPION


def test_a_dry_run_changes_nothing(logs: Logs) -> None:
    flood(logs)
    assert controller(logs, dry_run=True).look().action == "would_roll_back"
    assert logs[0].get("r2").state is State.CHAMPION


def test_a_hold_is_heeded_by_every_watch_until_somebody_resumes(logs: Logs) -> None:
    watcher = controller(logs)
    logs[0].hold(actor="ann", reason="a migration")
    flood(logs)
    verdict = watcher.look()
    assert verdict.action == controller(logs).look().action == "held"
    assert re.search(r"; ann holds all action since \d{4}-\d\d-\d\d \d\d:\d\d UTC: a migration$", verdict.reason)
    assert logs[0].get("r2").state is State.CHAMPION
    logs[0].resume(actor="bob", reason="migrated")
    assert watcher.look().action == "rolled_back"


def test_the_controller_acts_on_a_new_champion_at_once_and_rests_after_a_rollback(logs: Logs) -> None:
    now = [datetime.now(UTC)]
    watcher = RollbackController(
        *logs, RollbackPolicy(cool_down=timedelta(hours=1)), lambda _: EXPECTED, lambda: now[0]
    )
    flood(logs)
    assert watcher.look().action == "rolled_back"
    again = logs[0].register("bundles/other", "other", actor="ann", reason="second try")
    logs[0].promote(again.release_id, actor="ann", reason="second try", evidence={})
    logs[1].append([d.model_copy(update={"bundle_version": "other"}) for d in traffic(400, 0.2, 0, 0.02, 6)])
    now[0] = datetime.now(UTC) + timedelta(minutes=59)
    verdict = watcher.look()
    assert verdict.action == "held"
    assert re.search(r"more_alerts: .*; resting until \d\d:\d\d:\d\d UTC", verdict.reason)
    now[0] += timedelta(minutes=2)
    assert watcher.look().action == "rolled_back"


def test_a_model_that_was_rolled_back_is_not_returned_to(logs: Logs) -> None:
    """r2 floods and is withdrawn; its bundle is tried again as r3, and r4 follows. What served before r4 is r3."""
    releases, decisions = logs
    flood(logs)
    assert controller(logs).look().action == "rolled_back"
    for version in (NEW, "other"):
        tried = releases.register(f"bundles/{version}", version, actor="ann", reason="again")
        releases.promote(tried.release_id, actor="ann", reason="again", evidence={})
    flooded = traffic(400, 0.2, 0, 0.02, 6)
    decisions.append([_decided_by("other", NEW, one) for one in flooded])
    verdict = controller(logs).look()
    assert (verdict.action, verdict.release_id) == ("alarm", "r4")
    assert verdict.reason.endswith("the previous bundle was rolled back itself, as r2")
    assert releases.get("r4").state is State.CHAMPION


def _decided_by(champion: str, previous: str, decision: Decision) -> Decision:
    assert decision.shadow is not None
    shadow = decision.shadow.model_copy(update={"bundle_version": previous})
    return decision.model_copy(update={"bundle_version": champion, "shadow": shadow})


def test_an_approval_of_the_champion_leaves_its_evidence_as_it_is(logs: Logs) -> None:
    watcher = controller(logs, minimum=400)
    flood(logs, 300)
    assert watcher.look().action == "waiting"
    logs[0].approve("r2", actor="bob", reason="seen", evidence={})
    flood(logs, 100)
    assert watcher.look().action == "rolled_back"


def test_an_alarm_that_nothing_speaks_for_any_more_ends_and_does_not_flap(logs: Logs) -> None:
    """The champion is farther from the teacher for a while, and then the previous model is."""
    watcher, notices = controller(logs), Notices()
    told, actions = [], []
    for champion, previous, looks in ((0.9, 0.8, 4), (0.8, 0.9, 12), (0.9, 0.8, 16)):
        for _ in range(looks):
            later = {"decided_at": datetime.now(UTC) + len(actions) * STEP}
            alike = (decide(champion, previous, teacher=0.7) for _ in range(50))
            logs[1].append([one.model_copy(update=later) for one in alike])
            verdict = watcher.look()
            actions.append(verdict.action)
            told += [notice.kind for notice in notices.of(verdict)]
    assert told == ["alarm_began", "alarm_ended", "alarm_began"]
    assert actions[-1] == "alarm"


def test_a_new_champion_starts_with_a_clean_slate(logs: Logs) -> None:
    watcher = controller(logs)
    flood(logs)
    assert watcher.look().action == "rolled_back"
    verdict = watcher.look()
    assert (verdict.action, verdict.release_id, verdict.compared) == ("none", "r1", 0)


def test_an_empty_release_log_gives_nothing_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    assert controller((ReleaseLog(url), DecisionLog(url))).look().action == "none"


def test_a_champion_whose_bundle_is_damaged_is_an_alarm_until_the_bundle_is_back(logs: Logs) -> None:
    damaged = [True]

    def expectation(release: Release) -> Expectation:
        if damaged[0]:
            raise BundleDamagedError("student.onnx is missing", where=release.bundle_path)
        return EXPECTED

    watcher = RollbackController(*logs, RollbackPolicy(cool_down=timedelta(0)), expectation)
    flood(logs)
    verdict = watcher.look()
    assert (verdict.action, verdict.release_id) == ("alarm", "r2")
    assert "student.onnx is missing" in verdict.reason
    damaged[0] = False
    assert watcher.look().action == "rolled_back", "what was decided meanwhile counts"


def drift(champion: Release, **changes: Any) -> DriftReport:
    """A report that the score of what a champion decided since its promotion has moved."""
    context = np.arange(600, dtype=np.float32)[:, None]
    profile = build_profile(context, ["a"], np.linspace(0, 0.1, 600), alert_rate=0.02, bypass_rate=0.0)
    found = measure_drift(profile, context, ["a"], np.linspace(0.5, 0.6, 600))
    window = {
        "start": champion.changed_at,
        "end": None,
        "first_sequence": 1,
        "last_sequence": 600,
        "hash": "0" * 64,
    }
    told = {"bundle": champion.bundle_version, "logged": LoggedWindow.model_validate(window)}
    return found.model_copy(update=told | changes)


def drifting(logs: Logs, report: DriftReport | None, **policy: Any) -> RollbackController:
    settings = RollbackPolicy(**({"cool_down": timedelta(0), "drift_acts": True} | policy))
    return RollbackController(*logs, settings, lambda _: EXPECTED, drift=lambda: report)


def test_drift_rolls_back_only_where_policy_says_so(logs: Logs) -> None:
    champion = logs[0].get("r2")
    assert drifting(logs, drift(champion), drift_acts=False).look().action == "none"
    verdict = drifting(logs, drift(champion)).look()
    assert (verdict.action, verdict.restored, verdict.reason) == ("rolled_back", "r1", "drift: score")
    evidence = logs[0].history()[-1].evidence
    assert (evidence["metric"], evidence["drifting"], evidence["rows"]) == ("drift", ["score"], 600)
    assert evidence["window"]["last_sequence"] == 600
    assert drifting(logs, drift(champion)).look().action == "none", "the report is not of who serves now"


@pytest.mark.parametrize(
    ("policy", "action"), [({"minimum": 601}, "waiting"), ({"dry_run": True}, "would_roll_back"), ({}, "held")]
)
def test_what_keeps_other_harm_from_being_acted_on_keeps_drift_too(
    logs: Logs, policy: dict[str, Any], action: str
) -> None:
    if not policy:
        logs[0].hold(actor="ann", reason="a migration")
    assert drifting(logs, drift(logs[0].get("r2")), **policy).look().action == action
    assert logs[0].get("r2").state is State.CHAMPION


@pytest.mark.parametrize(
    "changes",
    [{"verdict": "stable"}, {"bundle": GOOD}, {"bundle": None}, {"logged": None}],
    ids=["stable", "of another bundle", "of nobody knows which", "of a file"],
)
def test_a_report_that_does_not_speak_of_the_champion_is_no_harm(logs: Logs, changes: dict[str, Any]) -> None:
    assert drifting(logs, drift(logs[0].get("r2"), **changes)).look().action == "none"


def test_drift_of_a_window_from_before_the_promotion_is_no_harm(logs: Logs) -> None:
    champion = logs[0].get("r2")
    early = champion.model_copy(update={"changed_at": champion.changed_at - timedelta(seconds=1)})
    assert drifting(logs, drift(early)).look().action == "none"


class Countdown:
    """A stop that is set after so many waits; it never sleeps."""

    def __init__(self, waits: int) -> None:
        self.waits, self.slept = waits, 0.0

    def is_set(self) -> bool:
        return self.waits <= 0

    def wait(self, timeout: float) -> bool:
        self.waits -= 1
        self.slept += timeout
        return self.is_set()


def test_a_watch_looks_until_stopped_and_outlasts_a_log_that_is_away(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, stop = controller(logs), Countdown(3)
    look, calls = watcher.look, [0]

    def sometimes(labels: Any = None) -> Verdict:
        calls[0] += 1
        if calls[0] == 2:
            raise UnavailableError("database is away")
        return look(labels)

    monkeypatch.setattr(watcher, "look", sometimes)
    assert [verdict.action for verdict in watch(watcher, 5.0, stop)] == ["none", "none"]
    assert stop.slept == 15.0
