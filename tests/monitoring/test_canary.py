"""The watch of a canary: harm ends it with its evidence; what hits the champion alike, and healthy ones, do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_log import EXPECTED, GOOD, NEW, Logs, controller, decide

from monitoring.canary import CanaryCase, CanaryWatch
from monitoring.evidence import Expectation, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.notices import Notices
from monitoring.rollback import RollbackController
from riskdistill.errors import BundleDamagedError, UnavailableError
from riskdistill.storage.decisions import Decision, Entry
from riskdistill.storage.releases import Release, State

CANARY = "canary00"
WHO: dict[str, Any] = {"actor": "ann", "reason": "a week of shadow"}
START = datetime(2026, 1, 1, tzinfo=UTC)


def stage(logs: Logs) -> Release:
    release = logs[0].register(f"bundles/{CANARY}", CANARY, **WHO)
    return logs[0].stage(release.release_id, State.CANARY, **WHO, evidence={}, share=0.2)


def by_canary(canary: float, champion: float | None = 0.1, **changes: Any) -> Decision:
    """A decision of the canary's beside which the champion's student scores."""
    told = decide(canary, champion, version=CANARY)
    shadow = told.shadow and told.shadow.model_copy(update={"bundle_version": NEW})
    return told.model_copy(update={"shadow": shadow} | changes)


def by_champion(score: float = 0.1, **changes: Any) -> Decision:
    return decide(score, score).model_copy(update=changes)


def sent_by(account: str, decision: Decision) -> Decision:
    transaction = decision.transaction.model_copy(update={"sender_account": account})
    return decision.model_copy(update={"transaction": transaction})


def mixed(mine: Sequence[Decision], others: Sequence[Decision]) -> list[Decision]:
    """One of each in turn."""
    return [decision for pair in zip(mine, others, strict=True) for decision in pair]


def flood(rows: int = 400) -> list[Decision]:
    """The canary alerts on a fifth of its traffic, the champion on a fiftieth."""
    kinds = np.random.default_rng(1).choice(3, rows, p=[0.18, 0.02, 0.8])
    return [by_canary(*((0.9, 0.1), (0.9, 0.9), (0.1, 0.1))[kind]) for kind in kinds]


def case_of(expected: Expectation = EXPECTED, **policy: Any) -> CanaryCase:
    """A case without logs: canary and champion since `START`, the champion promising `EXPECTED`."""
    times: dict[str, Any] = {"registered_at": START, "changed_at": START, "bundle_path": "bundles"}
    canary = Release(release_id="r3", bundle_version=CANARY, state=State.CANARY, share=0.2, **times)
    champion = Release(release_id="r2", bundle_version=NEW, state=State.CHAMPION, **times)
    return CanaryCase(canary, champion, RollbackPolicy(**policy), expected, EXPECTED, lambda: 5.0)


def counts_of(case: CanaryCase, metric: str) -> dict[str, int]:
    return next(measure.counts for measure in case.measures() if measure.metric == metric)


class Watched:
    """The controller and the watch of the canary, as `monitor watch` runs them."""

    def __init__(self, logs: Logs, labels: Mapping[str, Outcome] | None = None, **policy: Any) -> None:
        settings = RollbackPolicy(labels=labels is not None, **policy)
        self.labels = {} if labels is None else labels
        self.canary = CanaryWatch(*logs, settings, lambda _: EXPECTED, lambda: self.labels)
        self.champion = controller(logs, labels=labels is not None)

    def look(self) -> Any:
        assert self.champion.look(self.labels).action in ("none", "alarm"), "the champion is not to blame"
        return self.canary.look()


def test_a_canary_that_floods_the_team_is_ended_with_its_evidence_and_the_champion_stays(logs: Logs) -> None:
    stage(logs)
    logs[1].append(flood())
    verdict = Watched(logs).look()
    assert (verdict.action, verdict.release_id, verdict.restored) == ("rolled_back", "r3", "r2")
    assert verdict.reason.startswith("canary: more_alerts")
    assert (logs[0].get("r3").state, logs[0].get("r2").state) == (State.ROLLED_BACK, State.CHAMPION)
    entry = logs[0].history()[-1]
    assert (entry.actor, entry.release_id) == ("monitor", "r3")
    evidence = entry.evidence
    assert (evidence["metric"], evidence["champion"], evidence["share"]) == ("more_alerts", "r2", 0.2)
    assert evidence["e_value"] >= 1 / evidence["alpha"]
    assert evidence["counts"]["canary_only"] > 50
    assert (evidence["window"]["first_sequence"], evidence["window"]["last_sequence"]) == (1, 400)
    assert sum(measure["alpha"] for measure in evidence["measures"]) <= 0.01 * (1 + 1e-9)


def test_an_end_is_told_as_a_rollback_is(logs: Logs) -> None:
    stage(logs)
    logs[1].append(flood())
    notices, watched = Notices(), Watched(logs)
    assert [(notice.kind, notice.release_id) for notice in notices.of(watched.look())] == [("rolled_back", "r3")]
    verdict = watched.look()
    assert (verdict.action, verdict.release_id) == ("none", None)
    assert not notices.of(verdict)


def test_a_canary_that_falls_silent_is_ended(logs: Logs) -> None:
    stage(logs)
    logs[1].append([by_canary(0.1, 0.9 if number % 10 == 0 else 0.1) for number in range(1_000)])
    assert Watched(logs).look().reason.startswith("canary: fewer_alerts")


def test_a_canary_that_errs_or_is_slow_is_ended_and_one_that_shares_the_fault_is_not(logs: Logs) -> None:
    failed = {"route": "student_degraded", "route_reason": "teacher_failed"}
    for changes, name in ((failed, "errors"), ({"latency_ms": 90.0}, "slow")):
        logs[1].append([by_champion(latency_ms=1 + number % 20) for number in range(1_200)])
        release = stage(logs)
        answered: dict[str, Any] = {"route": "teacher", "teacher_score": 0.1} if name == "errors" else {}
        bad, good = ([answered | changes] * 60, [answered] * 60)
        logs[1].append(mixed([by_canary(0.1, **c) for c in bad], [by_champion(**c) for c in bad]))
        watched = Watched(logs, minimum=50)
        assert watched.look().action == "none", f"{name} of both"
        logs[1].append(mixed([by_canary(0.1, **c) for c in bad], [by_champion(**c) for c in good]))
        assert watched.look().reason.startswith(f"canary: {name}")
        assert logs[0].get(release.release_id).state is State.ROLLED_BACK


def test_a_canary_whose_alerts_turn_out_false_is_ended_once_labels_say_so(logs: Logs) -> None:
    stage(logs)
    rows = mixed([by_canary(0.9, 0.9) for _ in range(300)], [by_champion(0.9) for _ in range(300)])
    logs[1].append(rows)
    labels: dict[str, Outcome] = {}
    watched = Watched(logs, labels)
    assert watched.look().action == "none"
    draw = np.random.default_rng(0)
    for row in rows:
        labels[row.tx_id] = Outcome(bool(draw.random() < (0.2 if row.bundle_version == CANARY else 0.6)))
    verdict = watched.look()
    assert verdict.action == "rolled_back"
    assert verdict.reason.startswith("canary: false_alerts")


def test_a_canary_that_misses_what_the_champion_would_have_found_is_ended(logs: Logs) -> None:
    stage(logs)
    rows = [by_canary(0.1 if number % 3 == 0 else 0.9, 0.9) for number in range(600)]
    logs[1].append(rows)
    verdict = Watched(logs, {row.tx_id: Outcome(True) for row in rows}).look()
    assert verdict.reason.startswith("canary: missed")
    assert verdict.evidence["counts"] == {"champion_alone": 200, "canary_alone": 0, "by_both": 400}


def test_one_odd_account_in_the_canary_is_one_vote_a_day(logs: Logs) -> None:
    stage(logs)
    logs[1].append([sent_by("odd", by_canary(0.9, 0.1)) for _ in range(500)])
    verdict = Watched(logs).look()
    assert verdict.action == "none"
    assert verdict.measures[0].counts["canary_only"] == 1


@pytest.mark.parametrize(
    ("policy", "action"),
    [({}, "held"), ({"dry_run": True}, "would_roll_back"), ({"minimum": 401}, "waiting")],
)
def test_hold_dry_run_and_the_minimum_leave_the_canary_where_it_is(
    logs: Logs, policy: dict[str, Any], action: str
) -> None:
    stage(logs)
    logs[1].append(flood())
    if action == "held":
        logs[0].hold(**WHO)
    assert Watched(logs, **policy).look().action == action
    assert logs[0].get("r3").state is State.CANARY


def test_another_share_keeps_the_evidence_and_a_restart_sees_the_same(logs: Logs) -> None:
    stage(logs)
    rows = flood()
    logs[1].append(rows[:200])
    logs[0].hold(**WHO)
    watched = Watched(logs)
    watched.look()
    logs[0].stage("r3", State.CANARY, **WHO, evidence={}, share=0.5)
    logs[1].append(rows[200:])
    verdict = watched.look()
    assert (verdict.compared, verdict.evidence["share"]) == (400, 0.5)
    assert verdict.evidence["policy"]["error_margin"] == 1.25, "as the tests had it"
    again = Watched(logs).look()
    assert [one.model_dump(exclude={"e_value"}) for one in again.measures] == [
        one.model_dump(exclude={"e_value"}) for one in verdict.measures
    ]
    assert [one.e_value for one in again.measures] == pytest.approx([one.e_value for one in verdict.measures])
    same = ("share", "champion", "decided", "compared", "slow_ms", "window", "policy")
    assert [again.evidence[name] for name in same] == [verdict.evidence[name] for name in same]


def test_a_shadow_is_no_canary_and_decisions_of_before_it_do_not_count(logs: Logs) -> None:
    logs[1].append(flood())
    release = logs[0].register(f"bundles/{CANARY}", CANARY, **WHO, shadow=True)
    watched = Watched(logs)
    assert watched.look().release_id is None
    logs[0].stage(release.release_id, State.CANARY, **WHO, evidence={}, share=0.2)
    verdict = Watched(logs).look()
    assert (verdict.action, verdict.compared) == ("none", 0)


def test_a_canary_whose_bundle_is_damaged_is_an_alarm(logs: Logs) -> None:
    stage(logs)

    def expectation(_: Release) -> Any:
        raise BundleDamagedError("checksums differ")

    verdict = CanaryWatch(*logs, RollbackPolicy(), expectation).look()
    assert verdict is not None
    assert (verdict.action, verdict.release_id) == ("alarm", "r3")
    assert "checksums differ" in verdict.reason


@pytest.mark.parametrize("version", [CANARY, NEW])
def test_what_was_decided_while_a_bundle_could_not_be_read_counts_once_it_is_back(logs: Logs, version: str) -> None:
    stage(logs)
    logs[1].append(flood())
    unreadable = {version}
    watched = Watched(logs)
    watched.canary = CanaryWatch(*logs, RollbackPolicy(), lambda release: _promise(release, unreadable))
    assert watched.look().action == "alarm"
    unreadable.clear()
    assert (watched.look().action, logs[0].get("r3").state) == ("rolled_back", State.ROLLED_BACK)


def test_a_canary_is_watched_while_the_controller_cannot_read_the_previous_bundle(logs: Logs) -> None:
    stage(logs)
    logs[1].append(flood())
    champion = RollbackController(*logs, RollbackPolicy(), lambda release: _promise(release, {GOOD}))
    watched = Watched(logs)
    watched.champion = champion
    assert champion.look().action == "alarm"
    assert watched.look().action == "rolled_back"


def _promise(release: Release, unreadable: set[str]) -> Expectation:
    if release.bundle_version in unreadable:
        raise BundleDamagedError("checksums differ")
    return EXPECTED


def test_a_canary_that_is_staged_while_the_controller_reads_loses_no_decision(logs: Logs) -> None:
    logs[1].append([by_champion() for _ in range(3)])

    class Slow:
        def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]:
            for entry in logs[1].read(after_sequence, limit):
                if entry.sequence == 1:
                    stage(logs)
                    logs[1].append(flood())
                yield entry

    watched = Watched(logs)
    watched.champion = RollbackController(logs[0], Slow(), RollbackPolicy(), lambda _: EXPECTED)
    verdict = watched.look()
    assert (verdict.action, verdict.compared) == ("rolled_back", 400)


def test_someone_who_ends_it_meanwhile_is_an_alarm_and_a_log_that_is_away_no_look(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(logs)
    logs[1].append(flood())
    watched = Watched(logs)
    assert watched.champion.look().action == "none"
    serving = logs[0].serving()
    logs[0].withdraw("r3", **WHO, evidence={})
    monkeypatch.setattr(logs[0], "serving", lambda: serving)
    verdict = watched.canary.look()
    assert verdict is not None
    assert verdict.action == "alarm"

    def away() -> Any:
        raise UnavailableError("the database is away")

    monkeypatch.setattr(logs[0], "serving", away)
    assert watched.canary.look() is None


def healthy(draw: np.random.Generator, rows: int) -> Iterator[Entry]:
    """A day of two equal models; each account is as odd as it is for good, and a fifth of them are the canary's."""
    accounts = 150
    odd, mine = draw.beta(0.05, 1.5, accounts), draw.random(accounts) < 0.2
    late = np.sort(draw.uniform(0, 86_400, rows))
    for number, (account, second) in enumerate(zip(draw.integers(0, accounts, rows).tolist(), late, strict=True)):
        both = [0.9 if draw.random() < odd[account] else 0.1 for _ in range(2)]
        slow = draw.random() < 0.05 * (1 + (second // 3_600) % 3)  # hours differ, for both alike
        told = by_canary(*both) if mine[account] else by_champion(both[0])
        told = sent_by(str(account), told).model_copy(
            update={"decided_at": START + timedelta(seconds=second), "latency_ms": 9.0 if slow else 1.0}
        )
        yield Entry(number + 1, told)


def test_healthy_canaries_are_not_ended_over_as_many_days() -> None:
    draw, ended = np.random.default_rng(7), 0
    for _ in range(40):
        case, labels = case_of(labels=True), {}
        for entry in healthy(draw, 800):
            labels[entry.decision.tx_id] = Outcome(bool(draw.random() < 0.4), entry.decision.decided_at)
            case.add(entry, labels)
        case.weigh(labels, START + timedelta(days=1))
        assert case.decided > 50
        ended += any(measure.harm for measure in case.measures())
    assert ended == 0


BUSY = 40  # accounts
KINDS_OF_ALERT = [by_canary(0.9, 0.1), by_canary(0.1, 0.9), by_canary(0.9, 0.9)]


def test_busy_accounts_do_not_end_a_canary_that_alerts_a_little_more() -> None:
    draw, case = np.random.default_rng(0), case_of()
    for day in range(10):
        quiet = 0
        for account in range(BUSY):
            kinds = draw.choice(4, 100, p=[0.012, 0.0, 0.04, 0.948])  # 5.2 % of payments, beside 4.0 %
            quiet += int((kinds == 3).sum())
            for kind in kinds[kinds < 3].tolist():
                told = sent_by(str(account), KINDS_OF_ALERT[kind])
                case.add(Entry(1, told.model_copy(update={"decided_at": START + timedelta(days=day)})), {})
        rest = by_canary(0.1).model_copy(update={"decided_at": START + timedelta(days=day)})
        for _ in range(quiet // 10):  # a tenth is enough: the more alerts then, the worse for the canary
            case.add(Entry(1, rest), {})
    case.weigh({}, START + timedelta(days=10))
    counts = counts_of(case, "more_alerts")
    assert counts["canary_only"] + counts["both"] <= 10 * BUSY
    assert not [measure.metric for measure in case.measures() if measure.harm]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-90, 90)), min_size=1, max_size=40))
