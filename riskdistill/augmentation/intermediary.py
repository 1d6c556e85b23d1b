"""The same payment through one more account."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.perturbation import MICROSECONDS_AN_HOUR, Conserved, Hours, Perturbation
from riskdistill.augmentation.rows import Ints, codes, derived, room, stories, times

PARTY = ("bank", "account", "country")


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
        n = transactions.num_rows
        time = times(transactions)
        held = room(stories(labels), time, self.max_hours * MICROSECONDS_AN_HOUR) * rng.uniform(0.05, 1, n)
        between = _between(transactions, rng)
        changes: dict[str, Any] = {"timestamp": np.append(time, time + np.floor(held).astype(np.int64))}
        for word, mules in between.items():
            for leg, side in enumerate(("receiver", "sender")):
                kept = transactions[f"{side}_{word}"].to_pylist()
                changes[f"{side}_{word}"] = kept + mules if leg else mules + kept
        for word in ("amount", "currency"):
            paid = transactions[f"{word}_paid"].to_pylist()
            changes[f"{word}_received"] = paid + transactions[f"{word}_received"].to_pylist()
        return derived(self.name, transactions, labels, np.tile(np.arange(n), 2), **changes)


def _between(transactions: pa.Table, rng: np.random.Generator) -> dict[str, list[str | None]]:
    """Bank, account and country of an account for each row that is neither its sender nor its receiver."""
    n = transactions.num_rows
    both = {
        word: [*transactions[f"sender_{word}"].to_pylist(), *transactions[f"receiver_{word}"].to_pylist()]
        for word in PARTY
    }
    party, first = codes([pa.array(both["bank"], pa.string()), pa.array(both["account"], pa.string())])
    chosen = first[_others(party[:n], party[n:], len(first), rng)] if len(first) > 2 else None
    if chosen is not None:
        return {word: [both[word][row] for row in chosen] for word in PARTY}
    return {
        "bank": both["bank"][:n],
        "account": [f"{account}~between" for account in both["account"][:n]],
        "country": both["country"][:n],
    }


def _others(sender: Ints, receiver: Ints, parties: int, rng: np.random.Generator) -> Ints:
    """For each row one of at least three parties, neither the sender nor the receiver, all equally likely."""
    low, high = np.minimum(sender, receiver), np.maximum(sender, receiver)
    taken = 1 + (low != high)
    chosen = np.floor(rng.random(len(low)) * (parties - taken)).astype(np.int64)
    chosen += chosen >= low
    return np.asarray(chosen + ((low != high) & (chosen >= high)))
