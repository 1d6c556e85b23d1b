"""What firms do with money: payroll, invoices, freelancers, marketplace payouts, agents, treasury.

Payroll and payouts look like a fan-out, agents like a gather-scatter or a pass-through, treasury circles like
a cycle: none of these shapes is guilt.
"""

from __future__ import annotations

import numpy as np

from riskdistill.simulator.arrays import draw, lognormal
from riskdistill.simulator.clock import Clock, office_hours
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population, near

PAY_DAYS = np.array([1, 15, 25, 28])


def payroll(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """An employer pays all its people on its pay day, within an hour; one in eight works by the fortnight."""
    people = population.of(Kind.PERSON)
    staff = people[rng.random(len(people)) < 0.85]
    due = draw(rng, PAY_DAYS, len(population))
    hour = office_hours(rng, len(population))
    fortnightly = rng.random(len(staff)) < 1 / 8
    which, day = clock.monthly(due[population.employer[staff]])
    again, mid_month = clock.monthly((due[population.employer[staff[fortnightly]]] + 13) % 28 + 1)
    row = np.concatenate([which, np.flatnonzero(fortnightly)[again]])
    who, share = staff[row], np.where(fortnightly[row], 0.5, 1.0)
    boss = population.employer[who]
    return pay(
        population,
        rng,
        time=np.concatenate([day, mid_month]) + hour[boss] + rng.uniform(0, 1 / 24, len(who)),
        sender=boss,
        receiver=who,
        value=population.level[who] * share * rng.normal(1.0, 0.02, len(who)).clip(0.9, 1.1),
    )


def invoices(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Firms pay suppliers, mostly known ones, on working days; large invoices are rare and very large."""
    firms = population.of(Kind.COMPANY, Kind.MERCHANT)
    per_month = 7.0 * rng.gamma(2.0, 0.5, len(firms))
    who = np.repeat(firms, rng.poisson(per_month * clock.days / 30))
    usual = population.suppliers[who, rng.integers(0, population.suppliers.shape[1], len(who))]
    new = near(rng, population.country, who, firms, 0.6)
    supplier = np.where(rng.random(len(who)) < 0.88, usual, new)
    return pay(
        population,
        rng,
        time=clock.working_days(rng, len(who)) + office_hours(rng, len(who)),
        sender=who,
        receiver=supplier,
        value=population.level[who] * lognormal(rng, 0.6, 1.1, len(who)),
    )


def freelancers(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Firms pay people who are not on the payroll, for work, expenses or damages; seldom the same twice."""
    firms = population.of(Kind.COMPANY, Kind.MERCHANT)
    who = draw(rng, firms, rng.poisson(0.8 * len(firms) * clock.days / 30), population.level[firms])
    return pay(
        population,
        rng,
        time=clock.working_days(rng, len(who)) + office_hours(rng, len(who)),
        sender=who,
        receiver=near(rng, population.country, who, population.of(Kind.PERSON), 0.8),
        value=lognormal(rng, 300, 1.2, len(who)),
    )


def payouts(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Marketplaces pay their sellers, people and merchants, once a week: a fan-out of uneven amounts."""
    platforms = population.of(Kind.PLATFORM)
    sellers = population.of(Kind.PERSON, Kind.MERCHANT)
    sellers = sellers[rng.random(len(sellers)) < 0.09]
    platform = draw(rng, platforms, len(sellers))
    weekday = rng.integers(0, 7, len(population))
    weeks = np.arange(clock.days // 7 + 1)
    day = 7 * weeks[:, None] + weekday[platform][None, :]
    sells = (day < clock.days) & (rng.random(day.shape) < 0.75)
    who = np.broadcast_to(np.arange(len(sellers)), day.shape)[sells]
    turnover = lognormal(rng, 160, 0.8, len(sellers))
    return pay(
        population,
        rng,
        time=day[sells] + office_hours(rng, len(who)),
        sender=platform[who],
        receiver=sellers[who],
        value=turnover[who] * lognormal(rng, 1.0, 0.5, len(who)),
    )


def agents(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Brokers, notaries and escrow agents take a client's money and pass it on, less a fee, within days.

    One in three settlements goes to several payees.
    """
    companies = population.of(Kind.COMPANY)
    agent_pool = companies[: max(1, len(companies) // 12)]
    clients = population.of(Kind.PERSON, Kind.COMPANY, Kind.MERCHANT)
    n = rng.poisson(0.12 * len(clients) * clock.days / 30)
    client = draw(rng, clients, n)
    agent = near(rng, population.country, client, agent_pool, 0.95)
    value = lognormal(rng, 900, 1.2, n)
    time = clock.working_days(rng, n) + office_hours(rng, n)
    payees = np.where(rng.random(n) < 1 / 3, rng.integers(2, 5, n), 1)
    row = np.repeat(np.arange(n), payees)
    weight = rng.gamma(4.0, 1.0, len(row))
    part = weight / np.bincount(row, weight, minlength=n)[row]
    net = value * (1 - rng.uniform(0.0, 0.05, n))
    return Payments.concat(
        [
            pay(population, rng, time=time, sender=client, receiver=agent, value=value),
            pay(
                population,
                rng,
                time=time[row] + lognormal(rng, 0.8, 0.8, len(row)),
                sender=agent[row],
                receiver=near(rng, population.country, client[row], clients, 0.85),
                value=net[row] * part,
            ),
        ]
    )


def treasury(population: Population, clock: Clock, rng: np.random.Generator) -> Payments:
    """Three companies of one group sweep a balance round: each month, almost the same sum, days apart."""
    companies = population.of(Kind.COMPANY)
    heads = companies[rng.random(len(companies)) < 0.1]
    group = np.stack([heads, population.suppliers[heads, 0], population.suppliers[heads, 1]], axis=1)
    which, day = clock.monthly(rng.integers(1, 29, len(heads)))
    start = day + office_hours(rng, len(day))
    value = population.level[heads][which] * lognormal(rng, 1.5, 0.5, len(which))
    hops = []
    for hop in range(3):
        payer, payee = group[which, hop], group[which, (hop + 1) % 3]
        hops.append(pay(population, rng, time=start, sender=payer, receiver=payee, value=value))
        start = start + lognormal(rng, 1.0, 0.7, len(which))
        value = value * (1 - rng.beta(1.0, 30.0, len(which)))
    return Payments.concat(hops)


HABITS = (payroll, invoices, freelancers, payouts, agents, treasury)
