"""What people do with money: rent, housekeeping, bills, shopping, cash, friends, savings clubs, coins, gifts.

Shared costs look like a fan-in, savings clubs like a fan-in that moves round, relays like a pass-through,
repayments like a U-turn, children's accounts like mules: none of these shapes is guilt.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from riskdistill.simulator.arrays import draw, lognormal
from riskdistill.simulator.clock import MONTH, Window, office_hours, waking_hours
from riskdistill.simulator.habits import Habit, SetUp, busyness, events, whole
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population

TENANTS: Final = 0.6
GIVING: Final = np.array([0.8, 0.7, 0.8, 0.9, 0.8, 0.8, 0.7, 0.7, 0.9, 1.0, 1.5, 2.4])  # by month


def rent(population: Population, rng: np.random.Generator) -> Habit:
    """Three in five households pay the same rent to the same landlord on the same day of each month."""
    people = population.of(Kind.PERSON)
    heads = people[(population.head[people] == people) & (rng.random(len(people)) < TENANTS)]
    amount = whole(population, heads, population.level[heads] * rng.uniform(0.25, 0.45, len(heads)), 5)
    due = rng.integers(1, 6, len(heads))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        who, time = heads[which], day + office_hours(rng, len(which))
        return pay(population, rng, time=time, sender=who, receiver=population.landlord[who], value=amount[which])

    return during


def housekeeping(population: Population, rng: np.random.Generator) -> Habit:
    """Members of a household pay its head a monthly part; the head pays children pocket money each week."""
    people = population.of(Kind.PERSON)
    members = people[population.head[people] != people]
    child = population.child[members]
    part = np.where(child, lognormal(rng, 14, 0.5, len(members)), population.level[members] * 0.3)
    amount = whole(population, members, part, 1)
    due, weekday = rng.integers(1, 29, len(members)), rng.integers(0, 7, len(members))
    adults, children = np.flatnonzero(~child), np.flatnonzero(child)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due[adults])
        on, days = np.nonzero(weekday[children][:, None] == window.weekday[None, :])
        who = np.concatenate([adults[which], children[on]])
        down = np.arange(len(who)) >= len(which)
        member, head = members[who], population.head[members[who]]
        return pay(
            population,
            rng,
            time=np.concatenate([day, window.first + days]) + waking_hours(rng, len(who)),
            sender=np.where(down, head, member),
            receiver=np.where(down, member, head),
            value=amount[who],
        )

    return during


def bills(population: Population, rng: np.random.Generator) -> Habit:
    """Utilities and subscriptions: many people pay few companies every month (collections fan-in)."""
    grown = population.of(Kind.PERSON)
    grown = grown[~population.child[grown]]
    people, biller = np.repeat(grown, population.billers.shape[1]), population.billers[grown].ravel()
    amount = lognormal(rng, 55, 0.7, len(people))
    due = rng.integers(1, 29, len(people))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        value = amount[which] * rng.uniform(0.9, 1.1, len(which))
        time = day + office_hours(rng, len(which))
        return pay(population, rng, time=time, sender=people[which], receiver=biller[which], value=value)

    return during


def shopping(population: Population, rng: np.random.Generator) -> Habit:
    """Purchases at favourite shops, now and then at any shop; dearer for who earns more, more before Christmas."""
    people = population.of(Kind.PERSON)
    rate = 6.0 * busyness(rng, len(people))
    shops = population.pool(Kind.MERCHANT, Kind.PLATFORM)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, people, rate * window.months * window.shopping.mean())
        usual = population.favourites[who, rng.integers(0, population.favourites.shape[1], len(who))]
        other = shops.near(rng, population.country[who], 0.6)
        shop = np.where(rng.random(len(who)) < 0.85, usual, other)
        dear = np.sqrt(population.level[who] / 2800) * (population.level[shop] / 1500) ** 0.3
        value = lognormal(rng, 38, 0.95, len(who)) * dear
        time = window.shopping_days(rng, len(who)) + waking_hours(rng, len(who))
        return pay(population, rng, time=time, sender=who, receiver=shop, value=value)

    return during


def refunds(population: Population, rng: np.random.Generator) -> Habit:
    """Shops pay back what was returned."""
    people = population.of(Kind.PERSON)
    rate = 0.3 * busyness(rng, len(people))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, people, rate * window.months)
        shop = population.favourites[who, rng.integers(0, population.favourites.shape[1], len(who))]
        time = window.working_days(rng, len(who)) + office_hours(rng, len(who))
        return pay(population, rng, time=time, sender=shop, receiver=who, value=lognormal(rng, 50, 1.0, len(who)))

    return during


def cash(population: Population, rng: np.random.Generator) -> Habit:
    """Withdrawals and, less often, deposits of round sums at the own bank's desk."""
    people = population.of(Kind.PERSON)
    out_rate, back_rate = 0.8 * busyness(rng, len(people)), 0.25 * busyness(rng, len(people))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        out, back = (events(rng, people, rate * window.months) for rate in (out_rate, back_rate))
        value = np.append(
            whole(population, out, lognormal(rng, 110, 0.7, len(out)), 20),
            lognormal(rng, 500, 1.3, len(back)),
        )
        sender, receiver = np.append(out, population.desk[back]), np.append(population.desk[out], back)
        time = window.shopping_days(rng, len(sender)) + waking_hours(rng, len(sender))
        return pay(population, rng, time=time, sender=sender, receiver=receiver, value=value)

    return during


