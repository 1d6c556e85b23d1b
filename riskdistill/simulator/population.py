"""Who lives in the simulated world: accounts with a bank, country, currency, income and standing relations.

People, companies, merchants, marketplace platforms, coin exchanges, and one cash desk per bank, through
which notes enter and leave accounts. Nothing in an account's name tells what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.simulator.arrays import Floats, Ints, draw, lognormal

# Country, its currency, its share of accounts, its price level.
COUNTRIES: Final = (
    ("US", "USD", 0.34, 1.0),
    ("DE", "EUR", 0.20, 0.95),
    ("GB", "GBP", 0.16, 1.0),
    ("FR", "EUR", 0.12, 0.9),
    ("PL", "PLN", 0.10, 0.6),
    ("CH", "CHF", 0.08, 1.4),
)
RATE: Final = np.array([USD_PER_UNIT[code] for code in CURRENCY_CODES])


class Kind(IntEnum):
    """What an account's holder is."""

    PERSON = 0
    COMPANY = 1
    MERCHANT = 2
    PLATFORM = 3
    EXCHANGE = 4
    CASH_DESK = 5


@dataclass(frozen=True)
class Population:
    """Arrays over accounts; relations hold positions of other accounts.

    level: an individual's monthly income or a firm's usual invoice, in US dollars.
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
    employer: Ints
    landlord: Ints
    contacts: Ints
    favourites: Ints
    suppliers: Ints
    billers: Ints

    def __len__(self) -> int:
        return len(self.name)

    def of(self, *kinds: Kind) -> Ints:
        """Positions of the accounts of these kinds."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    @property
    def rate(self) -> Floats:
        """US dollars per unit of each account's currency."""
        return RATE[self.currency]

    @property
    def desk(self) -> Ints:
        """The cash desk of each account's bank."""
        desks = self.of(Kind.CASH_DESK)
        of_bank = np.empty(len(self.bank_names), dtype=np.int64)
        of_bank[self.bank[desks]] = desks
        return of_bank[self.bank]


def near(
    rng: np.random.Generator,
    country: Ints,
    payers: Ints,
    pool: Ints,
    home: float,
    weights: Floats | None = None,
) -> Ints:
    """For each payer one of `pool`, of its own country with probability `home` where there is one.

    `country` is that of every account of the population; the result has the shape of `payers`.
    """
    weights = np.ones(len(pool)) if weights is None else weights
    chosen = draw(rng, pool, payers.shape, weights)
    stays = rng.random(payers.shape) < home
    for code in range(len(COUNTRIES)):
        local = country[pool] == code
        rows = stays & (country[payers] == code)
        if local.any() and rows.any():
            chosen[rows] = draw(rng, pool[local], int(rows.sum()), weights[local])
    return chosen


def populate(accounts: int, banks: int, rng: np.random.Generator) -> Population:
    """A population of `accounts` accounts at `banks` banks."""
    kind = _kinds(accounts, banks, rng)
    bank_country = _bank_countries(banks, rng)
    bank = _banks(kind, bank_country, rng)
    country = bank_country[bank]
    codes = [CURRENCY_CODES.index(currency) for _, currency, _, _ in COUNTRIES]
    price = np.array([level for *_, level in COUNTRIES])[country]
    person = kind == Kind.PERSON
    level = np.where(person, lognormal(rng, 2800, 0.5, accounts), lognormal(rng, 1500, 0.9, accounts)) * price
    pools = {k: np.flatnonzero(kind == k) for k in Kind}
    people, companies = pools[Kind.PERSON], pools[Kind.COMPANY]
    firms = np.concatenate([companies, pools[Kind.MERCHANT]])
    shops = np.concatenate([pools[Kind.MERCHANT], pools[Kind.PLATFORM]])

    def relations(pool: Ints, k: int, home: float, weights: Floats | None = None) -> Ints:
        payers = np.repeat(np.arange(accounts)[:, None], k, axis=1)
        return near(rng, country, payers, pool, home, weights)

    landlords = np.concatenate([relations(people, 1, 0.98), relations(companies, 1, 0.98)], axis=1)
    return Population(
        name=_names(accounts, rng),
        bank=bank,
        bank_names=tuple(f"B{1000 + i}" for i in range(banks)),
        country=country,
        currency=np.array(codes)[country],
        kind=kind,
        level=level,
        employer=relations(firms, 1, 0.97, _popularity(rng, firms))[:, 0],
        landlord=landlords[np.arange(accounts), rng.integers(0, 2, accounts)],
        contacts=relations(people, 6, 0.85),
        favourites=relations(shops, 8, 0.85, _popularity(rng, shops)),
        suppliers=relations(firms, 6, 0.75, _popularity(rng, firms)),
        billers=relations(companies, 2, 0.97, _popularity(rng, companies)),
    )


def _popularity(rng: np.random.Generator, pool: Ints) -> Floats:
    """A few of `pool` are much sought, most are not (Zipf with exponent 0.8)."""
    return np.asarray(1.0 / (1 + rng.permutation(len(pool))) ** 0.8)


def _kinds(accounts: int, banks: int, rng: np.random.Generator) -> Ints:
    """Kind of each account in random order, so that position tells nothing."""
    counts = {
        Kind.CASH_DESK: banks,
        Kind.EXCHANGE: max(1, accounts // 1000),
        Kind.PLATFORM: max(1, accounts // 500),
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
    """Bank of each account; every bank has exactly one cash desk."""
    weights = np.array([weight for _, _, weight, _ in COUNTRIES])[bank_country]
    weights = weights / np.bincount(bank_country, minlength=len(COUNTRIES))[bank_country]
    weights = weights * lognormal(rng, 1.0, 0.4, len(bank_country))
    bank = draw(rng, np.arange(len(bank_country)), len(kind), weights)
    bank[kind == Kind.CASH_DESK] = np.arange(len(bank_country))
    return bank


def _names(accounts: int, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Distinct account numbers in random order."""
    return np.array([f"{number:010d}" for number in 1_000_000_000 + 37 * rng.permutation(accounts)])
