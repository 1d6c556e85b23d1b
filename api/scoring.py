"""The path of a transaction, from top to bottom.

    known already?   the same id with the same body gets the stored decision; with another body, a conflict
    pseudonymise     the engine and the log see no account id
    observe          features from what came strictly before, the student's score; then the state moves on
    route            the teacher decides where a policy wants it, if it answers in time (`api.bypass`)
    band             by the deciding bundle's thresholds; one above for want of an answer, where so configured
    reasons          for alerts, which are all bands but low: the student's, whoever decided
    triage           the action, which a suppression may change; the sample of what passes (`api.triage`)
    store            after the decisions that it rests on; the reply waits until the decision is durable

Observing in memory has no `await` in it, so transactions pass the engine one after another, in the order in which
they came; that order is stored (`Decision.observed`). Waiting for the teacher holds up the later transactions of
the same accounts only (`api.account_order`), and waiting for the disk nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

from api import tracing
from api.account_order import AccountOrder
from api.bypass import TeacherBypass, Verdict, by_student
from api.explanation import stated
from api.group_commit import GroupCommit
from api.metrics import Metrics
from api.pseudonyms import Pseudonyms
from api.serving_bundle import ServingBundle
from api.shared_state import Seen, SharedState
from api.stages import Marks
from api.triage import Triager
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.data.schema import NORMAL
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, TransactionError, UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.features.engine import FeatureEngine
from riskdistill.reasons import Explanation, explain
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import Decision, DecisionLog, Explained, Shadow

_logger = logging.getLogger(__name__)
AHEAD: Final = timedelta(days=1)  # clocks differ, and some payments are dated tomorrow
REASONS_SECONDS: Final = 0.1  # the longest wait for an explanation, queueing included


class Scorer:
    """Decides on transactions. One per process, on one event loop: it owns the account state.

    Args:
        bundles: what scores.
        state: account state, rebuilt from history and log; or that which several workers share.
        next_place: the place of the next transaction in the order of observation; the shared state has its own.
        log, commit: where decisions are found and stored.
        bypass: the way to the teacher.
        triager: settles what people shall look at.
        pseudonyms, metrics: as their names say.
    """

    def __init__(
        self,
        bundles: ServingBundle,
        state: FeatureEngine | SharedState,
        next_place: int,
        log: DecisionLog,
        commit: GroupCommit,
        bypass: TeacherBypass,
        triager: Triager,
        pseudonyms: Pseudonyms,
        metrics: Metrics,
    ) -> None:
        self._bundles, self._state, self._next_place = bundles, state, next_place
        self._log, self._commit, self._bypass = log, commit, bypass
        self._triager, self._pseudonyms, self._metrics = triager, pseudonyms, metrics
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="idempotency")  # one: keeps order of arrival
        self._explain = ThreadPoolExecutor(1, thread_name_prefix="reasons")
        self._order = AccountOrder()
        self._under_way: dict[str, asyncio.Task[Decision]] = {}

    async def decide(self, transactions: Sequence[Transaction]) -> list[Decision | ConflictError]:
        """One durable decision for each transaction, in order; a conflict in the place of a refused one.

        Raises:
            TransactionError: one is stamped more than `AHEAD` after now; none is scored.
            UnavailableError: the log cannot be written now. Some may be stored: sending all again is safe.
        """
        arrived = perf_counter()
        _check_stamps(transactions, datetime.now(UTC))
        hidden = [self._pseudonyms.transaction(transaction) for transaction in transactions]
        ids = [transaction.tx_id for transaction in hidden]
        self._commit.check_none_unstored(ids)
        stored = asyncio.get_running_loop().run_in_executor(self._lookup, self._log.by_txs, ids)
        trace = tracing.here()
        tasks = [
            self._under_way.get(tx.tx_id) or self._begin(tx, received, stored, Marks(arrived, trace))
            for tx, received in zip(hidden, transactions, strict=True)
        ]
        # shielded: what was begun is stored even if the caller goes away
        outcomes = await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)
        return [_same_body(tx, outcome) for tx, outcome in zip(hidden, outcomes, strict=True)]

    def request_hashes(self, transactions: Sequence[Transaction]) -> list[str]:
        """What tells these bodies from others, as it is stored with their decisions."""
        return [request_hash(self._pseudonyms.transaction(transaction)) for transaction in transactions]

    def __len__(self) -> int:
        """How many transactions are under way."""
        return len(self._under_way)

    async def close(self) -> None:
        """Returns when nothing is under way any more."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._lookup.shutdown()
        self._explain.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self,
        transaction: Transaction,
        received: Transaction,
        stored: asyncio.Future[dict[str, Decision]],
        marks: Marks,
    ) -> asyncio.Task[Decision]:
        task = asyncio.create_task(self._decide(transaction, received, stored, marks))
        self._under_way[transaction.tx_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(transaction.tx_id))
        return task

    async def _decide(
        self,
        transaction: Transaction,
        received: Transaction,
        stored: asyncio.Future[dict[str, Decision]],
        marks: Marks,
    ) -> Decision:
        known = (await stored).get(transaction.tx_id)
        if known is not None:
            return known
        marks.end("lookup")
        self._commit.check()  # before the state is touched
        if isinstance(self._state, SharedState):
            shared = await self._state.observe(transaction)
            marks.end("state")
            if shared is None:
                return await self._decided_elsewhere(transaction)
            seen = shared
        else:
            seen = self._observe(transaction, self._state, marks)
        # a state that several workers share tells what was sent first, which may be another body
        return await self._finish(seen, marks, received if seen.transaction == transaction else None)

    async def _finish(self, seen: Seen, marks: Marks, received: Transaction | None = None) -> Decision:
        transaction = seen.transaction
        turn = self._order.enter(transaction)
        try:
            decision = await self._settle(seen, marks)
            await turn.come()
            marks.end("order")
            storing = self._commit.store(decision, received)
        finally:
            turn.end()
        durable = await storing
        if durable is decision:
            marks.end("store")
            self._metrics.decided(decision, marks)
            tracing.decided(decision, marks)
        if isinstance(self._state, SharedState):
            self._state.settled(transaction.tx_id)
        return durable

    async def _decided_elsewhere(self, transaction: Transaction) -> Decision:
        """The decision that another worker stored after this one had looked for it."""
        ids = [transaction.tx_id]
        stored = await asyncio.get_running_loop().run_in_executor(self._lookup, self._log.by_txs, ids)
        try:
            return stored[transaction.tx_id]
        except KeyError:
            raise UnavailableError("another worker is deciding on it", mend="send the request again") from None

    def adopt(self, seen: Seen) -> None:
        """Decides on what another worker observed and left; nobody waits for it, so a failure is tried again."""
        tx_id = seen.transaction.tx_id
        if tx_id not in self._under_way:
            task = self._under_way[tx_id] = asyncio.create_task(self._finish(seen, Marks(perf_counter())))
            task.add_done_callback(lambda done: (self._under_way.pop(tx_id), done.exception()))

    async def _settle(self, seen: Seen, marks: Marks) -> Decision:
        transaction, bundle = seen.transaction, seen.warm.bundle
        verdict = by_student(bundle, seen.student)
        if wanted := self._bypass.wanted(bundle, transaction, seen.student):
            verdict = await self._bypass.settle(wanted, bundle, seen.encoded, seen.student)
            marks.end("teacher")
        band = verdict.band
        typology, found, explained = None, None, None
        if band != "low":
            typology, started = _typology(bundle, verdict), perf_counter()
            found = await self._reasons(bundle, seen.encoded)
            explained = _explained(found, (perf_counter() - started) * 1e3) if found else None
            marks.end("reasons")
        now = datetime.now(UTC)
        triage = self._triager.settle(bundle, seen.encoded, transaction, band, verdict.score, typology, now)
        return Decision(
            decision_id=str(uuid.uuid4()),
            tx_id=transaction.tx_id,
            transaction=transaction,
            request_hash=request_hash(transaction),
            decided_at=now,
            observed=seen.place,
            score=verdict.score,
            student_score=float(seen.student.score[0]),
            teacher_score=verdict.teacher_score,
            band=band,
            action=triage.action,
            route=verdict.route,
            route_reason=verdict.reason,
            reasons=stated(found.reasons) if found else (),
            typology=typology,
            bundle_version=bundle.version,
            latency_ms=(perf_counter() - marks.began) * 1e3,
            shadow=_shadow(seen),
            bypass=verdict.bypass,
            explained=explained,
            at_risk_usd=triage.at_risk_usd,
            suppression=triage.suppression,
            sample_share=triage.sample_share,
            features=triage.features,
        )

    async def _reasons(self, bundle: Bundle, encoded: Encoded) -> Explanation | None:
        """What moved the student's logit; none if they are not found within REASONS_SECONDS."""
        asked = asyncio.get_running_loop().run_in_executor(self._explain, explain, bundle, encoded)
        try:
            return await asyncio.wait_for(asked, REASONS_SECONDS)
        except TimeoutError:  # an explanation is an optional part: the decision stands without it
            _logger.warning("bundle %s gave no reasons in time", bundle.version)
            return None
        except Exception:
            _logger.exception("bundle %s could not give reasons", bundle.version)
            return None

    def _observe(self, transaction: Transaction, engine: FeatureEngine, marks: Marks) -> Seen:
        """Scores, and moves account state on if that went well, so that state holds nothing that the log lacks.

        Must stay free of `await` (see the module's docstring).
        """
        warm = self._bundles.warm
        if warm is None:
            raise UnavailableError("no bundle is warm yet", mend="wait until /readyz answers 200")
        with engine.observing(transaction) as encoded:
            marks.end("features")
            student = warm.bundle.student.score(encoded)
        marks.end("student")
        place, self._next_place = self._next_place, self._next_place + 1
        return Seen(place, encoded, student, warm, transaction)