def takings(population: Population, rng: np.random.Generator) -> Habit:
    """Merchants, some companies and people with a trade bank their takings.

    Insurers and tills have their limits too: one in three keeps its deposits just below a round sum.
    """
    share = np.zeros(len(population))
    share[population.of(Kind.MERCHANT)], share[population.of(Kind.COMPANY)] = 1.0, 0.2
    share[population.of(Kind.PERSON)] = 0.08
    earners = np.flatnonzero((rng.random(len(population)) < share) & ~population.child)
    rate = np.where(population.kind[earners] == Kind.MERCHANT, 4.0, 2.5) * busyness(rng, len(earners))
    till = draw(rng, np.array([1_000, 3_000, 10_000]), len(earners)) * (rng.random(len(earners)) < 1 / 3)
    usual = lognormal(rng, 1_500, 0.6, len(earners))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        row = np.repeat(np.arange(len(earners)), rng.poisson(rate * window.months))
        who = earners[row]
        value = np.where(
            till[row] > 0, till[row] * population.rate[who] * rng.uniform(0.5, 0.99, len(row)), usual[row]
        )
        value = np.where(till[row] > 0, value, value * lognormal(rng, 1.0, 0.7, len(row)))
        time = window.shopping_days(rng, len(row)) + waking_hours(rng, len(row))
        return pay(population, rng, time=time, sender=population.desk[who], receiver=who, value=value)

    return during


def large_purchases(population: Population, rng: np.random.Generator) -> Habit:
    """Cars, tuition, deposits, repairs: sums of a month's income and more, to a firm or to another person."""
    people = population.of(Kind.PERSON)
    people = people[~population.child[people]]
    rate = 0.2 * busyness(rng, len(people), 1.0)
    sellers = population.pool(Kind.PERSON, Kind.COMPANY, Kind.MERCHANT)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, people, rate * window.months)
        value = population.level[who] * lognormal(rng, 0.5, 0.6, len(who))
        return pay(
            population,
            rng,
            time=window.shopping_days(rng, len(who)) + waking_hours(rng, len(who)),
            sender=who,
            receiver=sellers.near(rng, population.country[who], 0.85),
            value=value,
        )

    return during


def friends(population: Population, rng: np.random.Generator) -> Habit:
    """Payments among contacts and to strangers (second-hand sales); one in eight comes back, as loans do."""
    people = population.of(Kind.PERSON)
    rate = 1.5 * busyness(rng, len(people))
    anybody = population.pool(Kind.PERSON)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, people, rate * window.months)
        contact = population.contacts[who, rng.integers(0, population.contacts.shape[1], len(who))]
        stranger = anybody.near(rng, population.country[who], 0.8)
        friend = np.where(rng.random(len(who)) < 0.75, contact, stranger)
        value = lognormal(rng, 70, 1.2, len(who))
        time = window.shopping_days(rng, len(who)) + waking_hours(rng, len(who))
        loans = rng.random(len(who)) < 1 / 8
        n = int(loans.sum())
        back = np.where(rng.random(n) < 0.6, 1.0, rng.uniform(0.4, 1.0, n))
        later = time[loans] + lognormal(rng, 3.0, 1.0, n)
        return pay(
            population,
            rng,
            time=np.append(time, later),
            sender=np.append(who, friend[loans]),
            receiver=np.append(friend, who[loans]),
            value=np.append(value, value[loans] * back),
        )

    return during


def shared_costs(population: Population, rng: np.random.Generator) -> Habit:
    """Contacts pay one person nearly equal parts within days; half the time that person pays it all on."""
    people = population.of(Kind.PERSON)
    rate = 0.12 * busyness(rng, len(people))
    most = population.contacts.shape[1]

    def during(window: Window, rng: np.random.Generator) -> Payments:
        host = events(rng, people, rate * window.months)
        n = len(host)
        joins = np.arange(most) < rng.integers(3, most + 1, n)[:, None]
        part = lognormal(rng, 60, 1.0, n)
        day = window.shopping_days(rng, n) + waking_hours(rng, n)
        late = rng.gamma(1.5, 0.6, (n, most))
        on = np.flatnonzero(rng.random(n) < 0.5)
        passed = day[on] + late[on].max(axis=1, initial=0.0) + rng.gamma(1.5, 0.5, len(on))
        return pay(
            population,
            rng,
            time=np.append((day[:, None] + late)[joins], passed),
            sender=np.append(population.contacts[host][joins], host[on]),
            receiver=np.append(
                np.broadcast_to(host[:, None], joins.shape)[joins], population.favourites[host[on], 0]
            ),
            value=np.append(
                (part[:, None] * rng.uniform(0.97, 1.03, joins.shape))[joins], part[on] * joins[on].sum(axis=1)
            ),
        )

    return during


