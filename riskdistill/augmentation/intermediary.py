"""The same payment through one more account."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.accounts import SIDES, Accounts, parties, said
from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import MARK, PARTY, both_sides, derived, numbers, pc, room, stories, times
from riskdistill.data.schema import MAX_AMOUNT


class Intermediary(Perturbation):
    """The sender pays an account in between, which pays the same amount on within `max_hours`.

    The account between is one of ordinary traffic that holds the currency that was paid, or a new one where there
    is none. In a scheme the money arrives before the scheme's next payment. By default only laundering is told
    this way: an honest payment through a stranger would be a new story.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"amount", "time_order"})

    name: Literal["intermediary"] = "intermediary"
    among: Literal["laundering", "ordinary", "all"] = "laundering"
    max_hours: Hours = 24.0

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator, ordinary: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        n = transactions.num_rows
        time = times(transactions)
        held = room(stories(labels), time, self.max_hours * MICROSECONDS_AN_HOUR) * rng.uniform(0.05, 1, n)
        sides = {side: said(transactions, side) for side, _ in SIDES}
        between = _between(transactions, sides["sender"], Accounts(ordinary), rng)
        changes: dict[str, Any] = {"timestamp": np.append(time, time + np.floor(held).astype(np.int64))}
        for word in PARTY:
            changes[f"receiver_{word}"] = pa.concat_arrays([between[word], sides["receiver"][word]])
            changes[f"sender_{word}"] = pa.concat_arrays([sides["sender"][word], between[word]])
        for word in ("amount", "currency"):
            changes[f"{word}_received"] = both_sides(transactions, f"{word}_paid", f"{word}_received")
        had = np.asarray(between["balance"].to_numpy(zero_copy_only=False), np.float64)
        has = np.minimum(had + numbers(transactions, "amount_paid"), MAX_AMOUNT)
        changes["receiver_balance"] = np.append(had, numbers(transactions, "receiver_balance"))
        changes["sender_balance"] = np.append(numbers(transactions, "sender_balance"), has)
        return derived(self.name, transactions, labels, np.tile(np.arange(n), 2), **changes)


def _between(
    transactions: pa.Table, payer: dict[str, Any], others: Accounts, rng: np.random.Generator
) -> dict[str, Any]:
    """What is said of an account for each row that is neither its sender nor its receiver, and of its balance.

    Of a new account the row says what it says of the sender, and of a balance that is not known the sender's.
    """
    pairs = zip(parties(transactions, "sender"), parties(transactions, "receiver"), strict=True)
    currencies = transactions["currency_paid"].to_pylist()
    chosen = [others.other(currency, pair, rng) for currency, pair in zip(currencies, pairs, strict=True)]
    new = pc.binary_join_element_wise(payer["account"], "between", MARK)
    between = others.instead(payer | {"account": new}, np.asarray(chosen, dtype=np.int64))
    return between | {"balance": pc.coalesce(between["balance"], payer["balance"])}
