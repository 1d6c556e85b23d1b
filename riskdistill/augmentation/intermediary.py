"""The same payment through one more account."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import PARTY, Ints, codes, derived, numbers, party, room, stories, times
from riskdistill.data.schema import MAX_AMOUNT


class Intermediary(Perturbation):
    """The sender pays an account in between, which pays the same amount on within `max_hours`.

    The account between is another party of the rows given, or a new one where they name too few; it holds
    the currency that was paid. In a scheme the money arrives before the scheme's next payment. By default
    only laundering is told this way: an honest payment through a stranger would be a new story.
    """

    conserves: ClassVar[frozenset[Conserved]] = frozenset({"amount", "time_order"})

    name: Literal["intermediary"] = "intermediary"
    among: Literal["laundering", "ordinary", "all"] = "laundering"
    max_hours: Hours = 24.0

    def apply(
        self, transactions: pa.Table, labels: pa.Table, rng: np.random.Generator
    ) -> tuple[pa.Table, pa.Table]:
        """The perturbed copies and their labels, as `Perturbation.apply` says."""
        n = transactions.num_rows
        time = times(transactions)
        held = room(stories(labels), time, self.max_hours * MICROSECONDS_AN_HOUR) * rng.uniform(0.05, 1, n)
        sides = {side: party(transactions, side) for side in ("sender", "receiver")}
        between = _between(transactions, sides["sender"], sides["receiver"], rng)
        changes: dict[str, Any] = {"timestamp": np.append(time, time + np.floor(held).astype(np.int64))}
        for word in PARTY:
            mules = between[word]
            changes[f"receiver_{word}"] = mules + sides["receiver"][word].to_pylist()
            changes[f"sender_{word}"] = sides["sender"][word].to_pylist() + mules
        for word in ("amount", "currency"):
            paid = transactions[f"{word}_paid"].to_pylist()
            changes[f"{word}_received"] = paid + transactions[f"{word}_received"].to_pylist()
        had = np.array(between["balance"], np.float64)
        has = np.minimum(had + numbers(transactions, "amount_paid"), MAX_AMOUNT)
        changes["receiver_balance"] = np.append(had, numbers(transactions, "receiver_balance"))
        changes["sender_balance"] = np.append(numbers(transactions, "sender_balance"), has)
        return derived(self.name, transactions, labels, np.tile(np.arange(n), 2), **changes)


def _between(
    transactions: pa.Table, sender: dict[str, Any], receiver: dict[str, Any], rng: np.random.Generator
) -> dict[str, list[Any]]:
    """The words of PARTY and the balance of an account for each row that is neither its sender nor its receiver.

    A balance in another currency than what was paid says nothing here: the sender's stands for it.
    """
    n = transactions.num_rows
    both = {word: [*sender[word].to_pylist(), *receiver[word].to_pylist()] for word in PARTY}
    paid, received = (transactions[f"currency_{side}"].to_pylist() for side in ("paid", "received"))
    of_sender, of_receiver = (transactions[f"{side}_balance"].to_pylist() for side in ("sender", "receiver"))
    number, first = codes([pa.array(both["bank"], pa.string()), pa.array(both["account"], pa.string())])
    if len(first) > 2:
        chosen = first[_others(number[:n], number[n:], len(first), rng)]
        currencies, balances = paid + received, of_sender + of_receiver
        own = [balances[row] if currencies[row] == paid[at] else of_sender[at] for at, row in enumerate(chosen)]
        return {word: [both[word][row] for row in chosen] for word in PARTY} | {"balance": own}
    new = {word: both[word][:n] for word in PARTY}
    return new | {"account": [f"{account}~between" for account in new["account"]], "balance": of_sender}


def _others(sender: Ints, receiver: Ints, parties: int, rng: np.random.Generator) -> Ints:
    """For each row one of at least three parties, neither the sender nor the receiver, all equally likely."""
    low, high = np.minimum(sender, receiver), np.maximum(sender, receiver)
    taken = 1 + (low != high)
    chosen = np.floor(rng.random(len(low)) * (parties - taken)).astype(np.int64)
    chosen += chosen >= low
    return np.asarray(chosen + ((low != high) & (chosen >= high)))