def savings_clubs(population: Population, rng: np.random.Generator) -> Habit:
    """Rotating savings: each month all members of a family circle pay the same sum to one of them."""
    people = population.of(Kind.PERSON)
    founders = people[rng.random(len(people)) < 0.008]
    members = np.concatenate([founders[:, None], population.contacts[founders]], axis=1)
    due = rng.integers(1, 29, len(founders))
    deposit = whole(population, founders, lognormal(rng, 150, 0.6, len(founders)), 10)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        turn = members[which, (day // int(MONTH)) % members.shape[1]]
        payers = members[which]
        return pay(
            population,
            rng,
            time=(day[:, None] + rng.gamma(1.5, 0.7, payers.shape)).ravel(),
            sender=payers.ravel(),
            receiver=np.repeat(turn, members.shape[1]),
            value=np.repeat(deposit[which], members.shape[1]),
        )

    return during


def relays(population: Population, rng: np.random.Generator) -> Habit:
    """A relative supports someone who pays most of it on, to a landlord or another relative, in days."""
    people = population.of(Kind.PERSON)
    middle = people[rng.random(len(people)) < 0.06]
    giver, taker = population.contacts[middle, 0], population.contacts[middle, 1]
    taker = np.where(rng.random(len(middle)) < 0.5, taker, population.landlord[middle])
    support, due = lognormal(rng, 450, 0.7, len(middle)), rng.integers(1, 29, len(middle))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        received = day + waking_hours(rng, len(day))
        value = support[which] * rng.uniform(0.95, 1.05, len(which))
        kept = rng.beta(1.0, 12.0, len(which))
        return pay(
            population,
            rng,
            time=np.append(received, received + lognormal(rng, 0.6, 0.9, len(which))),
            sender=np.append(giver[which], middle[which]),
            receiver=np.append(middle[which], taker[which]),
            value=np.append(value, value * (1 - kept)),
        )

    return during


def coins(population: Population, rng: np.random.Generator) -> Habit:
    """One person in eight buys and sells coins at an exchange."""
    people = population.of(Kind.PERSON)
    keen = people[rng.random(len(people)) < 0.12]
    rate = 2.0 * busyness(rng, len(keen))
    exchanges = population.pool(Kind.EXCHANGE)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, keen, rate * window.months)
        exchange = exchanges.draw(rng, len(who))
        buys = rng.random(len(who)) < 0.6
        return pay(
            population,
            rng,
            time=window.any_days(rng, len(who)) + waking_hours(rng, len(who)),
            sender=np.where(buys, who, exchange),
            receiver=np.where(buys, exchange, who),
            value=lognormal(rng, 220, 1.2, len(who)),
        )

    return during


def gifts(population: Population, rng: np.random.Generator) -> Habit:
    """One person in five gives to a charity every month, others now and then, most before Christmas."""
    people, charities = population.of(Kind.PERSON), population.pool(Kind.CHARITY)
    members = people[rng.random(len(people)) < 0.2]
    cause = charities.near(rng, population.country[members], 0.8)
    amount, due = (
        whole(population, members, lognormal(rng, 15, 0.6, len(members)), 5),
        rng.integers(1, 29, len(members)),
    )
    rate = 0.08 * busyness(rng, len(people))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        season = GIVING[(window.start.month - 1 + (window.first + window.season_shift) // int(MONTH)) % 12]
        now = events(rng, people, rate * window.months * season)
        once = whole(population, now, lognormal(rng, 40, 1.0, len(now)), 5)
        return pay(
            population,
            rng,
            time=np.append(day, window.any_days(rng, len(now))) + waking_hours(rng, len(which) + len(now)),
            sender=np.append(members[which], now),
            receiver=np.append(cause[which], charities.near(rng, population.country[now], 0.8)),
            value=np.append(amount[which], once),
        )

    return during


HABITS: Final[tuple[SetUp, ...]] = (
    rent,
    housekeeping,
    bills,
    shopping,
    refunds,
    cash,
    takings,
    large_purchases,
    friends,
    shared_costs,
    savings_clubs,
    relays,
    coins,
    gifts,
)
