"""The evidence against a champion: one budget, segments within it, and what belongs together counts once."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_log import NEW, REVIEW, decide

from monitoring.case import Case
from monitoring.evidence import ALERTS, BY_SEGMENT, OWN, Evidence, Expectation, RollbackPolicy, ServiceLimits
from monitoring.labels import Outcome
from monitoring.sequential import RateTest
from monitoring.service_level import LEAST, ServiceHours, upper_rate
from riskdistill.storage.decisions import Decision, Entry
from riskdistill.storage.releases import Release, State

EXPECTED = Expectation(REVIEW, 0.02, {"channel=wire": 0.02, "channel=card": 0.02})
LABELLED = RollbackPolicy(labels=True)


def release(version: str, state: State) -> Release:
    early = decide(0.1).decided_at.replace(year=2020)
    return Release(
        release_id=version,
        bundle_path=version,
        bundle_version=version,
        state=state,
        registered_at=early,
        changed_at=early,
    )


CHAMPION, PREVIOUS = release(NEW, State.CHAMPION), release("good0000", State.PREVIOUS)


def case(
    decisions: list[Decision], labels: dict[str, bool] | None = None, limits: ServiceLimits | None = None
) -> Case:
    """The case after one look at these decisions."""
    found = Case(CHAMPION, LABELLED, EXPECTED, lambda: limits or ServiceLimits())
    for place, decision in enumerate(decisions, start=1):
        found.add(Entry(place, decision), PREVIOUS, {})
    told = {tx_id: Outcome(laundering) for tx_id, laundering in (labels or {}).items()}
    found.weigh(told, datetime.now(UTC))
    return found


def counts(found: Case, metric: str) -> dict[str, int]:
    return next(measure.counts for measure in found.measures() if measure.metric == metric)


def test_the_shares_of_the_budget_add_up_to_it() -> None:
    evidence = Evidence(LABELLED, EXPECTED, ServiceLimits(0.02, 0.05, 10.0))
    shares = [evidence.alpha(metric).sum() for metric in LABELLED.acting]
    assert sum(shares) == pytest.approx(LABELLED.alpha)
    assert len(evidence.alpha("missed")) == 3, "the whole and two segments"
    assert len(evidence.alpha("errors")) == 1, "errors do not come by segment"


def test_harm_in_one_segment_alone_is_found_there() -> None:
    evidence = Evidence(LABELLED, EXPECTED, ServiceLimits())
    for _ in range(20):
        evidence.look(
            {
                "champion_only": [25, 0, 25],
                "previous_only": [25, 25, 0],
                "both": [10, 10, 0],
                "alerted": [35, 10, 25],
                "quiet": [965, 490, 475],
            }
        )
    assert not evidence.harm("more_alerts")[0]
    assert evidence.harm("more_alerts").tolist() == [False, False, True]


def test_missed_laundering_and_matched_false_alerts_are_found_from_labels() -> None:
    decisions = [decide(*scores) for _ in range(60) for scores in ((0.9, 0.1), (0.1, 0.9))]
    labels = {one.tx_id: one.student_score < REVIEW for one in decisions}
    found = case(decisions, labels)
    harmed = {measure.metric for measure in found.measures() if measure.harm and measure.acts}
    assert {"false_alerts", "missed"} <= harmed
    assert counts(found, "missed")["previous_alone"] == 60
    assert counts(found, "false_alerts") == {"champion_false": 60, "previous_false": 0}


def test_a_scheme_that_is_missed_counts_once_however_many_payments_it_has() -> None:
    chain = [decide(0.1, 0.9, sender_account=f"s{n}", receiver_account=f"s{n + 1}") for n in range(40)]
    found = case(chain, {one.tx_id: True for one in chain})
    assert counts(found, "missed")["previous_alone"] == 1
    assert not any(measure.harm for measure in found.measures())


def test_an_odd_account_has_one_vote_a_day_on_alerts() -> None:
    found = case([decide(0.9, 0.1, sender_account="odd") for _ in range(200)])
    told = counts(found, "more_alerts")
    assert (told["champion_only"], told["alerted"]) == (1, 200)
    assert not any(measure.harm for measure in found.measures())


def test_labels_of_both_models_alike_are_no_harm() -> None:
    decisions = [decide(*scores) for _ in range(100) for scores in ((0.9, 0.1), (0.1, 0.9), (0.9, 0.9))]
    draw = np.random.default_rng(0)
    found = case(decisions, {one.tx_id: bool(draw.random() < 0.3) for one in decisions})
    assert not any(measure.harm for measure in found.measures() if measure.metric in ("false_alerts", "missed"))


@pytest.mark.parametrize(
    ("metric", "changes"),
    [("errors", {"route": "student_degraded", "route_reason": "teacher_late"}), ("slow", {"latency_ms": 50.0})],
)
def test_errors_and_slow_decisions_beyond_the_previous_models_hours_are_harm(
    metric: str, changes: dict[str, object]
) -> None:
    decisions = [
        decide(0.1, teacher=0.1).model_copy(update=changes if place % 5 == 0 else {}) for place in range(300)
    ]
    limits = ServiceLimits(errors=0.02, slow=0.05, slow_ms=10.0)
    harmed = {measure.metric for measure in case(decisions, limits=limits).measures() if measure.harm}
    assert harmed == {metric}
    assert not any(measure.harm for measure in case(decisions).measures()), (
        "without hours of before, nothing is told"
    )


def test_the_hours_of_the_previous_model_set_the_limits() -> None:
    hours = ServiceHours()
    for place in range(LEAST):
        hours.add(decide(0.1, teacher=0.1).model_copy(update={"latency_ms": 1.0 + place % 20}))
    limits = hours.limits()
    assert limits.errors is not None
    assert limits.slow is not None
    assert 0 < limits.errors < 0.01
    assert 18 < limits.slow_ms < 22
    assert limits.slow < 0.1
    assert ServiceHours().limits() == ServiceLimits()


def test_too_few_trials_give_no_limit() -> None:
    assert upper_rate(np.array([1]), np.array([LEAST - 1])) is None


def test_champions_side_by_side_are_judged_as_each_alone() -> None:
    draw = np.random.default_rng(1)
    together, alone = Evidence(LABELLED, EXPECTED, ServiceLimits()), Evidence(LABELLED, EXPECTED, ServiceLimits())
    for _ in range(10):
        news = {kind: draw.poisson(20, (4, 3)) for kind in BY_SEGMENT}
        together.look(news)
        alone.look({kind: count[2] for kind, count in news.items()})
    for metric in LABELLED.acting:
        together_peak = np.broadcast_to(together.peak(metric), (4, 3))[2]
        assert together_peak == pytest.approx(np.broadcast_to(alone.peak(metric), (3,)))


def alerts(champion_only: int, previous_only: int, both: int, rows: int = 10_000) -> dict[str, list[int]]:
    """News of the whole alone."""
    alerted = champion_only + both
    counts = (champion_only, previous_only, both, alerted, rows - alerted)
    return {kind: [count] for kind, count in zip((*ALERTS, *OWN), counts, strict=True)}


def test_drift_that_hits_two_unequal_models_alike_is_no_harm() -> None:
    """The champion promises 0.5 % and the previous model 0.3 %; then both alert 1.8 times as often."""
    promised = Expectation(REVIEW, 0.005), Expectation(REVIEW, 0.003)
    evidence = Evidence(RollbackPolicy(), promised[0], ServiceLimits(), promised[1])
    for step in range(100):
        evidence.look(alerts(40, 4, 50), step)
        assert not evidence.harm("more_alerts").any()
    for step in range(100, 130):
        evidence.look(alerts(150, 4, 50), step)
    assert evidence.harm("more_alerts").all(), "above what was promised, and above the ratio that was"


def test_what_spoke_against_a_champion_once_is_not_joined_with_what_speaks_later() -> None:
    """First the previous model falls silent, then both drift: at no time is the champion to blame."""
    evidence = Evidence(RollbackPolicy(), Expectation(REVIEW, 0.005), ServiceLimits())
    for step in range(100):
        evidence.look(alerts(50, 0, 2) if step < 50 else alerts(2, 2, 120), step)
        assert not evidence.harm("more_alerts").any()


def test_a_previous_model_that_alerts_as_much_is_not_returned_to() -> None:
    """The champion promised half as many alerts as the previous model, and both drift to the same rate."""
    promised = Expectation(REVIEW, 0.0025), Expectation(REVIEW, 0.005)
    evidence = Evidence(RollbackPolicy(), promised[0], ServiceLimits(), promised[1])
    for step in range(50):
        evidence.look(alerts(10, 10, 40), step)
    assert not evidence.harm("more_alerts").any()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60))
def test_harm_begins_at_its_level_and_ends_where_it_began_and_not_between(failures: list[int]) -> None:
    """Of 1,000 decisions a look, 2 % may fail: whatever comes, evidence about the level does not flap."""
    evidence, alone = Evidence(LABELLED, EXPECTED, ServiceLimits(errors=0.02)), RateTest(0.02)
    (alpha,), stood = evidence.alpha("errors"), False
    for failed in failures:
        evidence.look({"failed": [failed], "answered": [1_000 - failed]})
        e_value = float(alone.update(failed, 1_000))
        expected = True if e_value * alpha >= 1 else False if e_value <= 1 else stood
        stood = bool(evidence.stands("errors")[0])
        assert stood is expected
        assert evidence.harm("errors")[0] or not stood


def test_harm_that_is_over_was_still_shown() -> None:
    evidence = Evidence(LABELLED, EXPECTED, ServiceLimits(errors=0.02))
    for failed in [60] * 3 + [0] * 40:
        evidence.look({"failed": [failed], "answered": [1_000 - failed]})
    assert evidence.harm("errors").tolist() == [True]
    assert evidence.stands("errors").tolist() == [False]
