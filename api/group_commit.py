"""Makes decisions durable without blocking the event loop: one fsync for all that wait at that moment.

While a commit is under way, later decisions gather and go together in the next. A commit that fails fails its
requests, but its decisions are kept, in order, and written first once the log is back, because account state
has seen their transactions: state and log never part. Until then new transactions are refused. A transaction
that the log has already, which only another writer can have put there, keeps the decision stored there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from riskdistill.errors import ConflictError, UnavailableError
from riskdistill.storage.decisions import Decision, DecisionLog

_logger = logging.getLogger(__name__)
_MEND = "send the request again in a moment"


class GroupCommit:
    """Writes to `log` from one thread of its own, from `start` to `close`."""

    def __init__(self, log: DecisionLog, retry_seconds: float = 1.0) -> None:
        self._log, self._retry_seconds = log, retry_seconds
        self._waiting: list[tuple[Decision, Callable[[Decision | UnavailableError], None]]] = []
        self._unstored: dict[str, Decision] = {}  # of commits that failed, by transaction
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decision-log")

    def check(self) -> None:
        """Raises UnavailableError while the log cannot be written."""
        if self._unstored:
            raise UnavailableError("the decision log cannot be written now", mend=_MEND)

    def check_none_unstored(self, tx_ids: Iterable[str]) -> None:
        """Raises UnavailableError if one of these is decided and kept, but not durable yet.

        To be called before the log is asked for them: what is durable by then, the log tells.
        """
        if not self._unstored.keys().isdisjoint(tx_ids):
            raise UnavailableError("the decision is made, and cannot be stored now", mend=_MEND)

    def store(self, decision: Decision, tell: Callable[[Decision | UnavailableError], None]) -> None:
        """Puts `decision` in line; no later one is durable before it.

        Args:
            tell: called with the durable decision on the transaction, this one or the one that the log had already;
                or with the error: it could not be written now.
        """
        self._waiting.append((decision, tell))
        self._wake.set()

    def start(self) -> None:
        """Begins to commit what waits, and to try failed commits again."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Commits what is left and ends the thread."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._unstored:
            _logger.error("%d decisions were never stored, nor answered", len(self._unstored))
        self._thread.shutdown()

    async def _run(self) -> None:
        while not self._closing:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._retry_seconds if self._unstored else None)
            await self._commit()

    async def _commit(self) -> None:
        self._wake.clear()
        group, self._waiting = self._waiting, []
        batch = [*self._unstored.values(), *(decision for decision, _ in group)]
        known: dict[str, Decision] = {}
        try:
            known = await asyncio.get_running_loop().run_in_executor(self._thread, self._append, batch)
            self._unstored = {}
        except Exception as error:
            _logger.error("the decision log cannot be written: %s", error)
            self._unstored = {decision.tx_id: decision for decision in batch}
        for decision, tell in group:
            if self._unstored:
                tell(UnavailableError("the decision log could not be written", mend=_MEND))
            else:
                tell(known.get(decision.tx_id, decision))

    def _append(self, batch: Sequence[Decision]) -> dict[str, Decision]:
        """Stores all of `batch` whose transactions the log has not; gives the decisions that it had."""
        try:
            self._log.append(batch)
        except ConflictError:
            known = self._log.by_txs([decision.tx_id for decision in batch])
            self._log.append([decision for decision in batch if decision.tx_id not in known])
            _logger.error("another writer had stored decisions on %s", ", ".join(sorted(known)))
            return known
        return {}
