"""The path of a transaction, from top to bottom.

    known already?   the same id with the same body gets the stored decision; with another body, a conflict
    pseudonymise     the engine and the log see no account id
    observe          features from what came strictly before, the student's score (of the champion, or for its
                     accounts of the canary); then the state moves on
    route            the teacher decides on high or uncertain scores, if it answers in time
    band and action  by the deciding bundle's thresholds
    reasons          for what is not allowed to pass silently: the student's, whoever decided
    store            after the decisions that it rests on; the reply waits until the decision is durable

Observing has no `await` in it, so transactions pass the engine one after another, in the order in which they
came; that order is stored (`Decision.observed`). Waiting for the teacher holds up the later transactions of the
same accounts only (`api.account_order`), and waiting for the disk nobody else.
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
from typing import Final, NamedTuple

from api.account_order import AccountOrder
from api.bypass import TeacherBypass, Verdict
from api.group_commit import GroupCommit
from api.metrics import Metrics
from api.pseudonyms import Pseudonyms
from api.rollout import Shadows, Waiting, decides
from api.serving_bundle import ServingBundle, Warm
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.data.schema import NORMAL
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, TransactionError, UnavailableError
from riskdistill.explain import reasons
from riskdistill.features.encoded import Encoded
from riskdistill.features.engine import FeatureEngine
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import Decision, DecisionLog, Shadow, StatedReason

_logger = logging.getLogger(__name__)
AHEAD: Final = timedelta(days=1)  # clocks differ, and some payments are dated tomorrow
REASONS_SECONDS: Final = 0.1  # the longest wait for an explanation, queueing included


class Seen(NamedTuple):
    """A transaction as it looked when account state saw it."""

    place: int
    encoded: Encoded
    student: Scored
    warm: Warm
    bundle: Bundle  # the one that decides


class Scorer:
    """Decides on transactions. One per process, on one event loop: it owns the account state.

    Args:
        bundles: what scores.
        engine: account state, rebuilt from history and log.
        next_place: the place of the next transaction in the order of observation.
        log, commit: where decisions are found and stored.
        bypass: the way to the teacher.
        pseudonyms, metrics: as their names say.
        shadows: scores again, off this path, what is decided beside a challenger; None: nobody does.
    """

    def __init__(
        self,
        bundles: ServingBundle,
        engine: FeatureEngine,
        next_place: int,
        log: DecisionLog,
        commit: GroupCommit,
        bypass: TeacherBypass,
        pseudonyms: Pseudonyms,
        metrics: Metrics,
        shadows: Shadows | None = None,
    ) -> None:
        self._shadows = shadows
        self._bundles, self._engine, self._next_place = bundles, engine, next_place
        self._log, self._commit, self._bypass = log, commit, bypass
        self._pseudonyms, self._metrics = pseudonyms, metrics
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
        tasks = [self._under_way.get(tx.tx_id) or self._begin(tx, stored, arrived) for tx in hidden]
        # shielded: what was begun is stored even if the caller goes away
        outcomes = await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)
        return [_same_body(tx, outcome) for tx, outcome in zip(hidden, outcomes, strict=True)]

    async def close(self) -> None:
        """Returns when nothing is under way any more."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._lookup.shutdown()
        self._explain.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, transaction: Transaction, stored: asyncio.Future[dict[str, Decision]], arrived: float
    ) -> asyncio.Task[Decision]:
        task = asyncio.create_task(self._decide(transaction, stored, arrived))
        self._under_way[transaction.tx_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(transaction.tx_id))
        return task

    async def _decide(
        self, transaction: Transaction, stored: asyncio.Future[dict[str, Decision]], arrived: float
    ) -> Decision:
        known = (await stored).get(transaction.tx_id)
        if known is not None:
            return known
        self._commit.check()  # before the state is touched
        seen = self._observe(transaction)
        turn = self._order.enter(transaction)
        try:
            decision = await self._settle(transaction, seen, arrived)
            await turn.come()
            storing = self._commit.store(decision)
        finally:
            turn.end()
        durable = await storing
        if durable is decision:
            self._metrics.decided(decision)
            if self._shadows is not None and (challenger := seen.warm.challenger) is not None:
                self._shadows.offer(Waiting(decision, seen.encoded, seen.warm.bundle, challenger))
        return durable

    async def _settle(self, transaction: Transaction, seen: Seen, arrived: float) -> Decision:
        bundle = seen.bundle
        verdict = await self._bypass.settle(bundle, seen.encoded, seen.student)
        band = bundle.thresholds.band(verdict.score)
        alert = band != "low"
        return Decision(
            decision_id=str(uuid.uuid4()),
            tx_id=transaction.tx_id,
            transaction=transaction,
            request_hash=request_hash(transaction),
            decided_at=datetime.now(UTC),
            observed=seen.place,
            score=verdict.score,
            student_score=float(seen.student.score[0]),
            teacher_score=verdict.score if verdict.route == "teacher" else None,
            band=band,
            action=ACTIONS[band],
            route=verdict.route,
            route_reason=verdict.reason,
            reasons=await self._reasons(bundle, seen.encoded) if alert else (),
            typology=_typology(bundle, verdict) if alert else None,
            bundle_version=bundle.version,
            latency_ms=(perf_counter() - arrived) * 1e3,
            shadow=_shadow(seen),
        )

    async def _reasons(self, bundle: Bundle, encoded: Encoded) -> tuple[StatedReason, ...]:
        """What moved the student's logit; none if they are not found within REASONS_SECONDS."""
        asked = asyncio.get_running_loop().run_in_executor(self._explain, reasons, bundle, encoded)
        try:
            found = await asyncio.wait_for(asked, REASONS_SECONDS)
        except TimeoutError:  # an explanation is an optional part: the decision stands without it
            _logger.warning("bundle %s gave no reasons in time", bundle.version)
            return ()
        except Exception:
            _logger.exception("bundle %s could not give reasons", bundle.version)
            return ()
        return tuple(StatedReason(code=one.code, text=one.text, effect=one.effect) for one in found)

    def _observe(self, transaction: Transaction) -> Seen:
        """Scores, and moves account state on if that went well, so that state holds nothing that the log lacks.

        Must stay free of `await` (see the module's docstring).
        """
        warm = self._bundles.warm
        if warm is None:
            raise UnavailableError("no bundle is warm yet", mend="wait until /readyz answers 200")
        bundle, challenger = warm.bundle, warm.challenger
        if challenger is not None and decides(challenger, transaction.sender_account):
            bundle = challenger.bundle
        with self._engine.observing(transaction) as encoded:
            student = bundle.student.score(encoded)
        place, self._next_place = self._next_place, self._next_place + 1
        return Seen(place, encoded, student, warm, bundle)


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
