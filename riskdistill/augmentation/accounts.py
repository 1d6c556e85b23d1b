"""The accounts of some traffic, to put others in the place of those in a story.

What a row says of an account (the words of `rows.PARTY`) goes with the account; its first row speaks for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import pyarrow as pa

from riskdistill.augmentation.rows import Ints, both_sides, codes, party

Account = tuple[str, str]  # bank and account
SIDES: Final = (("sender", "paid"), ("receiver", "received"))
NONE: Final = -1  # the place of no account


class Accounts:
    """Accounts by the currency in which they were first seen; each has a place, a number by which it is chosen.

    Args:
        traffic: canonical transactions.
        without: accounts that are not to be chosen.
    """

    def __init__(self, traffic: pa.Table, without: Collection[Account] = ()) -> None:
        sides = [said(traffic, side) for side, _ in SIDES]
        self._words = {word: pa.concat_arrays([side[word] for side in sides]) for word in sides[0]}
        _, first = codes([self._words["bank"], self._words["account"]])
        banks, numbers = (self._words[word].take(pa.array(first)).to_pylist() for word in ("bank", "account"))
        held = both_sides(traffic, "currency_paid", "currency_received").take(pa.array(first)).to_pylist()
        chosen = [row for row, name in enumerate(zip(banks, numbers, strict=True)) if name not in without]
        self.name: dict[int, Account] = {int(first[row]): (banks[row], numbers[row]) for row in chosen}
        self._all = np.asarray(list(self.name), dtype=np.int64)
        by_currency: dict[str, list[int]] = {}
        for row in chosen:
            by_currency.setdefault(held[row], []).append(int(first[row]))
        self._holding = {currency: np.asarray(places) for currency, places in by_currency.items()}

    def __len__(self) -> int:
        return len(self._all)

    def other(self, currency: str | None, taken: Collection[Account], rng: np.random.Generator) -> int:
        """The place of an account that holds `currency` (None: any) and is not `taken`; `NONE` without one."""
        free = self._all if currency is None else self._holding.get(currency, self._all[:0])
        if len(free) <= 8 * len(taken):
            free = np.asarray([place for place in free.tolist() if self.name[place] not in taken], dtype=np.int64)
        while len(free):
            place = int(free[rng.integers(len(free))])
            if self.name[place] not in taken:
                return place
        return NONE

    def instead(self, own: dict[str, Any], places: Ints) -> dict[str, Any]:
        """What rows say of a party once the account at `places` [n] stands there; at `NONE` what they say `own`."""
        at = pa.array(np.where(places == NONE, np.arange(len(places)), len(places) + places))
        return {word: pa.concat_arrays([column, self._words[word]]).take(at) for word, column in own.items()}

    def columns(self, transactions: pa.Table, places: Ints) -> dict[str, Any]:
        """The columns of both parties, for `rows.derived`, with other accounts in their place; see `instead`.

        Args:
            places: of the senders and of the receivers, [2, rows].
        """
        changes: dict[str, Any] = {}
        for (side, _), at in zip(SIDES, places, strict=True):
            words = self.instead(party(transactions, side), at)
            changes |= {f"{side}_{word}": column for word, column in words.items()}
        return changes


def said(transactions: pa.Table, side: str) -> dict[str, Any]:
    """What the rows say of their `side` ("sender" or "receiver"): the words of `rows.PARTY`, and the balance."""
    return party(transactions, side) | {"balance": transactions[f"{side}_balance"].combine_chunks()}


def parties(transactions: pa.Table, side: str) -> list[Account]:
    """The account on one side of each row."""
    banks, accounts = (transactions[f"{side}_{word}"].to_pylist() for word in ("bank", "account"))
    return list(zip(banks, accounts, strict=True))
