"""Makes decisions durable without blocking the event loop: one fsync for all that wait at that moment.

While a commit is under way, later decisions gather and go together in the next. A commit that fails fails its
requests, but its decisions are kept, in order, and written first once the log is back, because account state
has seen their transactions: state and log never part. Until then new transactions are refused, as they are while a
commit takes longer than `patience`: the log's server is silent. A transaction that the log has already, which only
another writer can have put there, keeps the decision stored there. Where payloads are kept, a decision and its
encrypted payload are durable together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from time import perf_counter
from typing import Final, NamedTuple

from api.telemetry import logs
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, UnavailableError
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.payloads import PayloadKeys

_logger = logs.logger(__name__)
_MEND: Final = "send the request again in a moment"
Tell = Callable[[Decision | UnavailableError], None]


class _Group(NamedTuple):
    told: Sequence[tuple[Decision, Tell]]  # who waits
    batch: Sequence[Decision]  # what is to be stored, older failures first


class GroupCommit:
    """Writes to `log` from one thread of its own, from `start` to `close`.

    Args:
        log: written to by nobody else in this process.
        retry_seconds: between two tries of a commit that failed.
        payload_keys: encrypt what is kept of requests; None: nothing is.
        patience: seconds after which a log that does not answer counts as away.

    Attributes:
        on_commit: told of each commit: how many decisions, how many seconds, and whether it failed.
        on_free: called when a commit is over, just before the next one begins.
        between: called in the log's thread after each commit, when the loop has been told of it.
    """

    def __init__(
        self,
        log: DecisionLog,
        retry_seconds: float = 1.0,
        payload_keys: PayloadKeys | None = None,
        patience: float = 5.0,
    ) -> None:
        self._log, self._retry_seconds, self._payload_keys = log, retry_seconds, payload_keys
        self.patience = patience
        self._payloads: dict[str, Transaction] = {}  # as they came, by decision
        self.on_commit: Callable[[int, float, bool], None] = lambda _decisions, _seconds, _failed: None
        self.on_free: Callable[[], None] = lambda: None
        self.between: Callable[[], None] = lambda: None
        self._waiting: list[tuple[Decision, Tell]] = []
        self._unstored: dict[str, Decision] = {}  # of commits that failed, by transaction
        self._began: float | None = None  # of the commit that is under way
        self._under_way = 0  # decisions in it
        self._again: asyncio.TimerHandle | None = None  # calls `begin` once more after a commit that failed
        self._loop: asyncio.AbstractEventLoop | None = None  # from `start` on
        self._is_called = False  # whether the loop will call `begin`
        self._closed: asyncio.Future[None] | None = None
        self._work: SimpleQueue[_Group | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way."""
        return self._began is not None

    def __len__(self) -> int:
        """How many decisions are not durable yet."""
        return len(self._waiting) + max(len(self._unstored), self._under_way)

    def check(self) -> None:
        """Raises UnavailableError while the log cannot be written, or does not answer."""
        if self._unstored:
            raise UnavailableError("the decision log cannot be written now", mend=_MEND)
        self.check_answers()

    def check_answers(self) -> None:
        """Raises UnavailableError if the commit that is under way should be over by now."""
        if self._began is not None:
            self.check_since(self._began)

    def check_since(self, asked: float) -> None:
        """Raises UnavailableError if the log, asked at that time of `perf_counter`, should have answered by now."""
        if perf_counter() - asked > self.patience:
            raise UnavailableError("the decision log does not answer", mend=_MEND)

    def check_none_unstored(self, tx_ids: Iterable[str]) -> None:
        """Raises UnavailableError if one of these is decided and kept, but not durable yet.

        To be called before the log is asked for them: what is durable by then, the log tells.
        """
        if not self._unstored.keys().isdisjoint(tx_ids):
            raise UnavailableError("the decision is made, and cannot be stored now", mend=_MEND)

    def store(self, decision: Decision, tell: Tell, received: Transaction | None = None) -> None:
        """Puts `decision` in line, at once; no later one is durable before it.

        Args:
            decision: what is to be durable.
            tell: called with the durable decision on the transaction, this one or the one that the log had already;
                or with the error: it could not be written now.
            received: the transaction with its real account ids, for where payloads are kept.
        """
        self._waiting.append((decision, tell))
        if self._payload_keys is not None and received is not None:
            self._payloads[decision.decision_id] = received
        if self._began is None and self._loop is not None and not self._is_called:
            self._is_called = True
            self._loop.call_soon(self.begin)

    def start(self) -> None:
        """Begins to commit what waits, and to try failed commits again."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self.begin()

    async def close(self) -> None:
        """Commits what is left and ends the thread."""
        if self._loop is not None:
            self._closed = self._loop.create_future()
            self.begin()
            await self._closed
            self._work.put(None)
            self._thread.join()
        if self._unstored:
            _logger.error("%d decisions were never stored, nor answered", len(self._unstored))

    def begin(self) -> None:
        """Commits what waits, if no commit is under way.

        `store` has it called in the loop's next turn; whoever has put all in line that belongs together calls it at
        once, for a turn is as long as whatever else came meanwhile takes.
        """
        self._is_called = False
        if self._began is not None or self._loop is None:
            return
        if self._again is not None:
            self._again.cancel()
            self._again = None
        group = _Group(self._waiting, [*self._unstored.values(), *(decision for decision, _ in self._waiting)])
        if not group.batch:
            self._over()
            return
        self._waiting, self._began, self._under_way = [], perf_counter(), len(group.batch)
        self._work.put(group)

    def _run(self) -> None:
        """What the thread does: stores one group after another, and has the loop told."""
        assert self._loop is not None
        while (group := self._work.get()) is not None:
            try:
                known, error = self._append(group.batch), None
            except Exception as failure:
                known, error = {}, failure
            self._loop.call_soon_threadsafe(self._end, group, known, error)
            self.between()

    def _end(self, group: _Group, known: Mapping[str, Decision], error: Exception | None) -> None:
        assert self._began is not None
        assert self._loop is not None
        seconds, self._began, self._under_way = perf_counter() - self._began, None, 0
        if error is None:
            self._unstored = {}
            for decision in group.batch:
                self._payloads.pop(decision.decision_id, None)
        else:
            _logger.error("the decision log cannot be written: %s", logs.about(error))
            self._unstored = {decision.tx_id: decision for decision in group.batch}
        _tell_all(group.told, known, bool(error))
        self._loop.call_soon(self._go_on, error is not None)  # behind those who were told just now
        self.on_commit(len(group.batch), seconds, bool(error))

    def _go_on(self, failed: bool) -> None:
        """What comes after a commit: the next one, with all that can be decided by now."""
        assert self._loop is not None
        self.on_free()
        if not failed or self._waiting:
            self.begin()
        elif self._closed is None and self._began is None and self._again is None:
            self._again = self._loop.call_later(self._retry_seconds, self.begin)
        if failed:
            self._over()

    def _over(self) -> None:
        """Lets `close` go on, once nothing waits or what waits cannot be stored."""
        if self._closed is not None and self._began is None and not self._closed.done():
            self._closed.set_result(None)

    def _append(self, batch: Sequence[Decision]) -> dict[str, Decision]:
        """Stores all of `batch` whose transactions the log has not; gives the decisions that it had."""
        known: dict[str, Decision] = {}
        while left := [decision for decision in batch if decision.tx_id not in known]:
            try:
                self._write(left)
                break
            except ConflictError:
                found = self._log.by_txs([decision.tx_id for decision in left])
                if not found:
                    raise
                known |= found  # and once more: while these were read, another writer may have stored others
        if known:
            _logger.info("another writer had stored decisions on %d of %d transactions", len(known), len(batch))
        return known

    def _write(self, batch: Sequence[Decision]) -> None:
        if self._payload_keys is None:
            self._log.append(batch)
            return
        sealed = {
            decision.decision_id: self._payload_keys.seal(decision.decision_id, received.model_dump_json().encode())
            for decision in batch
            if (received := self._payloads.get(decision.decision_id))
        }
        self._log.append(batch, sealed)


def _tell_all(group: Sequence[tuple[Decision, Tell]], known: Mapping[str, Decision], failed: bool) -> None:
    """Tells of each decision what the log has now: this one, the one that it had already, or nothing new."""
    for decision, tell in group:
        try:
            if failed:
                tell(UnavailableError("the decision log could not be written", mend=_MEND))
            else:
                tell(known.get(decision.tx_id, decision))
        except Exception:  # what others wait for must not end with it
            _logger.exception("nobody could be told of decision %s", decision.decision_id)
