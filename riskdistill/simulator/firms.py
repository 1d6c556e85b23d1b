"""What firms do with money: payroll, invoices, freelancers, payouts, agents, subcontracts, supply, treasury.

Payroll, payouts and grants look like a fan-out, agents like a gather-scatter or a pass-through, subcontracts like a
scatter-gather, supply rounds like a bipartite or a stack, treasury circles like a cycle: none of these shapes is
guilt.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from riskdistill.simulator.arrays import Ints, draw, lognormal
from riskdistill.simulator.clock import Window, office_hours
from riskdistill.simulator.habits import Habit, SetUp, busyness, events
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population

PAY_DAYS: Final = np.array([1, 15, 25, 28])
FIRMS: Final = (Kind.COMPANY, Kind.MERCHANT)


def payroll(population: Population, rng: np.random.Generator) -> Habit:
    """An employer pays all its people on its pay day, within an hour; one in eight works by the fortnight."""
    people = population.of(Kind.PERSON)
    people = people[~population.child[people]]
    staff = people[rng.random(len(people)) < 0.85]
    boss = population.employer[staff]
    due = draw(rng, PAY_DAYS, len(population))[boss]
    hour = office_hours(rng, len(population))
    fortnightly = np.flatnonzero(rng.random(len(staff)) < 1 / 8)
    row = np.append(np.arange(len(staff)), fortnightly)
    on = np.append(due, (due[fortnightly] + 13) % 28 + 1)
    share = np.where(np.isin(row, fortnightly), 0.5, 1.0)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(on)
        who, payer = staff[row[which]], boss[row[which]]
        return pay(
            population,
            rng,
            time=day + hour[payer] + rng.uniform(0, 1 / 24, len(who)),
            sender=payer,
            receiver=who,
            value=population.level[who] * share[which] * rng.normal(1.0, 0.02, len(who)).clip(0.9, 1.1),
        )

    return during


def invoices(population: Population, rng: np.random.Generator) -> Habit:
    """Firms pay suppliers, mostly known ones, on working days; large invoices are rare and very large."""
    firms, others = population.of(*FIRMS), population.pool(*FIRMS)
    rate = 7.0 * busyness(rng, len(firms), 0.5)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, firms, rate * window.months)
        usual = population.suppliers[who, rng.integers(0, population.suppliers.shape[1], len(who))]
        new = others.near(rng, population.country[who], 0.6)
        return pay(
            population,
            rng,
            time=window.working_days(rng, len(who)) + office_hours(rng, len(who)),
            sender=who,
            receiver=np.where(rng.random(len(who)) < 0.88, usual, new),
            value=population.level[who] * lognormal(rng, 0.6, 1.1, len(who)),
        )

    return during


def freelancers(population: Population, rng: np.random.Generator) -> Habit:
    """Firms pay people who are not on the payroll, for work, expenses or damages; seldom the same twice."""
    firms, people = population.pool(*FIRMS, weights=population.level), population.pool(Kind.PERSON)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = firms.draw(rng, rng.poisson(0.8 * len(firms) * window.months))
        return pay(
            population,
            rng,
            time=window.working_days(rng, len(who)) + office_hours(rng, len(who)),
            sender=who,
            receiver=people.near(rng, population.country[who], 0.8),
            value=lognormal(rng, 300, 1.2, len(who)),
        )

    return during


def payouts(population: Population, rng: np.random.Generator) -> Habit:
    """Marketplaces pay their sellers, people and merchants, once a week: a fan-out of uneven amounts."""
    sellers = population.of(Kind.PERSON, Kind.MERCHANT)
    sellers = sellers[rng.random(len(sellers)) < 0.09]
    platform = population.pool(Kind.PLATFORM).draw(rng, len(sellers))
    weekday = rng.integers(0, 7, len(population))[platform]
    turnover = lognormal(rng, 160, 0.8, len(sellers))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who, day = np.nonzero(weekday[:, None] == window.weekday[None, :])
        sells = rng.random(len(who)) < 0.75
        who, day = who[sells], day[sells]
        return pay(
            population,
            rng,
            time=window.first + day + office_hours(rng, len(who)),
            sender=platform[who],
            receiver=sellers[who],
            value=turnover[who] * lognormal(rng, 1.0, 0.5, len(who)),
        )

    return during


def agents(population: Population, rng: np.random.Generator) -> Habit:
    """Brokers, notaries and escrow agents take a client's money and pass it on, less a fee, within days.

    One in three settlements goes to several payees.
    """
    companies = population.of(Kind.COMPANY)
    agent_level = np.where(rng.random(len(population)) < 1 / 12, 1.0, 0.0)
    agent_level[companies[0]] = 1.0  # there is at least one
    agent_pool = population.pool(Kind.COMPANY, weights=agent_level)
    clients = population.pool(Kind.PERSON, *FIRMS)

    def during(window: Window, rng: np.random.Generator) -> Payments:
        n = rng.poisson(0.12 * len(clients) * window.months)
        client = clients.draw(rng, n)
        agent = agent_pool.near(rng, population.country[client], 0.0)
        value, time = lognormal(rng, 900, 1.2, n), window.working_days(rng, n) + office_hours(rng, n)
        payees = np.where(rng.random(n) < 1 / 3, rng.integers(2, 5, n), 1)
        row = np.repeat(np.arange(n), payees)
        weight = rng.gamma(4.0, 1.0, len(row))
        part = weight / np.bincount(row, weight, minlength=n)[row]
        net = value * (1 - rng.uniform(0.0, 0.05, n))
        return pay(
            population,
            rng,
            time=np.append(time, time[row] + lognormal(rng, 0.8, 0.8, len(row))),
            sender=np.append(client, agent[row]),
            receiver=np.append(agent, clients.near(rng, population.country[client[row]], 0.85)),
            value=np.append(value, net[row] * part),
        )

    return during


def subcontracts(population: Population, rng: np.random.Generator) -> Habit:
    """A firm pays three to six subcontractors, who within days pay the same one or two wholesalers for material."""
    firms, wide = population.of(*FIRMS), population.suppliers.shape[1]
    builders = firms[rng.random(len(firms)) < 0.12]
    rate = 0.9 * busyness(rng, len(builders))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        who = events(rng, builders, rate * window.months)
        n = len(who)
        works = np.arange(wide) < rng.integers(3, wide + 1, n)[:, None]
        value = population.level[who][:, None] * lognormal(rng, 0.5, 0.7, works.shape)
        time = (window.working_days(rng, n) + office_hours(rng, n))[:, None] + rng.gamma(1.5, 0.4, works.shape)
        sub = population.suppliers[who]
        shop = population.suppliers[sub[:, 0]][:, :2]  # both wholesalers are the first subcontractor's own
        shop = np.take_along_axis(shop, rng.integers(0, 2, works.shape), axis=1)
        later = time + rng.gamma(1.5, 0.8, works.shape)
        return pay(
            population,
            rng,
            time=np.append(time[works], later[works]),
            sender=np.append(np.broadcast_to(who[:, None], works.shape)[works], sub[works]),
            receiver=np.append(sub[works], shop[works]),
            value=np.append(value[works], (value * rng.uniform(0.5, 0.98, works.shape))[works]),
        )

    return during


def supply_rounds(population: Population, rng: np.random.Generator) -> Habit:
    """At a month's end a few buyers settle with their few wholesalers, and these with the producers."""
    firms = population.of(*FIRMS)
    hubs = firms[rng.random(len(firms)) < 0.06]
    buyers = np.stack([hubs, population.suppliers[hubs, 0], population.suppliers[hubs, 1]], axis=1)
    wholesale, produce = (
        population.suppliers[hubs][:, 2:5],
        population.suppliers[population.suppliers[hubs, 2]][:, :3],
    )
    due = rng.integers(24, 29, len(hubs))

    def layer(payers: Ints, payees: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """Which group, payer and payee of each payment of one layer, [groups, 3] on both sides."""
        pays = rng.random((len(payers), 3, 3)) < 0.55
        group, left, right = np.nonzero(pays)
        return group, payers[group, left], payees[group, right]

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        first, buyer, seller = layer(buyers[which], wholesale[which], rng)
        second, resold, producer = layer(wholesale[which], produce[which], rng)
        start = day + office_hours(rng, len(day))
        unit = population.level[hubs[which]] * lognormal(rng, 0.8, 0.5, len(which))
        return pay(
            population,
            rng,
            time=np.append(start[first], 2.0 + start[second]) + rng.gamma(1.5, 0.5, len(first) + len(second)),
            sender=np.append(buyer, resold),
            receiver=np.append(seller, producer),
            value=np.append(unit[first], 0.85 * unit[second]) * lognormal(rng, 1.0, 0.3, len(first) + len(second)),
        )

    return during


def treasury(population: Population, rng: np.random.Generator) -> Habit:
    """Three companies of one group sweep a balance round: each month, almost the same sum, days apart."""
    companies = population.of(Kind.COMPANY)
    heads = companies[rng.random(len(companies)) < 0.1]
    group = np.stack([heads, population.suppliers[heads, 0], population.suppliers[heads, 1]], axis=1)
    due = rng.integers(1, 29, len(heads))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        gaps = lognormal(rng, 1.0, 0.7, (len(which), 3))
        start = (day + office_hours(rng, len(day)))[:, None] + np.cumsum(gaps, axis=1) - gaps
        kept = 1 - rng.beta(1.0, 30.0, (len(which), 3))
        value = population.level[heads][which] * lognormal(rng, 1.5, 0.5, len(which))
        swept = value[:, None] * np.cumprod(kept, axis=1)
        return pay(
            population,
            rng,
            time=start.ravel(),
            sender=group[which].ravel(),
            receiver=np.roll(group[which], -1, axis=1).ravel(),
            value=swept.ravel(),
        )

    return during


def grants(population: Population, rng: np.random.Generator) -> Habit:
    """Charities pay their projects every month, half of them abroad, and firms for what they need."""
    charities, projects = population.of(Kind.CHARITY), population.pool(Kind.PERSON, Kind.COMPANY)
    width = 6
    project = projects.near(rng, np.repeat(population.country[charities][:, None], width, axis=1), 0.5)
    due = rng.integers(1, 29, len(charities))

    def during(window: Window, rng: np.random.Generator) -> Payments:
        which, day = window.monthly(due)
        time = (day + office_hours(rng, len(day)))[:, None] + rng.gamma(1.0, 0.5, (len(day), width))
        return pay(
            population,
            rng,
            time=time.ravel(),
            sender=np.repeat(charities[which], width),
            receiver=project[which].ravel(),
            value=lognormal(rng, 400, 0.9, time.size),
        )

    return during


HABITS: Final[tuple[SetUp, ...]] = (
    payroll,
    invoices,
    freelancers,
    payouts,
    agents,
    subcontracts,
    supply_rounds,
    treasury,
    grants,
)
