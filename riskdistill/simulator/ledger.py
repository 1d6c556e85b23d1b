"""Balances that add up: every payment posted to its two accounts, in order, to the cent.

A payment that its payer cannot cover is refused and does not happen, laundering or not. At the start of each window
accounts that ran low draw on savings or credit at their bank's treasury, and those with plenty put some away.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from riskdistill.simulator.arrays import Accounts, Bools, Floats, lognormal
from riskdistill.simulator.clock import Window, office_hours
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population

Cents = npt.NDArray[np.int64]
UNLIMITED: Final = np.int64(10**14)  # cents that a counter or exchange may owe: as good as without bound
COUNTER: Final = 1e10  # units of its currency that a counter or exchange has at the start
LOW: Final = 0.15  # of its means: an account with less draws
HIGH: Final = 4.0  # … with more puts away


@numba.njit(nogil=True, cache=True)
def _post(
    balance: Cents,
    limit: Cents,
    sender: Accounts,
    receiver: Accounts,
    paid: Cents,
    received: Cents,
    before: Any,
    happens: Bools,
) -> None:
    for i in range(len(sender)):
        payer, payee = sender[i], receiver[i]
        if balance[payer] - paid[i] < -limit[payer]:
            happens[i] = False
            continue
        happens[i] = True
        before[0, i] = balance[payer]
        before[1, i] = balance[payee]
        balance[payer] -= paid[i]
        balance[payee] += received[i]


class Ledger:
    """The balance of every account, in cents of its currency."""

    def __init__(self, population: Population, rng: np.random.Generator) -> None:
        self.population = population
        self.means = population.means / population.rate  # in units of each account's currency
        held = self.means * lognormal(rng, 0.8, 0.7, len(population))
        counter = population.kind >= Kind.EXCHANGE
        self.counters = counter
        self.balance: Cents = np.round(100 * np.where(counter, COUNTER, held)).astype(np.int64)
        self.patience = np.where(population.kind == Kind.PERSON, 0.4, 1.0)

    def transfers(self, window: Window, inflation: float, rng: np.random.Generator) -> Payments:
        """Payments between accounts and their bank's treasury that bring balances back to what is usual."""
        population, held = self.population, self.balance / 100
        means = self.means * inflation
        acts = ~self.counters & (rng.random(len(held)) < 0.7)
        draws = np.flatnonzero(acts & (held < LOW * means))
        saves = np.flatnonzero(acts & (held > HIGH * means))
        who = np.append(draws, saves)
        wanted = means[who] * rng.uniform(0.5, 1.5, len(who)) * np.where(np.arange(len(who)) < len(draws), 1, 2)
        bank = population.treasury[who]
        inward = np.arange(len(who)) < len(draws)
        moved = np.round(np.abs(wanted - held[who]), -1).clip(10)
        return pay(
            population,
            rng,
            time=window.first + rng.integers(0, min(2, window.days), len(who)) + office_hours(rng, len(who)),
            sender=np.where(inward, bank, who),
            receiver=np.where(inward, who, bank),
            value=moved * population.rate[who],
        )

    def post(self, payments: Payments, paid: Cents, received: Cents, inflation: float) -> tuple[Bools, Floats]:
        """Post payments in the order in which they stand.

        Returns:
            Which of them happen, and the payer's and the payee's balance just before, in units; shape [2, n].
        """
        limit = np.where(self.counters, UNLIMITED, 100 * self.patience * self.means * inflation).astype(np.int64)
        happens, before = np.empty(len(payments), np.bool_), np.zeros((2, len(payments)), np.int64)
        _post(self.balance, limit, payments.sender, payments.receiver, paid, received, before, happens)
        return happens, before / 100
