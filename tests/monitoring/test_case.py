"""What a case makes of decisions and labels as they come: many of an account, late ones, and traffic that moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from traffic_log import EXPECTED, GOOD, NEW, decide

from monitoring.case import AWAITED, Case
from monitoring.evidence import RollbackPolicy, ServiceLimits
from monitoring.labels import Outcome
from monitoring.service_level import ServiceHours
from riskdistill.storage.decisions import Bypass, Decision, Entry
from riskdistill.storage.releases import Release, State

START = datetime(2026, 1, 1, tzinfo=UTC)
SHARE = 0.1  # of the previous model's alerts, drawn for review
SCORES = {"champion": (0.9, 0.1), "previous": (0.1, 0.9), "both": (0.9, 0.9), "none": (0.1, 0.1)}
CHAMPION = Release(
    release_id="r2",
    bundle_version=NEW,
    bundle_path="new",
    state=State.CHAMPION,
    registered_at=START,
    changed_at=START,
)
PREVIOUS = CHAMPION.model_copy(update={"release_id": "r1", "bundle_version": GOOD, "state": State.PREVIOUS})
Told = tuple[Decision, Outcome | None]


def begun(limits: ServiceLimits | None = None) -> Case:
    return Case(CHAMPION, RollbackPolicy(labels=True), EXPECTED, lambda: limits or ServiceLimits(), EXPECTED)


def seen(who: str, days: float, sender: str | None = None, **changes: Any) -> Decision:
    """A decision so many days after the promotion, with the alert of `who`."""
    accounts: dict[str, Any] = {} if sender is None else {"sender_account": sender}
    decision = decide(*SCORES[who], **accounts)
    return decision.model_copy(update={"decided_at": START + timedelta(days=days)} | changes)


def drawn(draw: np.random.Generator, who: str, days: float, sender: str | None = None) -> Decision:
    """As `seen`, and of what the previous model alone alerts on, a share is drawn for review."""
    share = SHARE if who == "previous" and draw.random() < SHARE else None
    return seen(who, days, sender, sample_share=share)


def told(draw: np.random.Generator, one: Decision, laundering: bool, days: tuple[float, float]) -> Told:
    """With the verdict, after so many days on average for a false alert and for laundering, if somebody looks."""
    looked_at = one.action != "allow" or one.sample_share is not None
    delay = timedelta(days=float(draw.exponential(days[laundering])))
    return one, Outcome(laundering, one.decided_at + delay) if looked_at else None


def harms(rows: Iterable[Told]) -> set[str]:
    """What a champion is accused of at any time of a life."""
    case, labels, found, last = begun(), dict[str, Outcome](), set[str](), START
    for place, (decision, outcome) in enumerate(rows, start=1):
        if outcome is not None:
            labels[decision.tx_id] = outcome
        case.add(Entry(place, decision), PREVIOUS, labels)
        last = decision.decided_at
        if place % 100 == 0:
            found |= {measure.metric for measure in case.measures() if measure.harm}
    case.weigh(labels, last)
    return found | {measure.metric for measure in case.measures() if measure.harm}


def counts(case: Case, metric: str) -> dict[str, int]:
    return next(measure.counts for measure in case.measures() if measure.metric == metric)


def looked(decisions: list[Decision], labels: dict[str, Outcome] | None = None, case: Case | None = None) -> Case:
    """The case after one look at these decisions, a year later."""
    case = case or begun()
    for place, decision in enumerate(decisions, start=1):
        case.add(Entry(place, decision), PREVIOUS, {})
    case.weigh(labels or {}, START + timedelta(days=30))
    return case


def moving(draw: np.random.Generator) -> Iterator[Told]:
    """Each model alone raises fifty alerts a day; of both one's, more are laundering from the twentieth day on."""
    for days in np.sort(draw.uniform(0, 40, 4_000)):
        decision = drawn(draw, str(draw.choice(["champion", "previous"])), float(days))
        yield told(draw, decision, bool(draw.random() < (0.2 if days < 20 else 0.6)), (3.0, 3.0))


def late(draw: np.random.Generator) -> Iterator[Told]:
    """As `moving`, with nothing that moves: laundering is told after ten days, a false alert after one."""
    for days in np.sort(draw.uniform(0, 40, 4_000)):
        decision = drawn(draw, str(draw.choice(["champion", "previous"])), float(days))
        yield told(draw, decision, bool(draw.random() < 0.3), (1.0, 10.0))


def schemes(draw: np.random.Generator) -> Iterator[Told]:
    """Schemes of ten payments that are found or missed together, and odd accounts with an alert or two.

    Laundering rises and is told late; there is no traffic beside.
    """
    rows = list[Told]()
    for event, days in enumerate(np.sort(draw.uniform(0, 40, 900))):
        who = str(draw.choice(["champion", "previous", "both"]))
        laundering = bool(draw.random() < 0.2 + 0.4 * days / 40)
        size = 10 if laundering else int(draw.integers(1, 3))
        for hop, hours in enumerate(np.sort(draw.uniform(0, 2 if laundering else 24, size))):
            sender = f"s{event}-{hop}" if laundering else f"s{draw.integers(300)}"
            decision = drawn(draw, who, days + hours / 24, sender)
            if laundering:
                paid = decision.transaction.model_copy(update={"receiver_account": f"s{event}-{hop + 1}"})
                decision = decision.model_copy(update={"transaction": paid})
            rows.append(told(draw, decision, laundering, (1.0, 10.0)))
    return iter(sorted(rows, key=lambda row: row[0].decided_at))


