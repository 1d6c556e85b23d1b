"""From shapes on paper to payments among ordinary accounts.

Whatever a single raw column could give away is taken from ordinary traffic: amounts are scaled by those of
ordinary payments, hours and weekdays follow the ordinary rhythm, formats are those that the two parties
would use anyway, and the members keep their ordinary habits. What remains to be found is how payments of
one scheme follow from one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.arrays import Floats, Ints, draw, lognormal
from riskdistill.simulator.clock import Clock
from riskdistill.simulator.formats import usual_format
from riskdistill.simulator.payments import Payments
from riskdistill.simulator.population import Kind, Population, near
from riskdistill.simulator.shapes import CASH_DESK, LIMIT, SHAPES

UNLISTED_SHARE: Final = 1 / 3  # of laundering payments; AMLworld has about 38 %
REPORTING_LIMITS: Final = np.array([1_000.0, 3_000.0, 10_000.0])  # in the local currency
RECRUITED: Final = 0.15  # share of accounts that take part in schemes again and again
BUSY: Final = 0.6  # how much launderers prefer busy accounts, which hide them better
HOME: Final = 0.8  # members of the first member's country


@dataclass(frozen=True)
class Rhythm:
    """Ordinary traffic's rhythm of the week, as a monotone map from even time to clock time.

    Payments placed evenly in even time are as frequent at each hour of the week as ordinary ones; what
    comes first stays first.
    """

    hours: Floats  # clock time of each whole hour, in days
    even: Floats  # even time of the same moments, in days

    @classmethod
    def of(cls, ordinary: Payments, clock: Clock) -> Rhythm:
        """The rhythm of `ordinary` traffic, averaged over the weeks."""
        hour = np.arange(24 * clock.days)
        of_week = (hour + 24 * clock.start.weekday()) % 168
        traffic = np.bincount((24 * ordinary.time).astype(np.int64), minlength=len(hour))
        weekly = np.bincount(of_week, traffic, minlength=168) / np.bincount(of_week, minlength=168).clip(1)
        intensity = np.maximum(weekly / weekly.mean(), 0.02)[of_week]
        even = np.append(0.0, np.cumsum(intensity))
        return cls(np.arange(len(hour) + 1) / 24, even / even[-1] * clock.days)

    def clock_time(self, even: Floats) -> Floats:
        """Clock time (days) of moments in even time (days)."""
        return np.asarray(np.interp(even, self.even, self.hours))


class _Underworld:
    """Places schemes one by one; holds what all of them share."""

    def __init__(self, population: Population, ordinary: Payments, clock: Clock, rng: np.random.Generator) -> None:
        self.population, self.clock, self.rng = population, clock, rng
        self.values = ordinary.value
        self.rhythm = Rhythm.of(ordinary, clock)
        self.pool = population.of(Kind.PERSON, Kind.COMPANY, Kind.MERCHANT)
        receipts = np.bincount(ordinary.receiver, minlength=len(population))[self.pool]
        recruited = rng.random(len(self.pool)) < RECRUITED
        self.weights = np.where(recruited, 3.0, 1.0) * (1.0 + receipts) ** BUSY

    def place(self, typology: str, scheme: int) -> Payments:
        """One scheme's payments inside the simulated period; a scheme under way at its ends is cut there."""
        rng, legs = self.rng, SHAPES[typology](self.rng)
        members = self._members(legs.members)
        sender, receiver = members[legs.sender], members[legs.receiver]
        desk = self.population.desk
        sender = np.where(legs.sender == CASH_DESK, desk[receiver], sender)
        receiver = np.where(legs.receiver == CASH_DESK, desk[sender], receiver)
        after_start = legs.time * lognormal(rng, 0.5, 0.8, None)
        even = rng.uniform(-after_start.max(), self.clock.days) + after_start
        placed = Payments(
            time=self.rhythm.clock_time(even),
            sender=sender,
            receiver=receiver,
            value=legs.amount * self._unit(typology, members[0]),
            format=usual_format(rng, self.population, sender, receiver),
            scheme=np.full(len(even), scheme),
        )
        return placed.take((even >= 0) & (even < self.clock.days))

    def _members(self, n: int) -> Ints:
        """`n` different accounts, most of one country; the busy and the recruited are drawn more often."""
        first = draw(self.rng, self.pool, 1, self.weights)
        chosen = first
        while len(chosen) < n:
            origin = np.full(2 * n, first[0])
            more = near(self.rng, self.population.country, origin, self.pool, HOME, self.weights)
            chosen = np.concatenate([chosen, more])
            chosen = chosen[np.sort(np.unique(chosen, return_index=True)[1])]
        return chosen[:n]

    def _unit(self, typology: str, member: int) -> float:
        """The scheme's unit amount in US dollars: an ordinary payment's, a little larger, or a limit."""
        if typology == LIMIT:
            return float(self.rng.choice(REPORTING_LIMITS, p=(0.5, 0.3, 0.2)) * self.population.rate[member])
        return float(self.rng.choice(self.values) * lognormal(self.rng, 1.5, 0.6, None))


def launder(
    population: Population, ordinary: Payments, clock: Clock, share: float, rng: np.random.Generator
) -> tuple[Payments, tuple[str, ...]]:
    """Laundering payments that make up `share` of all, and the typology of each scheme by its number.

    Schemes are added until the share is reached, so the last one may overshoot it. Each next scheme is
    UNLISTED while that kind holds less than its third, else the next of the named shapes, which take turns
    in an order drawn anew for every round.
    """
    wanted = share / (1 - share) * len(ordinary)
    named = [shape for shape in SHAPES if shape != UNLISTED]
    underworld = _Underworld(population, ordinary, clock, rng)
    placed: list[Payments] = [ordinary.take(np.arange(0))]
    typologies: list[str] = []
    turns: list[str] = []
    count = off_shape = 0
    while count < wanted:
        turns = turns or [str(shape) for shape in rng.permutation(named)]
        typology = UNLISTED if off_shape <= UNLISTED_SHARE * count else turns.pop()
        placed.append(underworld.place(typology, len(typologies)))
        typologies.append(typology)
        count += len(placed[-1])
        off_shape += len(placed[-1]) if typology == UNLISTED else 0
    return Payments.concat(placed), tuple(typologies)
