"""Ways of laundering that authorities describe, on paper, and the stages that a scheme goes through.

FATF, "Virtual Assets Red Flag Indicators" (2020), "Trade-Based Money Laundering" (2020) and "Professional Money
Laundering" (2018); FinCEN's advisories on funnel accounts (FIN-2014-A005); Europol on money mules. Placement brings
cash or coins into accounts, layering moves it, integration spends it with a firm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.arrays import Ints
from riskdistill.simulator.shapes import (
    CASH_DESK,
    EXCHANGE,
    PUBLISHED,
    Legs,
    Role,
    Shape,
    after_fee,
    chain,
    join,
    legs,
    parts,
)

PLACED: Final = 0.35  # share of the published shapes that begin with cash or coins
SPENT: Final = 0.3  # … that end with a firm


def structuring(rng: np.random.Generator) -> Legs:
    """Cash deposits below a reporting limit, then mostly a payment of the sum to other accounts."""
    n = int(rng.integers(4, 11))
    deposits = legs(CASH_DESK, 0, rng.uniform(0.5, 0.99, n), rng.uniform(0, 6, n))
    if rng.random() < 0.3:
        return deposits
    total = deposits.amount.sum() * after_fee(rng)
    m = int(rng.integers(1, 4))
    return join(deposits, legs(0, np.arange(1, m + 1), total * parts(rng, m), rng.uniform(6.05, 7, m)))


def funnel(rng: np.random.Generator) -> Legs:
    """Small deposits by many into one account over weeks; what has come in leaves in a few large payments."""
    n, batches = int(rng.integers(8, 17)), int(rng.integers(2, 4))
    time, payer = np.sort(rng.uniform(0, 20, n)), np.arange(n) % 6 + 2
    amount = rng.uniform(0.3, 0.98, n)
    from_desk = rng.random(n) < 0.5
    into = legs(np.where(from_desk, CASH_DESK, payer), 0, amount, time)
    cut = np.linspace(0, n, batches + 1).astype(np.int64)[1:]
    reached = np.cumsum(amount)[cut - 1]
    out = legs(
        0, 1, np.diff(reached, prepend=0) * after_fee(rng, batches), time[cut - 1] + rng.uniform(0.1, 0.5, batches)
    )
    return _compact(join(into, out), {1: Role.ABROAD})


def mules(rng: np.random.Generator) -> Legs:
    """Recruited people get a sum each, keep a commission, and send the rest to one collector within hours."""
    n = int(rng.integers(3, 9))
    hired = np.arange(2, n + 2)
    paid = legs(0, hired, n * parts(rng, n), rng.uniform(0, 5, n), dict.fromkeys(range(2, n + 2), Role.MULE))
    onward = legs(hired, 1, paid.amount * rng.uniform(0.85, 0.96, n), paid.time + rng.exponential(0.4, n) + 0.02)
    return join(paid, onward)


def pass_through(rng: np.random.Generator) -> Legs:
    """Money runs through one to three accounts within hours."""
    return chain(rng, np.arange(int(rng.integers(3, 6))), 0.12)


def dormant(rng: np.random.Generator) -> Legs:
    """An account that was silent for long receives a large sum and is emptied in one to three payments."""
    into, out = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    paid = legs(np.arange(1, into + 1), 0, into * parts(rng, into), rng.uniform(0, 1, into), {0: Role.SLEEPER})
    taken = paid.amount.sum() * after_fee(rng) * parts(rng, out)
    return join(paid, legs(0, np.arange(into + 1, into + out + 1), taken, rng.uniform(1.1, 3, out)))


def round_trip(rng: np.random.Generator) -> Legs:
    """Money goes abroad through firms and comes back to its owner as an investment or a loan."""
    n = int(rng.integers(2, 5))
    roles = {member: Role.ABROAD if member == n - 1 or member == 1 else Role.FIRM for member in range(1, n + 1)}
    return chain(rng, np.append(np.arange(n + 1), 0), 4.0, roles)


def u_turn(rng: np.random.Generator) -> Legs:
    """Parts go out to somebody abroad, who sends the sum straight back, in other parts."""
    n, m = rng.integers(2, 5, 2)
    out = legs(0, 1, n * parts(rng, n), rng.uniform(0, 3, n), {1: Role.ABROAD})
    back = out.amount.sum() * after_fee(rng) * parts(rng, m)
    return join(out, legs(1, 0, back, rng.uniform(3.1, 6, m)))


def front(rng: np.random.Generator) -> Legs:
    """A cash-intensive merchant banks more than it sells for weeks, and pays a firm for goods never bought."""
    n, m = int(rng.integers(6, 13)), int(rng.integers(2, 5))
    cash = legs(CASH_DESK, 0, rng.uniform(0.5, 1.3, n), rng.uniform(0, 25, n), {0: Role.FRONT})
    paid = legs(0, 1, cash.amount.sum() * 0.9 * parts(rng, m), rng.uniform(25.1, 32, m), {1: Role.FIRM})
    return join(cash, paid)


def trade(rng: np.random.Generator) -> Legs:
    """Over-priced invoices between firms of two countries, whose seller passes the excess on to a third party."""
    n = int(rng.integers(3, 7))
    time = np.sort(rng.uniform(0, 30, n))
    billed = legs(0, 1, rng.uniform(1.0, 3.0, n), time, {0: Role.FIRM, 1: Role.ABROAD, 2: Role.FIRM})
    return join(billed, legs(1, 2, billed.amount * rng.uniform(0.4, 0.8, n), time + rng.uniform(0.5, 3, n)))


def off_ramp(rng: np.random.Generator) -> Legs:
    """Coins are sold through several people, who pass the money to one account within a day or two."""
    n = int(rng.integers(2, 7))
    people = np.arange(1, n + 1)
    sold = legs(
        EXCHANGE, people, rng.uniform(0.6, 1.4, n), rng.uniform(0, 4, n), dict.fromkeys(range(1, n + 1), Role.MULE)
    )
    return join(
        sold, legs(people, 0, sold.amount * rng.uniform(0.88, 0.98, n), sold.time + rng.exponential(0.7, n) + 0.02)
    )


def loan_back(rng: np.random.Generator) -> Legs:
    """The owner's own money comes back through a firm as a loan, and is repaid in equal instalments."""
    n = int(rng.integers(4, 9))
    sent = legs(np.array([0, 1]), np.array([1, 2]), np.array([1.0, 0.97]), np.array([0.0, 1.5]), {1: Role.FIRM})
    lent = legs(2, 0, np.array([0.95]), np.array([4.0]))
    return join(sent, lent, legs(0, 2, np.full(n, 0.9 / n), np.arange(5.0, 5.0 + 4 * n, 4.0)))


