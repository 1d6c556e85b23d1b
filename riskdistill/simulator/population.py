"""Who lives in the simulated world: accounts with a bank, country, currency, income and standing relations.

People in households, companies, merchants, charities, marketplace platforms, coin exchanges, and two counters of
each bank: the cash desk, through which notes enter and leave accounts, and the treasury, which holds savings and
lends. Accounts are opened and closed while the world goes on, and a few sleep for a long time. Nothing in an
account's name tells what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.simulator.arrays import Accounts, Bools, Floats, Ints, Pool, draw, lognormal

# Country, its currency, its share of accounts, its price level.
COUNTRIES: Final = (
    ("US", "USD", 0.32, 1.0),
    ("DE", "EUR", 0.18, 0.95),
    ("GB", "GBP", 0.16, 1.0),
    ("FR", "EUR", 0.11, 0.9),
    ("PL", "PLN", 0.09, 0.6),
    ("CH", "CHF", 0.06, 1.4),
    ("TR", "TRY", 0.05, 0.4),
    ("AE", "AED", 0.03, 1.1),
)
RATE: Final = np.array([USD_PER_UNIT[code] for code in CURRENCY_CODES])
YEAR: Final = 365.0
GROWTH: Final = 0.12  # accounts opened in a year, as a share of all
CHURN: Final = 0.06  # accounts closed in a year
SLEEPERS: Final = 0.03  # accounts that are asleep at the start, and wake at some time or never
HOUSEHOLD: Final = (1, 1, 2, 2, 2, 3, 4)  # people in a household, all equally frequent
CHILDREN: Final = 0.5  # of those who are not the head of their household


class Kind(IntEnum):
    """What an account's holder is."""

    PERSON = 0
    COMPANY = 1
    MERCHANT = 2
    PLATFORM = 3
    CHARITY = 4
    EXCHANGE = 5
    CASH_DESK = 6
    TREASURY = 7


@dataclass(frozen=True)
class Population:
    """Arrays over accounts; relations hold positions of other accounts.

    level: an individual's monthly income or a firm's usual invoice, in US dollars. means: what it can well pay at
    once: a month's income; a firm's payroll and twenty invoices.
    opened, closed: days, negative before the start, inf for never; awake: the day from which it is used.
    changes: how often contact details changed before the start, and the rate at which they go on to, per day.
    head: of the household; for others than people the account itself. child: lives on pocket money.
    employer, landlord: one each; contacts, favourites, suppliers, billers: a fixed number each, [n, k].
    For a firm the relations of people are drawn too, and not used.
    """

    name: npt.NDArray[np.str_]
    bank: Ints
    bank_names: tuple[str, ...]
    country: Ints
    currency: Ints
    kind: Ints
    level: Floats
    means: Floats
    opened: Floats
    closed: Floats
    awake: Floats
    changes: Floats
    change_rate: Floats
    head: Accounts
    child: Bools
    employer: Accounts
    landlord: Accounts
    contacts: Accounts
    favourites: Accounts
    suppliers: Accounts
    billers: Accounts

    def __len__(self) -> int:
        return len(self.name)

    def of(self, *kinds: Kind) -> Ints:
        """Positions of the accounts of these kinds."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    def pool(self, *kinds: Kind, weights: Floats | None = None) -> Pool:
        """The accounts of these kinds, to draw from; `weights` are of all accounts."""
        members = self.of(*kinds)
        return Pool(members, self.country, None if weights is None else weights[members])

    def in_business(self, account: Ints, time: Floats) -> Bools:
        """Whether each account is open and awake at its time."""
        return np.asarray((time >= self.awake[account]) & (time < self.closed[account]))

    @cached_property
    def rate(self) -> Floats:
        """US dollars per unit of each account's currency."""
        return RATE[self.currency]

    @cached_property
    def desk(self) -> Accounts:
        """The cash desk of each account's bank."""
        return self._counter(Kind.CASH_DESK)

    @cached_property
    def treasury(self) -> Accounts:
        """The treasury of each account's bank."""
        return self._counter(Kind.TREASURY)

    def _counter(self, kind: Kind) -> Accounts:
        counters = self.of(kind)
        of_bank = np.empty(len(self.bank_names), dtype=np.int32)
        of_bank[self.bank[counters]] = counters
        return of_bank[self.bank]


