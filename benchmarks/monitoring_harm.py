"""How often the rollback controller is wrong on healthy traffic, how fast it finds harm, and rules of thumb beside.

The tests are the controller's own (`monitoring.evidence`), fed with the counts that it would make of simulated
traffic, for many champions at once. Both models alert on half a percent of the payments and find 70 % of the
laundering, but not the same. Volume follows the day, rates wander for both models alike. Labels come a week late,
of all alerts of the champion and, unless it is said otherwise, of those that only the previous model would have
raised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from feature_data import Measurement
from monitoring_rules import NEVER, RULES, STATISTICS, Rules, Statistic, middle, proportion, spread
from numpy.typing import NDArray

from monitoring.evidence import Bounds, Evidence, Expectation, FinalAlerts, RollbackPolicy, ServiceLimits
from monitoring.service_level import upper_rate, usual_rate

LOOKS: Final = 288  # a day, one every five minutes
LARGE, SMALL = 15_000, 500  # payments a look: 50 and 1.7 a second
ASKED: Final = 500  # decisions a look that want the teacher
ALERTS: Final = 0.005
CLEARED, RAISED = 0.2, 0.1  # by the teacher, per alert of the student
SHARES: Final = np.array([0.4, 0.3, 0.2, 0.1])  # of the segments of each dimension
DIMENSIONS: Final = ("bank", "channel", "country")
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Rates of one kind of traffic, and what the champion does there.

    Attributes:
        payments: in a look, on average.
        both, champion, previous: shares of the laundering that both, or one of the two alone, alert on.
        errors: share of the decisions that want the teacher and do not get it.
        labels: whether labels have begun to come.
        known: share of the previous model's own alerts that get one.
        scheme: payments of a scheme, which are found or missed together and count once.
    """

    payments: int = LARGE
    laundering: float = 0.002
    both: float = 0.6
    champion: float = 0.1
    previous: float = 0.1
    errors: float = 0.02
    labels: bool = True
    known: float = 1.0
    scheme: int = 1


HEALTHY: Final = World()
PRECISE: Final = replace(HEALTHY, both=0.5, champion=0.06, previous=0.2)  # 56 % found in as many alerts: 20 % fewer
BLIND: Final = replace(HEALTHY, both=0.55, champion=0.05, previous=0.15)  # recall 0.7 to 0.6
SCHEMES: Final = replace(HEALTHY, scheme=4)
FAILING: Final = replace(HEALTHY, errors=0.03)


def look(world: World, hour: NDArray[np.float64], runs: int, draw: np.random.Generator) -> dict[str, Counts]:
    """The news of one look at each of so many champions, at an hour of each; by segment: shape (runs, 13)."""
    rhythm = 1 + 0.7 * np.sin(2 * np.pi * (hour - 8) / 24)
    wander = draw.gamma(50, 1 / 50, runs)  # both models alike: 14 %
    payments = draw.poisson(world.payments * rhythm, runs)
    alerts = _alerts(world, payments, wander, draw)
    news = {_NAMES[kind]: _by_segment(true + false, draw) for kind, (true, false) in alerts.items()}
    true = world.scheme * (alerts["both"][0] + alerts["champion"][0])
    news["alerted"] = _by_segment(true + alerts["both"][1] + alerts["champion"][1], draw)
    news["quiet"] = np.maximum(_by_segment(payments, draw) - news["alerted"], 0)
    news |= {kind: count[:, None] for kind, count in _final(alerts, payments, draw).items()}
    failed = draw.binomial(ASKED, world.errors, runs)
    slow = draw.binomial(payments, 0.05)
    service = {"failed": failed, "answered": ASKED - failed, "slow": slow, "in_time": payments - slow}
    news |= {kind: count[:, None] for kind, count in service.items()}
    if world.labels:  # of payments a week older, so they are drawn anew
        again = _alerts(world, payments, draw.gamma(50, 1 / 50, runs), draw)
        news |= _labels(again, world.known, draw)
    return news


def _final(
    alerts: dict[str, tuple[Counts, Counts]], payments: Counts, draw: np.random.Generator
) -> dict[str, Counts]:
    """Alerts in the end, beside the previous model's: the teacher clears some, and raises others."""
    student = {kind: true + false for kind, (true, false) in alerts.items()}
    both, alone = (draw.binomial(student[kind], 1 - CLEARED) for kind in ("both", "champion"))
    alone = alone + draw.poisson(RAISED * (student["both"] + student["champion"]))
    return {
        "final_only": alone,
        "shadow_only": student["previous"] + student["both"] - both,
        "final_and_shadow": both,
        "ended_alert": both + alone,
        "let_pass": np.maximum(payments - both - alone, 0),
    }