def micro(rng: np.random.Generator) -> Legs:
    """A swarm of tiny payments between a few accounts, which together carry the sum."""
    n, width = int(rng.integers(15, 30)), int(rng.integers(3, 7))
    middle = rng.integers(2, width + 2, n)
    sent = legs(0, middle, rng.uniform(0.03, 0.08, n), rng.uniform(0, 4, n))
    return _compact(join(sent, legs(middle, 1, sent.amount * 0.98, sent.time + rng.uniform(0.02, 0.5, n))), {})


def _compact(scheme: Legs, roles: Mapping[int, Role]) -> Legs:
    """The same legs with members numbered without gaps; `roles` are given by the numbers before."""
    used = np.unique(np.concatenate([scheme.sender, scheme.receiver]))
    used = used[used >= 0]

    def number(party: Ints) -> Ints:
        return np.where(party < 0, party, np.searchsorted(used, party))

    named = {int(np.searchsorted(used, member)): role for member, role in roles.items() if member in used}
    return Legs(number(scheme.sender), number(scheme.receiver), scheme.amount, scheme.time, named)


METHODS: Final[dict[str, Shape]] = {
    "structuring": structuring,
    "funnel": funnel,
    "mules": mules,
    "pass_through": pass_through,
    "dormant": dormant,
    "round_trip": round_trip,
    "u_turn": u_turn,
    "front": front,
    "trade": trade,
    "off_ramp": off_ramp,
}
LATER: Final[dict[str, Shape]] = {"loan_back": loan_back, "micro": micro}  # only where a drift brings them
SHAPES: Final[dict[str, Shape]] = {**PUBLISHED, **METHODS}
TYPOLOGIES: Final = (*SHAPES, *LATER)  # by position
BY_LIMIT: Final = ("structuring", "funnel")  # whose unit is a reporting limit