def populate(accounts: int, banks: int, days: int, rng: np.random.Generator) -> Population:
    """A population of `accounts` accounts at `banks` banks, for a world of `days` days."""
    kind = _kinds(accounts, banks, rng)
    bank_country = _bank_countries(banks, rng)
    bank = _banks(kind, bank_country, rng)
    head = _households(kind, bank, rng)
    bank = np.where(rng.random(accounts) < 0.8, bank[head], bank)  # most of a household bank together
    country = bank_country[bank]
    codes = [CURRENCY_CODES.index(currency) for _, currency, _, _ in COUNTRIES]
    price = np.array([level for *_, level in COUNTRIES])[country]
    person = kind == Kind.PERSON
    child = person & (head != np.arange(accounts)) & (rng.random(accounts) < CHILDREN)
    level = np.where(person, lognormal(rng, 2800, 0.5, accounts), lognormal(rng, 1500, 0.9, accounts)) * price
    opened, closed, awake = _lives(kind, days, rng)
    people, companies = np.flatnonzero(person), np.flatnonzero(kind == Kind.COMPANY)
    firms = np.flatnonzero((kind == Kind.COMPANY) | (kind == Kind.MERCHANT))
    shops = np.flatnonzero((kind == Kind.MERCHANT) | (kind == Kind.PLATFORM))

    def relations(members: Ints, k: int, home: float, *, sought: bool = True) -> Accounts:
        pool = Pool(members, country, _popularity(rng, len(members)) if sought else None)
        return pool.near(rng, np.repeat(country[:, None], k, axis=1), home)

    level = np.where(child, 0.06, 1.0) * level
    employer = relations(firms, 1, 0.97)[:, 0]
    staff = np.bincount(employer[person & ~child], minlength=accounts)
    landlords = [relations(pool, 1, 0.98, sought=False)[:, 0] for pool in (people, companies)]
    return Population(
        name=_names(accounts, rng),
        bank=bank,
        bank_names=tuple(f"B{1000 + i}" for i in range(banks)),
        country=country,
        currency=np.array(codes)[country],
        kind=kind,
        level=level,
        means=np.where(person, level, 20 * level + 2800 * price * staff),
        opened=opened,
        closed=closed,
        awake=awake,
        changes=rng.poisson(-opened.clip(max=0) / 900) + rng.random(accounts),
        change_rate=rng.gamma(1.0, 1 / 900, accounts),
        head=head,
        child=child,
        employer=employer,
        landlord=np.where(rng.random(accounts) < 0.5, *landlords),
        contacts=relations(people, 6, 0.85, sought=False),
        favourites=relations(shops, 8, 0.85),
        suppliers=relations(firms, 6, 0.75),
        billers=relations(companies, 2, 0.97),
    )


def _popularity(rng: np.random.Generator, n: int) -> Floats:
    """A few are much sought, most are not (Zipf with exponent 0.8)."""
    return np.asarray(1.0 / (1 + rng.permutation(n)) ** 0.8)


def _kinds(accounts: int, banks: int, rng: np.random.Generator) -> Ints:
    """Kind of each account in random order, so that position tells nothing."""
    counts = {
        Kind.CASH_DESK: banks,
        Kind.TREASURY: banks,
        Kind.EXCHANGE: max(1, accounts // 1000),
        Kind.PLATFORM: max(1, accounts // 500),
        Kind.CHARITY: max(1, accounts // 250),
        Kind.MERCHANT: max(3, round(0.06 * accounts)),
        Kind.COMPANY: max(4, round(0.10 * accounts)),
    }
    kinds = np.full(accounts, int(Kind.PERSON))
    special = np.concatenate([np.full(n, int(kind)) for kind, n in counts.items()])
    kinds[: len(special)] = special
    return rng.permutation(kinds)


def _bank_countries(banks: int, rng: np.random.Generator) -> Ints:
    """Country of each bank: one in each country first, the rest by the countries' weights."""
    weights = np.array([weight for _, _, weight, _ in COUNTRIES])
    spread = np.arange(min(banks, len(COUNTRIES)))
    rest = draw(rng, np.arange(len(COUNTRIES)), banks - len(spread), weights)
    return np.concatenate([spread, rest])


def _banks(kind: Ints, bank_country: Ints, rng: np.random.Generator) -> Ints:
    """Bank of each account; every bank has exactly one cash desk and one treasury."""
    weights = np.array([weight for _, _, weight, _ in COUNTRIES])[bank_country]
    weights = weights / np.bincount(bank_country, minlength=len(COUNTRIES))[bank_country]
    weights = weights * lognormal(rng, 1.0, 0.4, len(bank_country))
    bank = np.asarray(draw(rng, np.arange(len(bank_country)), len(kind), weights))
    for counter in (Kind.CASH_DESK, Kind.TREASURY):
        bank[kind == counter] = np.arange(len(bank_country))
    return bank


def _households(kind: Ints, bank: Ints, rng: np.random.Generator) -> Accounts:
    """The head of each person's household; people of one household follow each other in a random order."""
    people = rng.permutation(np.flatnonzero(kind == Kind.PERSON))
    people = people[np.argsort(bank[people], kind="stable")]  # so that most of them live in one country
    sizes = draw(rng, np.array(HOUSEHOLD), len(people))
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)[: len(people)]
    head = np.arange(len(kind), dtype=np.int32)
    head[people] = people[first]
    return head


def _lives(kind: Ints, days: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """When each account is opened, closed and awake; banks' counters and exchanges were always there."""
    n = len(kind)
    lasting = kind >= Kind.EXCHANGE
    opened = -np.minimum(rng.exponential(5 * YEAR, n), 25 * YEAR)
    new = (rng.random(n) < GROWTH * days / YEAR) & ~lasting
    opened = np.floor(np.where(new, rng.random(n) * days, opened))
    closed = np.where(lasting, np.inf, np.maximum(opened, 0) + rng.exponential(YEAR / CHURN, n))
    sleeps = (rng.random(n) < SLEEPERS) & ~lasting & (opened < -YEAR / 2)
    awake = np.where(sleeps, rng.random(n) * 1.5 * days, opened)
    return opened, closed, awake


def _names(accounts: int, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Distinct account numbers in random order."""
    return np.char.mod("%010d", 1_000_000_000 + 37 * rng.permutation(accounts))
