"""Who waits for what: one transaction may be waited for by several requests, one request for many transactions."""

from __future__ import annotations

import asyncio

from api.telemetry.stages import Marks
from riskdistill.data.transaction import Transaction
from riskdistill.errors import UnavailableError
from riskdistill.storage.decisions import Decision

Outcome = Decision | Exception


class Reply:
    """What one request waits for: the outcomes of so many transactions, in its order."""

    __slots__ = ("_left", "_outcomes", "complete")

    def __init__(self, transactions: int) -> None:
        self._outcomes: list[Outcome | None] = [None] * transactions
        self._left = transactions
        self.complete: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def put(self, index: int, outcome: Outcome) -> None:
        """The outcome of one of the transactions."""
        self._outcomes[index] = outcome
        self._left -= 1
        if not self._left and not self.complete.done():  # it is done where the caller went away
            self.complete.set_result([found for found in self._outcomes if found is not None])


class Pending:
    """A transaction that is under way.

    Attributes:
        transaction: with pseudonyms.
        digest: tells its body from others.
        marks: when it arrived, and what it is through with.
        received: as it came, with its real account ids; None where that is not known.
        stored: what the log tells of it, where it may have it already.
        replies: those that wait for it, and its index among the transactions of each.
    """

    __slots__ = ("digest", "marks", "received", "replies", "stored", "transaction")

    def __init__(
        self, transaction: Transaction, digest: str, marks: Marks, received: Transaction | None = None
    ) -> None:
        self.transaction, self.digest, self.marks, self.received = transaction, digest, marks, received
        self.stored: asyncio.Future[dict[str, Decision]] | None = None
        self.replies: list[tuple[Reply, int]] = []

    @property
    def is_looked_up(self) -> bool:
        """Whether it is known what the log has of it."""
        return self.stored is None or self.stored.done()

    @property
    def found(self) -> Outcome | None:
        """What the log told of it, or why it could not be asked; None where it is new. Once it is looked up."""
        if self.stored is None:
            return None
        error = self.stored.exception()
        if error is not None:
            return error if isinstance(error, Exception) else UnavailableError("the look-up was given up")
        return self.stored.result().get(self.transaction.tx_id)

    def tell(self, outcome: Outcome) -> None:
        """Tells all who wait."""
        for reply, index in self.replies:
            reply.put(index, outcome)
