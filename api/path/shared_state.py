"""Account state that several workers share in Redis, for the event loop of one of them.

Transactions wait in line; one thread takes up to BATCH of them at a time, as they are there, and observes and
scores them in one commit. Whoever waits longer than the deadline is told that the state is away; whatever came of
it then is found by the next to ask (`riskdistill.features.redis_once`). A Redis that is away is asked again every
second, one that lost the state gets it anew from the decision log: neither needs a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from api.path.account_state import StateSource
from api.path.rollout import judge
from api.serving_bundle import ServingBundle, Warm
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import Transaction
from riskdistill.errors import RiskDistillError, StateError, UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import Shadow

if TYPE_CHECKING:
    from riskdistill.features.redis_once import Observation, OnceEngine

_logger = logging.getLogger(__name__)
BATCH: Final = 32  # transactions of one commit: larger ones meet other writers more often
SETTLE_SECONDS: Final = 2.0  # before a state is built from the log: what is under way gets there, teachers included
ORPHAN_SECONDS: Final = 30.0  # after which a worker is taken to have died before it decided
_LOOK_SECONDS: Final = 1.0  # between two looks at Redis when there is nothing to observe
_MEND: Final = "send the request again in a moment"


class Seen(NamedTuple):
    """A transaction as account state saw it the first time, and what this worker's student makes of it."""

    place: int
    encoded: Encoded
    student: Scored
    warm: Warm
    bundle: Bundle  # the one that decides
    transaction: Transaction  # as it was first sent
    shadow: Shadow | None = None  # where the scorer has asked another bundle


T = TypeVar("T")
Adopt = Callable[[Seen], None]