_NAMES: Final = {"both": "both", "champion": "champion_only", "previous": "previous_only"}


def _alerts(
    world: World, payments: Counts, wander: NDArray[np.float64], draw: np.random.Generator
) -> dict[str, tuple[Counts, Counts]]:
    """Alerts by who raised them: those that are laundering, and those that are not."""
    laundering = payments * world.laundering * wander
    found = np.array([[world.both + world.champion], [world.both + world.previous]])
    false = payments * wander * (ALERTS - world.laundering * found)
    shared = 0.6 * false.min(0)

    def found(share: float) -> Counts:
        return draw.poisson(laundering * share / world.scheme)

    return {
        "both": (found(world.both), draw.poisson(shared)),
        "champion": (found(world.champion), draw.poisson(false[0] - shared)),
        "previous": (found(world.previous), draw.poisson(false[1] - shared)),
    }


def _labels(alerts: dict[str, tuple[Counts, Counts]], known: float, draw: np.random.Generator) -> dict[str, Counts]:
    shares = {"both": 1.0, "champion": 1.0, "previous": known}
    split = {
        kind: [_by_segment(draw.binomial(count, shares[kind]), draw) for count in pair]
        for kind, pair in alerts.items()
    }
    (champion_true, champion_false), (previous_true, previous_false) = split["champion"], split["previous"]
    worse, better = _matched(champion_true, champion_false, previous_true, previous_false, draw)
    kept = [draw.binomial(count[:, :1], 1 - CLEARED) for count in (champion_true, champion_false)]
    final = _matched(kept[0], kept[1], previous_true[:, :1], previous_false[:, :1], draw)
    return {
        "previous_alone": previous_true,
        "champion_alone": champion_true,
        "by_both": split["both"][0],
        "champion_false": worse,
        "previous_false": better,
        "final_false": final[0],
        "shadow_false": final[1],
    }


def _matched(
    true_a: Counts, false_a: Counts, true_b: Counts, false_b: Counts, draw: np.random.Generator
) -> tuple[Counts, Counts]:
    """As many random pairs as there are: those whose A alone is false, and whose B alone is."""
    pairs = np.minimum(true_a + false_a, true_b + false_b)
    a, b = draw.hypergeometric(false_a, true_a, pairs), draw.hypergeometric(false_b, true_b, pairs)
    both = draw.hypergeometric(a, pairs - a, b)
    return a - both, b - both


def _by_segment(count: Counts, draw: np.random.Generator) -> Counts:
    """Whole and segments, shape (runs, 13)."""
    parts = [draw.multinomial(count, SHARES) for _ in DIMENSIONS]
    return np.concatenate([count[:, None], *parts], axis=1)


def new_evidence(draw: np.random.Generator, policy: RollbackPolicy | None = None) -> Evidence:
    """Champions at their beginning, after a week of the previous model's hours."""
    hours = np.full(24 * 7, ASKED * 12)
    limits = ServiceLimits(
        errors=upper_rate(draw.binomial(hours, HEALTHY.errors), hours),
        slow=upper_rate(draw.binomial(10 * hours, 0.05), 10 * hours),
        final=_final_before(draw),
    )
    segments = {f"{name}={value}": ALERTS for name in DIMENSIONS for value in range(len(SHARES))}
    return Evidence(policy or RollbackPolicy(labels=True), Expectation(0.5, ALERTS, segments), limits)


def _final_before(draw: np.random.Generator) -> FinalAlerts:
    """What was an alert in the end in a week of the previous model's, of as much traffic as the large one."""
    payments = draw.poisson(LARGE * 12 * (1 + 0.7 * np.sin(2 * np.pi * np.arange(24 * 7) / 24)))
    student = draw.poisson(payments * draw.gamma(50, 1 / 50, len(payments)) * ALERTS)
    final = draw.binomial(student, 1 - CLEARED) + draw.poisson(RAISED * student)
    rate = usual_rate(final, payments)
    assert rate is not None
    ratio = final.sum() / student.sum()
    return FinalAlerts(rate, Bounds(0.98 * ratio, 1.02 * ratio))


def rolled_back(evidence: Evidence) -> NDArray[np.bool_]:
    """bool [runs]: which champions are shown to be harmful, by any measure in any segment."""
    return np.logical_or.reduce(
        np.broadcast_arrays(*(evidence.harm(metric).any(-1) for metric in evidence.policy.acting))
    )


