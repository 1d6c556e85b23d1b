"""How often a canary is ended that does no harm, and how fast one that does: the tests of `monitoring.canary` on
the traffic of `monitoring_harm`, for many canaries at once.

A canary decides for a share of the accounts; its news are those of so much less traffic, and pairs with what the
champion decided nearest to it (for false alerts, of alerts that one of the two alone raises). That accounts stay
where they are, and are odd, is left to the tests of the code: an account counts once there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from feature_data import Measurement
from monitoring_harm import ALERTS, ASKED, HEALTHY, LOOKS, SCHEMES, SMALL, Counts, World, look
from monitoring_rules import NEVER, middle, proportion, spread
from numpy.typing import NDArray

from monitoring.canary import canary_evidence
from monitoring.evidence import Evidence, Expectation, RollbackPolicy

SHARE: Final = 0.05  # of the accounts
SLOW: Final = 0.05  # of the champion's decisions
FLOODS: Final = 4.0  # times as many alerts


def canary_look(
    world: World,
    hour: NDArray[np.float64],
    runs: int,
    draw: np.random.Generator,
    slow: float = SLOW,
    flood: float = 1,
) -> dict[str, Counts]:
    """The news of one look at each of so many canaries, shape (runs, 1).

    Args:
        world: `champion` there is the canary here, and `previous` the champion.
        slow: share of the canary's decisions.
        flood: times as many alerts of the canary's alone.
    """
    mine = replace(world, payments=max(1, round(SHARE * world.payments)), errors=HEALTHY.errors)
    news = {kind: count[:, :1] for kind, count in look(mine, hour, runs, draw).items()}
    more = draw.poisson((flood - 1) * ALERTS * (news["alerted"] + news["quiet"]))
    news["champion_only"], news["alerted"] = news["champion_only"] + more, news["alerted"] + more
    news["quiet"] = np.maximum(news["quiet"] - more, 0)
    asked = draw.binomial(ASKED, SHARE, runs)
    news["failed"], news["answered"] = _pairs(asked, world.errors, HEALTHY.errors, draw)
    news["slow"], news["in_time"] = _pairs((news["alerted"] + news["quiet"])[:, 0], slow, SLOW, draw)
    return news


def _pairs(number: Counts, mine: float, other: float, draw: np.random.Generator) -> tuple[Counts, Counts]:
    """Of so many pairs, those in which only the canary's is bad, and only the champion's; shape (runs, 1)."""
    only_mine, only_other = mine * (1 - other), other * (1 - mine)
    kinds = draw.multinomial(number, [only_mine, only_other, 1 - only_mine - only_other])
    return kinds[:, :1], kinds[:, 1:2]


def _evidence() -> Evidence:
    expected = Expectation(0.5, ALERTS)
    return canary_evidence(RollbackPolicy(labels=True), expected, expected)


def _ended(evidence: Evidence) -> NDArray[np.bool_]:
    """bool [runs]: which canaries are shown to be harmful."""
    return np.logical_or.reduce(
        np.broadcast_arrays(*(evidence.harm(metric).any(-1) for metric in evidence.policy.acting))
    )


def canary(quick: bool) -> list[Measurement]:
    """False ends of healthy canaries, and looks until harmful ones are ended."""
    lives, days = (200, 5) if quick else (400, 10)
    rows = []
    for name, world in (("false ends of a canary", HEALTHY), ("the same, laundering in schemes of 4", SCHEMES)):
        draw, evidence = np.random.default_rng(1), _evidence()
        phase = draw.uniform(0, 24, lives)
        for number in range(days * LOOKS):
            evidence.look(canary_look(world, phase + 24 * number / LOOKS, lives, draw), number)
        wrong, total = int(_ended(evidence).sum()), lives * days
        low, high = proportion(wrong, total)
        detail = f"{wrong} of {total:,} days, 95 % {low:.2%} to {high:.2%}; {wrong} of {lives} canaries"
        rows.append(Measurement(f"{name}, days", 100 * wrong / total, "%", 1.0, "lower", detail))
    rows += [
        _delay("alerts fourfold, 50 payments a second", HEALTHY, quick, flood=FLOODS),
        _delay("alerts fourfold, 1.7 payments a second", replace(HEALTHY, payments=SMALL), quick, flood=FLOODS),
        _delay("errors 2 to 6 %, 500 decisions a look", replace(HEALTHY, errors=0.06), quick),
        _delay("slow decisions 5 to 20 %, 50 payments a second", HEALTHY, quick, slow=0.2),
    ]
    return rows


def _delay(name: str, world: World, quick: bool, *, slow: float = SLOW, flood: float = 1) -> Measurement:
    runs = 100 if quick else 400
    draw, evidence, first = np.random.default_rng(2), _evidence(), np.full(runs, NEVER)
    phase = draw.uniform(0, 24, runs)
    for number in range(2 * LOOKS):
        evidence.look(canary_look(world, phase + 24 * number / LOOKS, runs, draw, slow, flood), number)
        first = np.where((first == NEVER) & _ended(evidence), number + 1, first)
        if (first != NEVER).all():
            break
    return Measurement(f"{name}, {SHARE:.0%} of the accounts", middle(first), "looks", detail=spread(first))
