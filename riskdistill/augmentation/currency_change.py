"""The same payments in another currency."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.accounts import SIDES
from riskdistill.augmentation.perturbation import Conserved, Perturbation
from riskdistill.augmentation.rows import Ints, amounts, balance_columns, balances, derived, first_rows, pc, stories
from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.data.schema import MAX_AMOUNT

CODES: Final = np.array(CURRENCY_CODES)
RATES: Final = np.array(list(USD_PER_UNIT.values()))
DECIMALS: Final = np.array([8 if code in ("XBT", "XET") else 2 for code in CURRENCY_CODES])  # of the smallest unit


class CurrencyChange(Perturbation):
    """In a story, all that was in the currency of its first payment is in another one, at the fixed rates.

    Amounts and balances are rounded to the new currency's smallest unit, and an amount is at least one. The new
    currency is one of the ordinary traffic, as often as it is used there: one that nobody else uses would tell the
    made rows from the real ones. It is none of the story's own, whose rates may not be the fixed ones. A story
    for which there is no such currency, or whose amounts it could not hold, is not told anew.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset(
        {"value", "count", "accounts", "shape", "time_order", "gaps", "times"}
    )

    name: Literal["currency_change"] = "currency_change"

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        story, held = stories(labels), _currencies(transactions)
        new = _drawn(held, story, _currencies(ordinary), rng)[story]
        old = held[0][first_rows(story)]
        moves, rate, decimals = held == old, RATES[old] / RATES[new], DECIMALS[new]
        was, had = amounts(transactions), balances(transactions)
        least = np.where(was > 0, 10.0**-decimals, 0)
        amount = np.where(moves, np.maximum(np.round(was * rate * 10.0**decimals) / 10.0**decimals, least), was)
        has = np.where(moves, np.round(had * rate * 10.0**decimals) / 10.0**decimals, had)
        too_large = (amount > MAX_AMOUNT).any(axis=0)
        rows = np.flatnonzero((new >= 0) & ~np.isin(story, story[too_large]))
        paid, received = (pa.array(code, pa.string()) for code in CODES[np.where(moves, new, held)[:, rows]])
        return derived(
            self.name,
            transactions,
            labels,
            rows,
            amount_paid=amount[0, rows],
            amount_received=amount[1, rows],
            currency_paid=paid,
            currency_received=received,
            **balance_columns(has[:, rows]),
        )


def _currencies(transactions: pa.Table) -> Ints:
    """The numbers of the currencies paid and received, [2, rows]."""
    known = pa.array(CURRENCY_CODES)
    held = [pc.index_in(transactions[f"currency_{word}"], value_set=known) for _, word in SIDES]
    return np.stack([np.asarray(number.to_numpy(), dtype=np.int64) for number in held])


def _drawn(held: Ints, story: Ints, used: Ints, rng: np.random.Generator) -> Ints:
    """For each story a currency out of `used` that it does not hold; -1 where there is none."""
    stories_told = int(story.max(initial=-1)) + 1
    weight = np.tile(np.bincount(used.ravel(), minlength=len(CURRENCY_CODES)).astype(np.float64), (stories_told, 1))
    weight[np.tile(story, 2), held.ravel()] = 0
    reached = np.cumsum(weight, axis=1)
    drawn = (reached <= rng.random((stories_told, 1)) * reached[:, -1:]).sum(axis=1)
    return np.where(reached[:, -1] > 0, drawn, -1)