def false_alarms(quick: bool) -> list[Measurement]:
    """Healthy champions watched for days, 288 looks a day, all measures and segments together."""
    lives, days = (200, 5) if quick else (400, 10)
    total = lives * days
    rows = []
    for name, world in (("false rollbacks", HEALTHY), ("the same, laundering in schemes of 4", SCHEMES)):
        draw = np.random.default_rng(1)
        evidence, phase = new_evidence(draw), draw.uniform(0, 24, lives)
        alarmed = {(rule, what): 0 for what in STATISTICS for rule in RULES}
        for day in range(days):
            rules = {what: Rules() for what in STATISTICS}  # a new day, a new chance: they forget yesterday
            for number in range(LOOKS):
                news = look(world, phase + 24 * number / LOOKS, lives, draw)
                evidence.look(news, day * LOOKS + number)
                for what, statistic in STATISTICS.items():
                    rules[what].look(*statistic(news))
            for rule, what in alarmed:
                alarmed[rule, what] += int((rules[what].first(rule) >= 0).sum())
        wrong = int(rolled_back(evidence).sum())
        tests = sum(len(evidence.alpha(metric)) for metric in evidence.policy.acting)
        bar = 1.0 if world is HEALTHY else None
        detail = f"{_days(wrong, total)}; {tests} tests, {wrong} of {lives} champions in {days} days"
        rows.append(Measurement(f"{name}, days", 100 * wrong / total, "%", bar, "lower", detail))
        if world is HEALTHY:
            rows += [
                Measurement(f"  {rule}, {what} alone", 100 * count / total, "%", detail=_days(count, total))
                for (rule, what), count in alarmed.items()
            ]
    return rows


def _days(count: int, total: int) -> str:
    low, high = proportion(count, total)
    return f"{count} of {total:,} days, 95 % {low:.2%} to {high:.2%}"


def detection(quick: bool) -> list[Measurement]:
    """Looks from the beginning of harm, or of its labels, to the rollback; rules of thumb on the same streams."""
    runs = 200 if quick else 1_000
    rows = []
    for name, harmful, statistic, bar, begins in (
        ("error rate 2 to 3 %, 500 decisions a look", FAILING, "errors", 9.0, 0),
        ("the same, after a healthy day", FAILING, "errors", None, LOOKS),
        ("alert precision - 20 %, 75 alerts a look", PRECISE, "precision", 10.0, 0),
        ("the same, after a healthy day", PRECISE, "precision", None, LOOKS),
        ("the same, half of the previous model's alerts known", replace(PRECISE, known=0.5), "precision", None, 0),
        ("the same, laundering in schemes of 4", replace(PRECISE, scheme=4), "precision", None, 0),
        ("recall - 10 points, 50 payments a second", BLIND, "recall", 2.0 * LOOKS, 0),
        ("recall - 10 points, 1.7 payments a second", replace(BLIND, payments=SMALL), "recall", 2.0 * LOOKS, 0),
    ):
        looks, rules = delays(harmful, STATISTICS[statistic], runs, begins)
        rows.append(Measurement(name, middle(looks), "looks", bar, "lower", spread(looks)))
        rows += [
            Measurement(f"  {rule}", middle(rules[rule]), "looks", detail=spread(rules[rule])) for rule in RULES
        ]
    return rows


def delays(
    harmful: World, statistic: Statistic, runs: int, begins: int
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Looks from the beginning of harm to each alarm; -1 where it came before, `NEVER` where none came in time."""
    draw = np.random.default_rng(2)
    evidence, rules, phase = new_evidence(draw), Rules(), draw.uniform(0, 24, runs)
    before, first = replace(harmful, both=HEALTHY.both, champion=HEALTHY.champion), np.full(runs, NEVER)
    before = replace(before, previous=HEALTHY.previous, errors=HEALTHY.errors)
    for number in range(begins + 2 * LOOKS):
        news = look(harmful if number >= begins else before, phase + 24 * number / LOOKS, runs, draw)
        evidence.look(news, number)
        rules.look(*statistic(news))
        first = np.where((first == NEVER) & rolled_back(evidence), number - begins + 1, first)
        if (first != NEVER).all() and number >= begins + 60:
            break
    found = {rule: rules.first(rule) for rule in RULES}
    return first, {rule: np.where(at < 0, NEVER, at - begins + 1) for rule, at in found.items()}
