"""From shapes on paper to payments among ordinary accounts.

Whatever a single raw column could give away is taken from ordinary traffic: amounts are scaled by those of
ordinary payments, hours and weekdays follow the ordinary rhythm, formats are those that the two parties
would use anyway, and the members keep their ordinary habits. What remains to be found is how payments of
one scheme follow from one another.

The schemes that begin in a window depend on that window alone, and each scheme on its own number, so that windows
can be made in any order and a drift changes no scheme that begins before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from riskdistill.data.schema import UNLISTED
from riskdistill.simulator.arrays import Accounts, Bools, Floats, Ints, lognormal
from riskdistill.simulator.clock import Window
from riskdistill.simulator.config import Drift, SimulationConfig
from riskdistill.simulator.formats import usual_format
from riskdistill.simulator.methods import BY_LIMIT, LATER, SHAPES, TYPOLOGIES, adapted, origins, staged
from riskdistill.simulator.payments import Payments, as_people_write
from riskdistill.simulator.population import YEAR, Kind, Population
from riskdistill.simulator.recording import recorded
from riskdistill.simulator.shapes import CASH_DESK, EXCHANGE, Legs, Role

UNLISTED_SHARE: Final = 1 / 3  # of laundering payments; AMLworld has about 38 %
LATER_SHARE: Final = 0.3  # of the named schemes, of a typology that a drift has brought
REPORTING_LIMITS: Final = np.array([1_000.0, 3_000.0, 10_000.0])  # in the local currency
RECRUITED: Final = 0.15  # share of accounts that take part in schemes again and again
BUSY: Final = 0.75  # how much launderers prefer busy accounts, which hide them better
HOME: Final = 0.8  # members of the first member's country
MOST_SCHEMES: Final = 1_000_000  # that begin in one window
WEEK: Final = 7


@dataclass(frozen=True)
class Rhythm:
    """Ordinary traffic's rhythm of the week, as a monotone map from even time to clock time.

    Payments placed evenly in even time are as frequent at each hour of the week as ordinary ones; what
    comes first stays first.
    """

    even: Floats  # even time of each whole hour of the week, in days

    @classmethod
    def of(cls, ordinary: Payments) -> Rhythm:
        """The rhythm of a week (or part of one) of `ordinary` traffic from the start of the world."""
        hours = (24 * (ordinary.time % WEEK)).astype(np.int64)
        traffic = np.bincount(hours, minlength=24 * WEEK)
        reached = np.append(0.0, np.cumsum(np.maximum(traffic, 0.02 * traffic.mean() + 1e-9)))
        return cls(reached / reached[-1] * WEEK)

    def clock_time(self, even: Floats) -> Floats:
        """Clock time (days) of moments in even time (days)."""
        week = np.floor(even / WEEK) * WEEK
        return np.asarray(week + np.interp(even - week, self.even, np.arange(len(self.even)) / 24))


class Underworld:
    """Places schemes among the accounts of a population.

    Args:
        sample: ordinary payments of the first week: who is busy, and at which hours people pay.
    """

    def __init__(self, config: SimulationConfig, population: Population, sample: Payments) -> None:
        self.config, self.population = config, population
        self.rhythm = Rhythm.of(sample)
        rng = np.random.default_rng([config.seed, 3])
        receipts = np.bincount(sample.receiver, minlength=len(population))
        sought = np.where(rng.random(len(population)) < RECRUITED, 2.0, 1.0) * (1.0 + receipts) ** BUSY
        young = np.where(population.opened > -YEAR / 2, 2.0, 1.0) * np.where(population.level < 1_500, 1.5, 1.0)
        self.anybody = population.pool(Kind.PERSON, Kind.COMPANY, Kind.MERCHANT, weights=sought)
        self.exchanges = population.pool(Kind.EXCHANGE)
        self.pools = {
            Role.ANYBODY: self.anybody,
            Role.ABROAD: self.anybody,
            Role.MULE: population.pool(Kind.PERSON, weights=young * np.sqrt(sought)),
            Role.FIRM: population.pool(Kind.COMPANY, Kind.MERCHANT, weights=sought),
            Role.FRONT: population.pool(Kind.MERCHANT, weights=sought),
        }
        self.sleepers = np.flatnonzero(
            (population.awake > population.opened) & (population.awake < population.closed)
        )
        self.turns = rng.permutation(np.array(sorted(set(SHAPES) - {UNLISTED})))

    def schemes(self, window: Window, number: int, ordinary: Payments) -> Payments:
        """All payments of the schemes that begin in `window`, the `number`-th, in no particular order.

        Args:
            ordinary: that window's ordinary payments: laundering gets its share of them, and amounts like theirs.
        """
        share = self.config.laundering_share
        wanted = share / (1 - share) * len(ordinary)
        rng = np.random.default_rng([self.config.seed, 4, number])
        pair = self._pair(ordinary.sender, ordinary.receiver)
        usual = [ordinary.value[pair == kind] for kind in range(4)]
        placed, count, off_shape, named = [ordinary.take(slice(0, 0))], 0, 0, 0
        for scheme in range(MOST_SCHEMES):
            if count >= wanted:
                break
            own = np.random.default_rng([self.config.seed, 5, number, scheme])
            off = off_shape <= UNLISTED_SHARE * count
            typology = UNLISTED if off else str(self.turns[(number * WEEK + named) % len(self.turns)])
            made, legs = self._place(typology, window, number * MOST_SCHEMES + scheme, usual, own)
            if count + legs > wanted and rng.random() > (wanted - count) / legs:
                break  # so that the share is met on average
            placed.append(made)
            count += legs
            off_shape += legs if off else 0
            named += not off
        return Payments.concat(placed)

    def _drift_on(self, day: float) -> tuple[str | None, float]:
        """The new typology and the adaptation in force on `day`."""
        begun = [drift for drift in self.config.drifts if drift.start_day <= day]
        new = next((drift.new_typology for drift in reversed(begun) if drift.new_typology), None)
        return new, max((drift.adaptation for drift in begun), default=0.0)

    def _place(
        self, typology: str, window: Window, scheme: int, ordinary: list[Floats], rng: np.random.Generator
    ) -> tuple[Payments, int]:
        """One scheme's payments, and of how many payments it is without what drift does to it."""
        start = rng.uniform(window.first, window.end)
        paper, pace = staged(rng, typology), float(lognormal(rng, 1.0, 0.9, None))
        count = len(paper)
        limit = float(rng.choice(REPORTING_LIMITS, p=(0.5, 0.3, 0.2)))
        later, adaptation = self._drift_on(float(self.rhythm.clock_time(np.array([start]))[0]))
        if later is not None and typology != UNLISTED and rng.random() < LATER_SHARE:
            typology, paper = later, LATER[later](rng)
        if adaptation:
            paper = adapted(rng, paper, adaptation)
        time = self.rhythm.clock_time(start + pace * paper.time)
        members = self._members(paper, float(time.min()), float(time.max()), rng)
        sender, receiver = self._parties(paper, members, rng)
        unit = limit * float(self.population.rate[members[0]])
        if typology not in BY_LIMIT:
            unit = self._usual(sender, receiver, ordinary, rng) * float(lognormal(rng, 2.0, 0.6, None))
            unit = max(unit, float(rng.uniform(50, 250)))  # nobody launders small change
        unit = self._affordable(paper, members, unit) * (1 - 0.6 * adaptation)
        value = as_people_write(rng, self.population, sender, receiver, paper.amount * unit)
        made = self._payments(time, sender, receiver, value, scheme, typology, rng)
        return recorded(made, self.config.recording, rng), count

    def _payments(
        self,
        time: Floats,
        sender: Accounts,
        receiver: Accounts,
        value: Floats,
        scheme: int,
        typology: str,
        rng: np.random.Generator,
    ) -> Payments:
        """What happens of a scheme: payments between accounts in business at that time."""
        population, n = self.population, len(time)
        what = np.full(n, TYPOLOGIES.index(typology), dtype=np.int8)
        made = Payments(
            time=time,
            sender=sender,
            receiver=receiver,
            value=value,
            format=usual_format(rng, population, sender, receiver),
            scheme=np.full(n, scheme, dtype=np.int64),
            typology=what,
            recorded=what,
            known=np.zeros(n, dtype=np.float32),
        )
        return made.take(population.in_business(sender, time) & population.in_business(receiver, time))

    def _parties(self, paper: Legs, members: Accounts, rng: np.random.Generator) -> tuple[Accounts, Accounts]:
        """Sender and receiver of each leg; a cash desk is that of the other party's bank."""
        exchange = self.exchanges.draw(rng, 1)[0]
        sender, receiver = members[paper.sender], members[paper.receiver]
        desk = self.population.desk
        payer = np.where(paper.sender == CASH_DESK, desk[receiver], sender)
        payee = np.where(paper.receiver == CASH_DESK, desk[sender], receiver)
        payer = np.where(paper.sender == EXCHANGE, exchange, payer)
        return payer.astype(np.int32), np.where(paper.receiver == EXCHANGE, exchange, payee).astype(np.int32)

    def _pair(self, sender: Ints, receiver: Ints) -> Ints:
        """Of which kind the two parties are: 0 two people, 1 person and firm, 2 firm and person, 3 two firms."""
        kind = self.population.kind
        return np.asarray(2 * (kind[sender] != Kind.PERSON) + (kind[receiver] != Kind.PERSON))

    def _usual(self, sender: Ints, receiver: Ints, ordinary: list[Floats], rng: np.random.Generator) -> float:
        """What two such parties as those of one leg pay each other, in US dollars; of an ordinary payment."""
        leg = rng.integers(0, len(sender), 1)
        alike = ordinary[int(self._pair(sender[leg], receiver[leg])[0])]
        return float(rng.choice(alike)) if len(alike) else 100.0

    def _affordable(self, paper: Legs, members: Accounts, unit: float) -> float:
        """`unit`, or what the poorest origin can well pay."""
        means = [float(self.population.means[members[m]]) / paid for m, paid in origins(paper).items()]
        return min([unit, *means])

    def _members(self, paper: Legs, start: float, end: float, rng: np.random.Generator) -> Accounts:
        """Different accounts, in business from `start` to `end` where that can be had, most of one country."""
        chosen: list[int] = []
        country = self.population.country
        for member in range(paper.members):
            role = paper.roles.get(member, Role.ANYBODY)
            home = country[chosen[0]] if chosen else None
            found = self._candidates(role, home, start, end, rng)
            chosen.append(next((account for account in found if account not in chosen), -1))
            while chosen[-1] < 0 or chosen[-1] in chosen[:-1]:
                chosen[-1] = int(self.anybody.draw(rng, 1)[0])
        return np.array(chosen, dtype=np.int32)

    def _candidates(
        self, role: Role, home: int | None, start: float, end: float, rng: np.random.Generator
    ) -> list[int]:
        """A few accounts that could play `role`, best first; none where no sleeper wakes in these days."""
        population = self.population
        if role == Role.SLEEPER:
            wakes = population.awake[self.sleepers]
            found: Ints = rng.permutation(self.sleepers[(wakes > start - 3) & (wakes < start + 1)])[:4]
            return [int(account) for account in found]
        pool = self.pools[role]
        where = np.full(8, 0 if home is None else home)
        found = pool.near(rng, where, 0.0 if home is None or role == Role.ABROAD else HOME)
        fits = self._in_business(found, start, end)
        if role == Role.ABROAD and home is not None:
            fits &= population.country[found] != home
        return [int(account) for account in found[fits]]

    def _in_business(self, accounts: Ints, start: float, end: float) -> Bools:
        both = self.population.in_business(accounts, np.full(len(accounts), start))
        return both & self.population.in_business(accounts, np.full(len(accounts), end))


def drifted(payments: Payments, drift: Drift, formats: tuple[str, ...], rng: np.random.Generator) -> Payments:
    """The payments with what one `drift` does to all of them from its first day on; `formats` has the new one."""
    after = payments.time >= drift.start_day
    moves = after & (rng.random(len(payments)) < drift.new_format_share)
    changed = payments.changed(value=np.where(after, payments.value * drift.amount_factor, payments.value))
    if not moves.any():
        return changed
    return changed.changed(format=np.where(moves, np.int8(formats.index(drift.new_format)), payments.format))
