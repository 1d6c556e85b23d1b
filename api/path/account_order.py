"""Stores no decision before those that it rests on.

Features read the records of the sender and the receiver only. So a decision rests on the transactions seen
earlier on one of its two accounts, and through theirs on others. If it became durable while one of those waits
for the teacher, and the process died then, a replay would lack what it was decided on. Therefore it waits until
they are in line to be stored; all others pass. The wait is bounded by their deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from riskdistill.data.transaction import Transaction

_Account = tuple[str, str]


class Turn:
    """One decision's place behind the earlier ones on its accounts."""

    def __init__(self, newest: dict[_Account, Turn], accounts: Iterable[_Account]) -> None:
        self._newest, self._accounts = newest, frozenset(accounts)
        self._before = [newest[account] for account in self._accounts if account in newest]
        self._over = asyncio.Event()
        newest.update(dict.fromkeys(self._accounts, self))

    async def come(self) -> None:
        """Returns when the earlier decisions on these accounts are over."""
        for earlier in self._before:
            await earlier._over.wait()
        self._before = []  # or each would keep all those before it

    def end(self) -> None:
        """Lets the later ones pass: this decision is in line to be stored, or will never be."""
        self._over.set()
        for account in self._accounts:
            if self._newest.get(account) is self:
                del self._newest[account]


class AccountOrder:
    """The order, account by account, in which state saw the transactions that are under way."""

    def __init__(self) -> None:
        self._newest: dict[_Account, Turn] = {}

    def enter(self, transaction: Transaction) -> Turn:
        """The turn of `transaction`, which state has just seen. It must be ended."""
        return Turn(self._newest, _accounts(transaction))

    def is_free(self, transaction: Transaction) -> bool:
        """Whether nothing is under way on the accounts of `transaction`: it needs no turn if it is stored now."""
        return not self._newest or self._newest.keys().isdisjoint(_accounts(transaction))


def _accounts(transaction: Transaction) -> tuple[_Account, _Account]:
    return (
        (transaction.sender_bank, transaction.sender_account),
        (transaction.receiver_bank, transaction.receiver_account),
    )
