"""What people do with money: rent, bills, shopping, cash, friends, shared costs, savings clubs, coins.

Shared costs look like a fan-in, savings clubs like a fan-in that moves round, relays like a pass-through,
repayments like a U-turn: none of these shapes is guilt.
"""

from __future__ import annotations

import numpy as np

from riskdistill.simulator.arrays import Floats, Ints, draw, lognormal
from riskdistill.simulator.clock import Clock, office_hours, waking_hours
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population, near

MONTH = 30.0  # days


def _events(rng: np.random.Generator, who: Ints, per_month: float, clock: Clock) -> Ints:
    """`who` repeated once for each event of a Poisson stream; some are three times as busy as others."""
    rate = per_month * rng.gamma(3.0, 1 / 3, len(who)) * clock.days / MONTH
    return np.repeat(who, rng.poisson(rate))


def _whole(population: Population, payer: Ints, value: Floats, unit: float) -> Floats:
    """`value` (US dollars) rounded up to a multiple of `unit` in the payer's currency."""
    rate = population.rate[payer]
    return np.asarray(np.ceil(value / rate / unit) * unit * rate)


def rent(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Three in five people pay the same rent to the same landlord on the same day of each month."""
    people = population.of(Kind.PERSON)
    tenants = people[rng.random(len(people)) < 0.6]
    amount = _whole(population, tenants, population.level[tenants] * rng.uniform(0.2, 0.4, len(tenants)), 5)
    which, day = clock.monthly(rng.integers(1, 6, len(tenants)))
    who = tenants[which]
    time = day + office_hours(rng, len(who))
    return pay(population, rng, time=time, sender=who, receiver=population.landlord[who], value=amount[which])


def bills(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Utilities and subscriptions: many people pay few companies every month (collections fan-in)."""
    people = np.repeat(population.of(Kind.PERSON), population.billers.shape[1])
    biller = population.billers[population.of(Kind.PERSON)].ravel()
    amount = lognormal(rng, 55, 0.7, len(people))
    which, day = clock.monthly(rng.integers(1, 29, len(people)))
    value = amount[which] * rng.uniform(0.9, 1.1, len(which))
    time = day + office_hours(rng, len(which))
    return pay(population, rng, time=time, sender=people[which], receiver=biller[which], value=value)


def shopping(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Purchases at favourite shops, now and then at any shop; dearer for who earns more."""
    who = _events(rng, population.of(Kind.PERSON), 6.0, clock)
    usual = population.favourites[who, rng.integers(0, population.favourites.shape[1], len(who))]
    other = near(rng, population.country, who, population.of(Kind.MERCHANT, Kind.PLATFORM), 0.6)
    shop = np.where(rng.random(len(who)) < 0.85, usual, other)
    dear = np.sqrt(population.level[who] / 2800) * (population.level[shop] / 1500) ** 0.3
    value = lognormal(rng, 38, 0.95, len(who)) * dear
    time = clock.shopping_days(rng, len(who)) + waking_hours(rng, len(who))
    return pay(population, rng, time=time, sender=who, receiver=shop, value=value)


def refunds(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Shops pay back what was returned."""
    who = _events(rng, population.of(Kind.PERSON), 0.3, clock)
    shop = population.favourites[who, rng.integers(0, population.favourites.shape[1], len(who))]
    time = clock.working_days(rng, len(who)) + office_hours(rng, len(who))
    return pay(population, rng, time=time, sender=shop, receiver=who, value=lognormal(rng, 50, 1.0, len(who)))


def cash(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Withdrawals and, less often, deposits at the own bank's desk; merchants bank their takings."""
    people = population.of(Kind.PERSON)
    out = _events(rng, people, 0.8, clock)
    back = _events(rng, people, 0.2, clock)
    takings = _events(rng, population.of(Kind.MERCHANT), 4.0, clock)
    sender = np.concatenate([out, population.desk[back], population.desk[takings]])
    receiver = np.concatenate([population.desk[out], back, takings])
    value = np.concatenate(
        [
            _whole(population, out, lognormal(rng, 110, 0.7, len(out)), 20),
            _whole(population, back, lognormal(rng, 500, 1.1, len(back)), 10),
            lognormal(rng, 1800, 0.9, len(takings)),
        ]
    )
    time = clock.shopping_days(rng, len(sender)) + waking_hours(rng, len(sender))
    return pay(population, rng, time=time, sender=sender, receiver=receiver, value=value)


def friends(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Payments among contacts and to strangers (second-hand sales); one in eight comes back, as loans do."""
    who = _events(rng, population.of(Kind.PERSON), 1.5, clock)
    contact = population.contacts[who, rng.integers(0, population.contacts.shape[1], len(who))]
    stranger = near(rng, population.country, who, population.of(Kind.PERSON), 0.8)
    friend = np.where(rng.random(len(who)) < 0.75, contact, stranger)
    value = lognormal(rng, 70, 1.2, len(who))
    value = np.where(rng.random(len(who)) < 0.5, _whole(population, who, value, 5), value)
    time = clock.shopping_days(rng, len(who)) + waking_hours(rng, len(who))
    loans = rng.random(len(who)) < 1 / 8
    n = int(loans.sum())
    return Payments.concat(
        [
            pay(population, rng, time=time, sender=who, receiver=friend, value=value),
            pay(
                population,
                rng,
                time=time[loans] + lognormal(rng, 3.0, 1.0, n),
                sender=friend[loans],
                receiver=who[loans],
                value=value[loans] * np.where(rng.random(n) < 0.6, 1.0, rng.uniform(0.4, 1.0, n)),
            ),
        ]
    )


def shared_costs(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Contacts pay one person nearly equal parts within days; half the time that person pays it all on."""
    host = _events(rng, population.of(Kind.PERSON), 0.12, clock)
    n, most = len(host), population.contacts.shape[1]
    joins = np.arange(most) < rng.integers(3, most + 1, n)[:, None]
    part = lognormal(rng, 60, 1.0, n)
    day = clock.shopping_days(rng, n) + waking_hours(rng, n)
    late = rng.gamma(1.5, 0.6, (n, most))
    on = np.flatnonzero(rng.random(n) < 0.5)
    shop = population.favourites[host[on], 0]
    return Payments.concat(
        [
            pay(
                population,
                rng,
                time=(day[:, None] + late)[joins],
                sender=population.contacts[host][joins],
                receiver=np.broadcast_to(host[:, None], joins.shape)[joins],
                value=(part[:, None] * rng.uniform(0.97, 1.03, joins.shape))[joins],
            ),
            pay(
                population,
                rng,
                time=day[on] + late[on].max(axis=1) + rng.gamma(1.5, 0.5, len(on)),
                sender=host[on],
                receiver=shop,
                value=part[on] * joins[on].sum(axis=1),
            ),
        ]
    )


def savings_clubs(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Rotating savings: each month all members of a family circle pay the same sum to one of them."""
    people = population.of(Kind.PERSON)
    founders = people[rng.random(len(people)) < 0.008]
    members = np.concatenate([founders[:, None], population.contacts[founders]], axis=1)
    which, day = clock.monthly(rng.integers(1, 29, len(founders)))
    turn = members[which, (day // int(MONTH)) % members.shape[1]]
    deposit = _whole(population, founders, lognormal(rng, 150, 0.6, len(founders)), 10)
    payers = members[which]
    return pay(
        population,
        rng,
        time=(day[:, None] + rng.gamma(1.5, 0.7, payers.shape)).ravel(),
        sender=payers.ravel(),
        receiver=np.repeat(turn, members.shape[1]),
        value=np.repeat(deposit[which], members.shape[1]),
    )


def relays(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """A relative supports someone who pays most of it on, to a landlord or another relative, in days."""
    people = population.of(Kind.PERSON)
    middle = people[rng.random(len(people)) < 0.06]
    giver, taker = population.contacts[middle, 0], population.contacts[middle, 1]
    taker = np.where(rng.random(len(middle)) < 0.5, taker, population.landlord[middle])
    support = lognormal(rng, 450, 0.7, len(middle))
    which, day = clock.monthly(rng.integers(1, 29, len(middle)))
    received = day + waking_hours(rng, len(day))
    value = support[which] * rng.uniform(0.95, 1.05, len(which))
    kept = rng.beta(1.0, 12.0, len(which))
    return Payments.concat(
        [
            pay(population, rng, time=received, sender=giver[which], receiver=middle[which], value=value),
            pay(
                population,
                rng,
                time=received + lognormal(rng, 0.6, 0.9, len(which)),
                sender=middle[which],
                receiver=taker[which],
                value=value * (1 - kept),
            ),
        ]
    )


def coins(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """One person in eight buys and sells coins at an exchange."""
    people = population.of(Kind.PERSON)
    who = _events(rng, people[rng.random(len(people)) < 0.12], 2.0, clock)
    exchange = draw(rng, population.of(Kind.EXCHANGE), len(who))
    buys = rng.random(len(who)) < 0.6
    return pay(
        population,
        rng,
        time=rng.integers(0, clock.days, len(who)) + waking_hours(rng, len(who)),
        sender=np.where(buys, who, exchange),
        receiver=np.where(buys, exchange, who),
        value=lognormal(rng, 220, 1.2, len(who)),
    )


HABITS = (rent, bills, shopping, refunds, cash, friends, shared_costs, savings_clubs, relays, coins)