@pytest.mark.parametrize("life", [moving, late])
def test_a_champion_as_good_as_the_previous_model_is_accused_of_nothing(
    life: Callable[[np.random.Generator], Iterator[Told]],
) -> None:
    assert harms(life(np.random.default_rng(0))) == set()


def test_labels_of_schemes_and_odd_accounts_accuse_no_champion_as_good_as_the_previous_model() -> None:
    """Only what labels show: on who alerts, a scheme of ten senders has ten votes."""
    assert harms(schemes(np.random.default_rng(0))).isdisjoint({"false_alerts", "false_final_alerts", "missed"})


def test_a_champion_whose_alerts_are_false_more_often_is_accused_from_a_sample_and_late_labels() -> None:
    draw, rows = np.random.default_rng(0), list[Told]()
    for days in np.sort(draw.uniform(0, 40, 4_000)):
        who = str(draw.choice(["champion", "previous"]))
        laundering = bool(draw.random() < (0.1 if who == "champion" else 0.5))
        rows.append(told(draw, drawn(draw, who, float(days)), laundering, (1.0, 10.0)))
    assert {"false_alerts", "false_final_alerts"} <= harms(rows)


def test_an_account_votes_for_the_first_alert_of_its_day() -> None:
    """Of forty payments some would be anything; three votes would make two unequal models look more unequal."""
    case = looked([seen(who, 0.01 * place, "odd") for place, who in enumerate(("both", "champion", "previous"))])
    assert counts(case, "more_alerts") == {
        "champion_only": 0,
        "previous_only": 0,
        "both": 1,
        "alerted": 2,
        "quiet": 1,
    }
    assert counts(case, "more_final_alerts")["final_and_shadow"] == 1
    assert counts(case, "more_final_alerts")["final_only"] == 0


def test_a_suppressed_alert_was_an_alert_of_both_and_is_in_no_pair() -> None:
    rows = list[Decision]()
    for place in range(100):
        rows.append(seen("champion", place / 100))
        rows.append(seen("both", place / 100, action="allow", suppression="s1", sample_share=1.0))
    labels = {one.tx_id: Outcome(one.suppression is None, one.decided_at) for one in rows}
    case = looked(rows, labels)
    assert counts(case, "false_final_alerts") == {"final_false": 0, "shadow_false": 0}


@pytest.mark.parametrize(("days", "found"), [(0.0, 0), (2.0, 1)])
def test_a_verdict_is_awaited_for_a_stated_time(days: float, found: int) -> None:
    decision, now = seen("previous", 1.0), START + AWAITED + timedelta(days=1)
    case = looked([decision.model_copy(update={"decided_at": START + timedelta(days=days)})])
    case.weigh({}, now)
    case.weigh({decision.tx_id: Outcome(True, START + timedelta(days=40))}, now)
    assert counts(case, "missed")["previous_alone"] == found


def asked(student: float, teacher: float, sender: str, version: str = NEW, **changes: Any) -> Decision:
    """A decision of the teacher's; both students see the same."""
    bypass = Bypass(
        wanted=("uncertain",),
        outcome="answered",
        teacher="local",
        latency_ms=1.0,
        cost=0.0,
        student_action="review" if student >= EXPECTED.review else "allow",
        teacher_action="review" if teacher >= EXPECTED.review else "allow",
    )
    decision = decide(student, student, teacher=teacher, version=version, sender_account=sender)
    return decision.model_copy(update={"bypass": bypass} | changes)


def hours_of(draw: np.random.Generator, first: datetime, hours: int, times: int, version: str) -> list[Decision]:
    """Each hour, `times` accounts with ten alerts of the student's, ten times as many with one of the teacher's."""
    rows = list[Decision]()
    for hour in range(hours):
        at = {"decided_at": first + timedelta(hours=hour, minutes=1)}
        for account in range(int(draw.poisson(4 * times))):
            rows += [asked(0.9, 0.9, f"{version}{hour}-{account}", version, **at) for _ in range(10)]
        for account in range(int(draw.poisson(40 * times))):
            rows.append(asked(0.1, 0.9, f"{version}{hour}+{account}", version, **at))
        rows += [asked(0.1, 0.1, f"quiet{version}{hour}-{place}", version, **at) for place in range(600)]
    return rows


def test_final_alerts_are_held_to_a_ratio_of_accounts_votes() -> None:
    """The student raises ten alerts on an account and the teacher one; then drift brings twice as many of both."""
    draw, hours = np.random.default_rng(0), ServiceHours()
    for decision in hours_of(draw, START - timedelta(hours=12), 12, 1, GOOD):
        hours.add(decision)
    limits = hours.limits()
    assert limits.final is not None
    assert limits.final.ratio.low < 11 < limits.final.ratio.high
    case = looked(hours_of(draw, START, 6, 2, NEW), case=begun(limits))
    assert not any(measure.harm for measure in case.measures() if measure.metric == "more_final_alerts")