class SharedState:
    """Observes transactions in the shared state, from `start` to `close`.

    Args:
        engine: of this worker alone.
        bundles: whose student scores.
        source: what the state is built from where there is none.
        deadline: seconds that a transaction waits for the state at most, in line and in Redis.

    Attributes:
        adopt: called with each transaction whose worker died before it decided.
        accounts, conflicts, failures: the size of the state; steps computed again, and failed, since the start.
    """

    def __init__(self, engine: OnceEngine, bundles: ServingBundle, source: StateSource, deadline: float) -> None:
        self._engine, self._bundles, self._source, self._deadline = engine, bundles, source, deadline
        self.adopt: Adopt = lambda _seen: None
        self.accounts = self.failures = 0
        self._line: deque[tuple[Transaction, asyncio.Future[Seen | None]]] = deque()
        self._settled: list[str] = []
        self._away: UnavailableError | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="account-state")
        self._next_look = self._next_sweep = 0.0

    def __len__(self) -> int:
        """How many transactions wait."""
        return len(self._line)

    @property
    def conflicts(self) -> int:
        """How many steps were computed again because another worker was faster."""
        return self._engine.conflicts

    def check(self) -> None:
        """Raises UnavailableError while Redis is away, or the state in it is not whole."""
        if self._away is not None:
            raise UnavailableError(self._away.what, where=self._away.where, mend=_MEND)

    async def observe(self, transaction: Transaction) -> Seen | None:
        """How the state sees `transaction`, or saw it first; None if it is decided: then the log has it.

        Raises:
            UnavailableError: the state did not answer within the deadline. Sending it again is safe.
        """
        waiting: asyncio.Future[Seen | None] = asyncio.get_running_loop().create_future()
        self._line.append((transaction, waiting))
        self._wake.set()
        try:
            return await asyncio.wait_for(waiting, self._deadline)
        except TimeoutError as error:
            raise UnavailableError("the account state did not answer in time", mend=_MEND) from error

    def settled(self, tx_id: str) -> None:
        """The decision on this transaction is durable."""
        self._settled.append(tx_id)

    async def start(self, key_digest: str) -> None:
        """Returns when the state is whole and holds what the log holds; waits for a Redis that is away.

        Args:
            key_digest: tells the key of the pseudonyms, of which all workers need the same.

        Raises:
            ConfigError: the others have another.
            StateError: the state cannot be used or built.
        """
        while True:
            try:
                await self._in_thread(self._engine.require_key, key_digest)
                await self._in_thread(self._ensure)
                break
            except UnavailableError as error:
                self._away = error
                _logger.warning("the account state is away: %s", error)
                await asyncio.sleep(_LOOK_SECONDS)
        self._away = None
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Observes what waits, says what is settled, and ends the thread."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()
        self._engine.close()

    async def _run(self) -> None:
        while not self._closing:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
            self._wake.clear()
            try:
                while self._line:
                    await self._turn(self._take())
                if monotonic() >= self._next_look:
                    await self._look()
            except Exception:  # nobody could observe any more if this ended
                _logger.exception("the account state failed unexpectedly")
                await asyncio.sleep(_LOOK_SECONDS)
        with suppress(RiskDistillError):  # or another worker finds it settled in the log
            await self._settle()

    def _take(self) -> list[tuple[Transaction, asyncio.Future[Seen | None]]]:
        batch: list[tuple[Transaction, asyncio.Future[Seen | None]]] = []
        while self._line and len(batch) < BATCH:
            one = self._line.popleft()
            if not one[1].done():  # or its caller does not wait any more
                batch.append(one)
        return batch

    async def _turn(self, batch: Sequence[tuple[Transaction, asyncio.Future[Seen | None]]]) -> None:
        if not batch:
            return
        outcomes: Sequence[Seen | Exception | None]
        try:
            await self._settle()
            outcomes = await self._in_thread(self._step, [transaction for transaction, _ in batch])
            self._away = None
        except RiskDistillError as error:
            self._failed(error)
            assert self._away is not None
            outcomes = [self._away] * len(batch)
            if isinstance(error, StateError):
                await self._heal()
        for (_, waiting), outcome in zip(batch, outcomes, strict=True):
            if waiting.done():
                continue
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)

    async def _look(self) -> None:
        """Sees whether Redis is there, how large the state is, and who left something undone."""
        self._next_look = monotonic() + _LOOK_SECONDS
        try:
            await self._settle()
            if await self._in_thread(self._engine.place) < 0:
                raise StateError("there is no whole account state")
            self.accounts = await self._in_thread(self._engine.accounts)
            self._away = None
            if monotonic() >= self._next_sweep:
                self._next_sweep = monotonic() + ORPHAN_SECONDS / 5
                for seen in await self._in_thread(self._orphans):
                    self.adopt(seen)
        except RiskDistillError as error:
            self._failed(error)
            if isinstance(error, StateError):
                await self._heal()

    def _failed(self, error: RiskDistillError) -> None:
        self.failures += 1
        if self._away is None:
            _logger.error("the account state is away: %s", error)
        self._away = UnavailableError(f"the account state cannot be used now: {error.what}", mend=_MEND)

    async def _heal(self) -> None:
        """Takes the state that others built meanwhile, or builds it."""
        try:
            await self._in_thread(self._ensure)
            self._away = None
        except RiskDistillError as error:
            _logger.error("the account state cannot be built: %s", error)

    async def _settle(self) -> None:
        settled, self._settled = self._settled, []
        if settled:
            try:
                await self._in_thread(self._engine.settled, settled)
            except RiskDistillError:
                self._settled = settled + self._settled
                raise

    def _ensure(self) -> None:
        """Builds the state if there is none that is whole, or if it lacks what the log has. In the thread."""
        self._engine.reset()
        if self._is_whole():
            return
        with self._engine.building():
            self._engine.reset()
            if not self._is_whole():  # or another worker has built it meanwhile
                _logger.warning("the account state is built from the decision log")
                self._engine.establish(self._source.build, SETTLE_SECONDS)

    def _is_whole(self) -> bool:
        known = self._source.last_place()  # before Redis is asked: there, places only go up
        return self._engine.place() >= known

    def _step(self, transactions: Sequence[Transaction]) -> list[Seen | Exception | None]:
        warm = self._bundles.warm
        assert warm is not None  # the service begins with one
        judged: list[list[tuple[Bundle, Scored]]] = []  # of each try of the commit
        try:
            seen = self._engine.observe_once(transactions, lambda new, rows: judged.append(judge(warm, new, rows)))
        except (StateError, UnavailableError):
            raise
        except Exception as error:
            if len(transactions) == 1:
                return [error]
            return [outcome for one in transactions for outcome in self._step([one])]  # finds who is at fault
        all_new = all(one.is_new for one in seen)  # then the last scores are theirs
        return [self._seen(one, judged[-1][at] if all_new else None, warm) for at, one in enumerate(seen)]

    @staticmethod
    def _seen(one: Observation, judged: tuple[Bundle, Scored] | None, warm: Warm) -> Seen | Exception | None:
        """What came of it; an error where this bundle cannot score what another has observed: others stand."""
        if one.encoded is None or one.transaction is None:
            return None
        try:
            bundle, student = judged or judge(warm, [one.transaction], one.encoded)[0]
        except Exception as error:
            return error
        return Seen(one.place, one.encoded, student, warm, bundle, one.transaction)

    def _orphans(self) -> list[Seen]:
        warm = self._bundles.warm
        assert warm is not None
        found = [self._seen(one, None, warm) for one in self._engine.orphans(ORPHAN_SECONDS, BATCH)]
        return [seen for seen in found if isinstance(seen, Seen)]

    async def _in_thread(self, act: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *args)