def _check_stamps(transactions: Sequence[Transaction], now: datetime) -> None:
    """An account's clock never goes back: one stamp from far ahead would stop it, and age all that it has seen."""
    for transaction in transactions:
        if transaction.timestamp > now + AHEAD:
            raise TransactionError(
                f"it is stamped {transaction.timestamp.isoformat()}, more than a day after now",
                where=f"transaction {transaction.tx_id}",
                mend="correct the timestamp, or send it on its day",
            )


def request_hash(transaction: Transaction) -> str:
    """SHA-256 hex digest that tells two bodies apart; of the pseudonymised form, so it gives nothing away."""
    return hashlib.sha256(canonical_json(transaction.model_dump(mode="json")).encode()).hexdigest()


def _same_body(transaction: Transaction, outcome: Decision | BaseException) -> Decision | ConflictError:
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome.request_hash == request_hash(transaction):
        return outcome
    return ConflictError(
        f"transaction {transaction.tx_id} was decided with another body",
        where=f"decision {outcome.decision_id}",
        mend="send the same body again, or give the new transaction an id of its own",
    )


def _typology(bundle: Bundle, verdict: Verdict) -> str | None:
    likely = verdict.scored.typology[0].argsort()[::-1]
    return next((bundle.typologies[index] for index in likely if bundle.typologies[index] != NORMAL), None)


def _explained(found: Explanation, milliseconds: float) -> Explained:
    return Explained(
        catalogue=found.catalogue, milliseconds=milliseconds, past=stated(found.past), facts=dict(found.facts)
    )


def _shadow(seen: Seen) -> Shadow | None:
    previous = seen.warm.previous
    if previous is None:
        return None
    try:
        score = float(previous.student.score(seen.encoded).score[0])
        action = ACTIONS[previous.thresholds.band(score)]
        return Shadow(bundle_version=previous.version, score=score, action=action)
    except Exception:  # a shadow is an optional part: the decision stands without it
        _logger.exception("bundle %s could not shadow", previous.version)
        return None