def staged(rng: np.random.Generator, typology: str) -> Legs:
    """One scheme of that typology; the published shapes often with placement before and integration after."""
    scheme = (SHAPES | LATER)[typology](rng)
    if typology not in PUBLISHED or typology == UNLISTED:
        return scheme
    if rng.random() < PLACED:
        scheme = _placed(rng, scheme)
    return _spent(rng, scheme) if rng.random() < SPENT else scheme


def origins(scheme: Legs) -> dict[int, float]:
    """The members that pay before anything came to them, and what they pay in all."""
    first_in = np.full(scheme.members, np.inf)
    first_out = np.full(scheme.members, np.inf)
    for first, party in ((first_in, scheme.receiver), (first_out, scheme.sender)):
        known = party >= 0
        np.minimum.at(first, party[known], scheme.time[known])
    own = scheme.sender >= 0
    paid = np.bincount(scheme.sender[own], scheme.amount[own], minlength=scheme.members)
    return {int(m): float(paid[m]) for m in np.flatnonzero(first_out < first_in)}


def _placed(rng: np.random.Generator, scheme: Legs) -> Legs:
    """Cash, or now and then coins, comes to the origins first."""
    source = EXCHANGE if rng.random() < 0.3 else CASH_DESK
    before = []
    for member, paid in origins(scheme).items():
        n = int(rng.integers(1, 4))
        before.append(legs(source, member, paid * 1.02 * parts(rng, n), rng.uniform(0, 2, n)))
    later = Legs(scheme.sender, scheme.receiver, scheme.amount, scheme.time + 2.05, scheme.roles)
    return join(*before, later)


def _spent(rng: np.random.Generator, scheme: Legs) -> Legs:
    """Each final receiver spends most of what came with a firm."""
    finals = np.setdiff1d(scheme.receiver, scheme.sender)[:3]
    after = []
    for place, member in enumerate(finals[finals >= 0]):
        mine = scheme.receiver == member
        firm = scheme.members + place
        spent = np.array([scheme.amount[mine].sum() * rng.uniform(0.4, 0.95)])
        when = scheme.time[mine].max() + rng.uniform(0.3, 4, 1)
        after.append(legs(int(member), firm, spent, when, {firm: Role.FIRM}))
    return join(scheme, *after)


def adapted(rng: np.random.Generator, scheme: Legs, adaptation: float) -> Legs:
    """The same scheme by launderers who have learned: slower, and some payments take one more hop.

    Args:
        adaptation: how much, from 0 to 1; at 1 four times as slow, with two payments in five re-routed.
    """
    slow = Legs(scheme.sender, scheme.receiver, scheme.amount, scheme.time * (1 + 3 * adaptation), scheme.roles)
    moved = np.flatnonzero((rng.random(len(slow)) < 0.4 * adaptation) & (slow.sender >= 0) & (slow.receiver >= 0))
    receiver, hops = slow.receiver.copy(), []
    for place, leg in enumerate(moved):
        between, time = slow.members + place, slow.time[leg]
        next_out = slow.time[(slow.sender == slow.receiver[leg]) & (slow.time > time)]
        wait = min(1.0, float(next_out.min(initial=np.inf)) - time) * rng.uniform(0.2, 0.8)
        hops.append(legs(between, int(slow.receiver[leg]), slow.amount[[leg]], np.array([time + wait])))
        receiver[leg] = between
    return join(Legs(slow.sender, receiver, slow.amount, slow.time, slow.roles), *hops)
