"""The path of a transaction, from top to bottom.

    pseudonymise     the engine and the log see no account id
    known already?   the same id with the same body gets the stored decision; with another body, a conflict
    wait in line     for the transactions that came before, and no longer (at most `TOGETHER` are scored at once)
    observe          features from what came strictly before, the student's score (of the champion, or for its
                     accounts of the canary, `api.path.rollout`); then the state moves on
    route            the teacher decides where a policy wants it, if it answers in time (`api.bypass`)
    band             by the deciding bundle's thresholds; one above for want of an answer, where so configured
    reasons          for alerts, which are all bands but low: the student's, whoever decided
    triage           the action, which a suppression may change; the sample of what passes (`api.path.triage`)
    store            after the decisions that it rests on; the reply waits until the decision is durable

Once state has moved on, a decision is stored, whatever fails then: the student's, without reasons, or without
triage. Else later scores would rest on what the log lacks.

Transactions pass the engine one after another, in the order in which they came; that order is stored
(`Decision.observed`). What arrived while the last ones were scored and written is scored together: nobody waits for
a group to fill, and a full one waits for no write. Waiting for the teacher holds up the later transactions of the
same accounts only (`api.path.account_order`). What passes silently, as nearly all do, meets no task and no thread
but the log's, nor does the first alert of those scored together that waits for nothing else; the reasons of others
are found on the event loop, one in each of its turns.

Where several workers share the state (`api.path.shared_state`), a task waits for it, and the log is asked for every
transaction: another worker may have decided on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

from api.bypass import TeacherBypass, Verdict, Wanted, by_failure, by_student
from api.path.account_order import AccountOrder, Turn
from api.path.alert_reasons import AlertReasons, Found
from api.path.bodies import check_stamps, request_hash, same_body
from api.path.decision_ids import DecisionIds
from api.path.group_commit import GroupCommit
from api.path.known_ids import KnownIds
from api.path.pseudonyms import Pseudonyms
from api.path.replies import Pending, Reply
from api.path.rollout import Shadows, Waiting, judge, shadows_of
from api.path.shared_state import Seen, SharedState
from api.path.triage import Triager, untriaged
from api.serving_bundle import ServingBundle
from api.telemetry import tracing
from api.telemetry.metrics import Metrics
from api.telemetry.stages import Marks
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, UnavailableError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.decisions import Decision, DecisionLog, trusted

_logger = logging.getLogger(__name__)
TOGETHER: Final = 32  # rows of one call of the student at most: the first wait for the last


@dataclass(frozen=True)
class Records:
    """Where decisions are found and stored.

    Attributes:
        known: the ids of the log's transactions; None where others write there too.
    """

    log: DecisionLog
    commit: GroupCommit
    known: KnownIds | None


@dataclass(frozen=True)
class Judges:
    """What has a say in a decision, and who scores beside it.

    Attributes:
        bundles: what scores.
        bypass: the way to the teacher.
        triager: settles what people shall look at.
        shadows: scores again, off this path, what is decided beside a challenger; None: nobody does.
    """

    bundles: ServingBundle
    bypass: TeacherBypass
    triager: Triager
    shadows: Shadows | None


class Scorer:
    """Decides on transactions. One per process, on one event loop: it owns the account state.

    Args:
        state: account state, rebuilt from history and log; or that which several workers share.
        next_place: the place of the next transaction in the order of observation; the shared state has its own.
        records, judges, pseudonyms, metrics: as their names say.
    """

    def __init__(
        self,
        state: FeatureEngine | SharedState,
        next_place: int,
        records: Records,
        judges: Judges,
        pseudonyms: Pseudonyms,
        metrics: Metrics,
    ) -> None:
        self._state, self._next_place, self._pseudonyms, self._metrics = state, next_place, pseudonyms, metrics
        self._log, self._commit, self._known = records.log, records.commit, records.known
        self._bundles, self._bypass = judges.bundles, judges.bypass
        self._triager, self._shadows = judges.triager, judges.shadows
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="idempotency")  # one: keeps order of arrival
        self._reasons = AlertReasons(metrics)
        self._order, self._ids = AccountOrder(), DecisionIds()
        self._under_way: dict[str, Pending] = {}
        self._line: deque[Pending] = deque()
        self._commit.on_free = self._advance
        self._moves = False  # whether `_advance` will be called
        self._explains = False  # whether the next alert is explained at once
        self._tasks: set[asyncio.Task[None]] = set()

    async def decide(self, transactions: Sequence[Transaction]) -> list[Decision | ConflictError]:
        """One durable decision for each transaction, in order; a conflict in the place of a refused one.

        What was begun is stored even if the caller goes away.

        Raises:
            TransactionError: one is stamped more than a day after now; none is scored.
            UnavailableError: the log cannot be written now. Some may be stored: sending all again is safe.
        """
        arrived, trace = perf_counter(), tracing.here()
        self.check()
        check_stamps(transactions, datetime.now(UTC))
        hidden = [self._pseudonyms.transaction(transaction) for transaction in transactions]
        hashes = [request_hash(transaction) for transaction in hidden]
        self._commit.check_none_unstored(transaction.tx_id for transaction in hidden)
        reply, begun = Reply(len(hidden)), []
        for index, (transaction, digest) in enumerate(zip(hidden, hashes, strict=True)):
            pending = self._under_way.get(transaction.tx_id)
            if pending is None:
                pending = Pending(transaction, digest, Marks(arrived, trace), transactions[index])
                self._under_way[transaction.tx_id] = pending
                begun.append(pending)
            pending.replies.append((reply, index))
        self._look_up(begun)
        self._line.extend(begun)
        self._move()
        outcomes = await reply.complete
        return [same_body(*found) for found in zip(hidden, hashes, outcomes, strict=True)]

    def check(self) -> None:
        """Raises UnavailableError while those in line wait in vain: for a write, or for what the log tells."""
        self._commit.check_answers()
        if self._line and not (first := self._line[0]).is_looked_up:
            self._commit.check_since(first.marks.began)

    def request_hashes(self, transactions: Sequence[Transaction]) -> list[str]:
        """What tells these bodies from others, as it is stored with their decisions."""
        return [request_hash(self._pseudonyms.transaction(transaction)) for transaction in transactions]

    def adopt(self, seen: Seen) -> None:
        """Decides on what another worker observed and left; nobody waits for it, so a failure is tried again."""
        transaction = seen.transaction
        if transaction.tx_id not in self._under_way:
            pending = Pending(transaction, request_hash(transaction), Marks(perf_counter()))
            self._under_way[transaction.tx_id] = pending
            self._go_on(pending, seen)

    def __len__(self) -> int:
        """How many transactions are under way."""
        return len(self._under_way)

    async def close(self) -> None:
        """Returns when nothing is under way any more."""
        while self._under_way:
            last = Reply(1)
            next(reversed(self._under_way.values())).replies.append((last, 0))
            await last.complete
        await asyncio.gather(*self._tasks)
        self._lookup.shutdown()

    def _look_up(self, begun: Sequence[Pending]) -> None:
        """Asks the log for those whose ids it may have."""
        suspects = [pending for pending in begun if self._known is None or pending.transaction.tx_id in self._known]
        if suspects:
            ids = [pending.transaction.tx_id for pending in suspects]
            asked = asyncio.get_running_loop().run_in_executor(self._lookup, self._log.by_txs, ids)
            asked.add_done_callback(lambda _: self._move())
            for pending in suspects:
                pending.stored = asked

    def _move(self) -> None:
        """Lets `_advance` be called once whatever has arrived by now is in line."""
        if self._line and not self._moves:
            self._moves = True
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        """Takes the next transactions out of the line, up to the first of which the log has yet to tell."""
        self._moves, group = False, list[Pending]()
        # scored during a write they would be durable no sooner, and with those still to come they cost less
        waits = self._commit.is_busy and len(self._line) < TOGETHER and not isinstance(self._state, SharedState)
        while self._line and len(group) < TOGETHER and self._line[0].is_looked_up:
            outcome = self._line[0].found
            if outcome is None and waits:
                return
            pending = self._line.popleft()
            if outcome is None:
                pending.marks.end("lookup")
                group.append(pending)
            else:
                self._finish(pending, outcome)
        if isinstance(self._state, SharedState):
            for pending in group:
                self._start(self._ask(pending, self._state))
        elif group:
            self._explains = True
            self._decide(group, self._state)
        if self._line and self._line[0].is_looked_up:
            self._move()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, pending: Pending, state: SharedState) -> None:
        """Goes on with what the shared state sees, or saw first, which may be another body."""
        try:
            self._commit.check()  # before the state is touched
            seen = await state.observe(pending.transaction)
            pending.marks.end("state")
            if seen is None:
                self._finish(pending, await self._decided_elsewhere(pending.transaction.tx_id))
                return
            digest = request_hash(seen.transaction)
        except Exception as error:
            self._finish(pending, error)
            return
        if digest != pending.digest:
            pending.transaction, pending.digest, pending.received = seen.transaction, digest, None
        self._go_on(pending, seen._replace(shadow=shadows_of(seen.warm, [seen.bundle], seen.encoded)[0]))

    async def _decided_elsewhere(self, tx_id: str) -> Decision:
        """The decision that another worker stored after this one had looked for it."""
        stored = await asyncio.get_running_loop().run_in_executor(self._lookup, self._log.by_txs, [tx_id])
        try:
            return stored[tx_id]
        except KeyError:
            raise UnavailableError("another worker is deciding on it", mend="send the request again") from None

    def _decide(self, group: Sequence[Pending], engine: FeatureEngine) -> None:
        try:
            self._commit.check()  # before the state is touched
            seen = self._observe(group, engine)
        except Exception as error:
            if len(group) == 1:
                self._finish(group[0], error)
            else:  # one of them may be to blame: each for itself
                for pending in group:
                    self._decide([pending], engine)
            return
        for pending, one in zip(group, seen, strict=True):
            if self._known is not None:
                self._known.add(pending.transaction.tx_id)
            self._go_on(pending, one)
        self._commit.begin()

    def _observe(self, group: Sequence[Pending], engine: FeatureEngine) -> list[Seen]:
        """Scores, and moves account state on if that went well, so that state holds nothing that the log lacks.

        Must stay free of `await` (see the module's docstring).
        """
        warm = self._bundles.warm
        if warm is None:
            raise UnavailableError("no bundle is warm yet", mend="wait until /readyz answers 200")
        transactions = [pending.transaction for pending in group]
        with engine.observing_many(transactions) as encoded:
            read = perf_counter()
            judged = judge(warm, transactions, encoded)
        scored = perf_counter()
        for pending in group:
            pending.marks.end("features", read)
            pending.marks.end("student", scored)
        shadows = shadows_of(warm, [bundle for bundle, _ in judged], encoded)
        place, self._next_place = self._next_place, self._next_place + len(group)
        return [
            Seen(place + row, encoded.take(slice(row, row + 1)), student, warm, bundle, transaction, shadow)
            for row, (transaction, (bundle, student), shadow) in enumerate(
                zip(transactions, judged, shadows, strict=True)
            )
        ]

    def _go_on(self, pending: Pending, seen: Seen) -> None:
        """Stores at once what passes silently, and the first alert of a group; a task sees to the others."""
        wanted: Wanted | None = None
        try:
            wanted = self._bypass.wanted(seen.bundle, seen.transaction, seen.student)
        except Exception:
            _logger.exception("bundle %s decides without its policies", seen.bundle.version)
        verdict = by_student(seen.bundle, seen.student) if wanted == () else None
        if verdict and (verdict.band == "low" or self._explains) and self._order.is_free(seen.transaction):
            self._store(pending, seen, self._decision(pending, seen, verdict, self._found(pending, seen, verdict)))
        else:
            self._start(self._settle(pending, seen, wanted, self._order.enter(seen.transaction)))

    def _found(self, pending: Pending, seen: Seen, verdict: Verdict) -> Found:
        """The reasons of what is stored at once; none where it is no alert, or they cannot be found."""
        found = Found()
        if verdict.band != "low":
            self._explains = False
            try:
                found = self._reasons.at_once(seen.bundle, seen.encoded)
                pending.marks.end("reasons")
            except Exception:
                _logger.exception("bundle %s decides with what it has", seen.bundle.version)
        return found

    async def _settle(self, pending: Pending, seen: Seen, wanted: Wanted | None, turn: Turn) -> None:
        """Decides what the teacher is asked about, or is an alert, or rests on such a one.

        `wanted` is None where the policies failed.
        """
        try:
            verdict, found = await self._weigh(pending, seen, wanted)
            decision = self._decision(pending, seen, verdict, found)
            await turn.come()
            pending.marks.end("order")
            self._store(pending, seen, decision)
        finally:
            turn.end()

    async def _weigh(self, pending: Pending, seen: Seen, wanted: Wanted | None) -> tuple[Verdict, Found]:
        bundle, student, found = seen.bundle, seen.student, Found()
        verdict = by_student(bundle, student) if wanted == () else by_failure(bundle, student)
        try:
            if wanted:
                verdict = await self._bypass.settle(wanted, bundle, seen.encoded, student)
                pending.marks.end("teacher")
            if verdict.band != "low":
                found = await self._reasons.find(bundle, seen.encoded)
                pending.marks.end("reasons")
        except Exception:
            _logger.exception("bundle %s decides with what it has", bundle.version)
        return verdict, found

    def _decision(self, pending: Pending, seen: Seen, verdict: Verdict, found: Found) -> Decision:
        transaction, bundle, band, now = seen.transaction, seen.bundle, verdict.band, datetime.now(UTC)
        typology = None
        try:
            typology = verdict.typology(bundle) if band != "low" else None
            chance = self._triager.chance(bundle, verdict.score, seen.shadow)
            triage = self._triager.settle(seen.encoded, transaction, band, typology, chance, now)
        except Exception:
            _logger.exception("bundle %s decides without triage", bundle.version)
            triage = untriaged(band)
        return trusted(
            {
                "decision_id": self._ids.next(),
                "tx_id": transaction.tx_id,
                "transaction": transaction,
                "request_hash": pending.digest,
                "decided_at": now,
                "observed": seen.place,
                "score": verdict.score,
                "student_score": float(seen.student.score[0]),
                "teacher_score": verdict.teacher_score,
                "band": band,
                "action": triage.action,
                "route": verdict.route,
                "route_reason": verdict.reason,
                "reasons": found.reasons,
                "typology": typology,
                "bundle_version": bundle.version,
                "latency_ms": round((perf_counter() - pending.marks.began) * 1e3, 3),
                "shadow": seen.shadow,
                "bypass": verdict.bypass,
                "explained": found.explained,
                "at_risk_usd": triage.at_risk_usd,
                "suppression": triage.suppression,
                "sample_share": triage.sample_share,
                "features": triage.features,
            }
        )

    def _store(self, pending: Pending, seen: Seen, decision: Decision) -> None:
        self._commit.store(
            decision, lambda durable: self._stored(pending, seen, decision, durable), pending.received
        )

    def _stored(self, pending: Pending, seen: Seen, decision: Decision, outcome: Decision | Exception) -> None:
        self._finish(pending, outcome)
        if isinstance(self._state, SharedState) and isinstance(outcome, Decision):
            self._state.settled(decision.tx_id)
        if outcome is decision:  # and not one that another writer has stored
            pending.marks.end("store")
            self._metrics.decided(decision, pending.marks)
            tracing.decided(decision, pending.marks)
            if self._shadows is not None and seen.warm.challenger is not None:
                self._shadows.offer(Waiting(decision, seen.encoded, seen.warm.bundle, seen.warm.challenger))

    def _finish(self, pending: Pending, outcome: Decision | Exception) -> None:
        """Tells all who wait for this transaction what is durable, or why nothing is."""
        del self._under_way[pending.transaction.tx_id]
        pending.tell(outcome)