def test_an_account_votes_once_a_day_however_its_decisions_are_ordered_around_midnight(
    alerts: list[tuple[int, int]],
) -> None:
    case, midnight = case_of(), START + timedelta(days=3)
    for kind, minutes in alerts:
        told = sent_by("odd", KINDS_OF_ALERT[kind])
        case.add(Entry(1, told.model_copy(update={"decided_at": midnight + timedelta(minutes=minutes)})), {})
    case.weigh({}, midnight + timedelta(days=1))
    votes = {kind: counts_of(case, "more_alerts")[kind] for kind in ("canary_only", "champion_only", "both")}
    assert sum(votes.values()) == len({minutes >= 0 for _, minutes in alerts})


@pytest.mark.parametrize("late", [False, True])
def test_alerts_that_wait_for_their_reasons_are_compared_in_time_with_alerts(late: bool) -> None:
    case = case_of(expected=Expectation(EXPECTED.review, 2 * EXPECTED.alert_rate))
    for number in range(400):
        decisions = [
            by_canary(0.9, latency_ms=9.0) if number % 10 == 0 else by_canary(0.1),
            by_champion(0.9, latency_ms=1.0 if late else 9.0) if number % 20 == 0 else by_champion(),
        ]
        for decision in decisions:
            case.add(Entry(number + 1, decision), {})
    case.weigh({}, datetime.now(UTC))
    counts = counts_of(case, "slow")
    assert counts["champion_slow"] == 0
    assert (counts["canary_slow"] > 0) == late, "twice as many alerts are not slower ones"


@pytest.mark.parametrize(("days", "counted"), [(89, 1), (91, 0)])
def test_a_verdict_is_awaited_for_ninety_days(days: int, counted: int) -> None:
    case, told = case_of(labels=True), by_canary(0.9, 0.9, decided_at=START)
    case.add(Entry(1, told), {})
    now = START + timedelta(days=days)
    case.weigh({}, now)
    case.weigh({told.tx_id: Outcome(True, now)}, now)
    assert counts_of(case, "missed")["by_both"] == counted


def test_laundering_is_found_beside_the_champion_of_now_only() -> None:
    case, told = case_of(labels=True), by_canary(0.9, 0.1, decided_at=START)
    shadow = told.shadow and told.shadow.model_copy(update={"bundle_version": GOOD})
    case.add(Entry(1, told.model_copy(update={"shadow": shadow})), {})
    case.weigh({told.tx_id: Outcome(True, START)}, START + timedelta(days=1))
    assert not any(counts_of(case, "missed").values())
