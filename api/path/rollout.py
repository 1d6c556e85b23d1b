"""Shadow and canary: which bundle decides for an account, and the other one's score, off the reply path.

The hot path pays one hash for a canary and one entry in a queue. A thread scores what is in the queue in batches
and stores it; where it cannot keep up, or its database is away, scores are left out and counted.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Sequence
from itertools import groupby
from time import monotonic, perf_counter
from typing import Final, NamedTuple

import numpy as np

from api.serving_bundle import Challenger, Warm
from api.telemetry.metrics import Metrics
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.data.transaction import Transaction
from riskdistill.errors import BundleDamagedError
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import Decision, Shadow
from riskdistill.storage.shadows import ShadowLog, ShadowScore

WAITING: Final = 2_000  # transactions that may wait for their shadow score
BATCH: Final = 256  # the most that are scored and stored together,
GATHER_SECONDS: Final = 0.5  # or as many as come within so long
_END: Final = None

_logger = logging.getLogger(__name__)


def decides(challenger: Challenger, account: str) -> bool:
    """Whether the canary decides for the transactions of an `account`, by its pseudonym.

    Sticky: it depends on the account and the release alone, and a larger share keeps the accounts of a smaller one.
    Pseudonyms are keyed hashes, so nobody outside can tell who is in it, or get in.
    """
    if not challenger.share:
        return False
    digest = hashlib.blake2b(account.encode(), key=challenger.release_id.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest) < challenger.share * 2**64


def judge(warm: Warm, transactions: Sequence[Transaction], rows: Encoded) -> list[tuple[Bundle, Scored]]:
    """For each transaction, one to a row: the bundle that decides on it, and its student's score.

    Raises:
        BundleDamagedError: a score is no probability.
    """
    challenger = warm.challenger
    if challenger is None or not challenger.share:
        return [(warm.bundle, scored) for scored in _checked(warm.bundle.student.score(rows)).rows()]
    mine = np.array([decides(challenger, transaction.sender_account) for transaction in transactions])
    found: list[tuple[Bundle, Scored] | None] = [None] * len(mine)
    for bundle, at in ((warm.bundle, np.flatnonzero(~mine)), (challenger.bundle, np.flatnonzero(mine))):
        if len(at):
            scores = _checked(bundle.student.score(rows if len(at) == len(rows) else rows.take(at))).rows()
            for place, scored in zip(at.tolist(), scores, strict=True):
                found[place] = bundle, scored
    return [one for one in found if one is not None]


def shadows_of(warm: Warm, deciding: Sequence[Bundle], encoded: Encoded) -> list[Shadow | None]:
    """What another bundle makes of each row: the champion of what the canary decides, else the previous one.

    So what each decides stands beside what it is compared with (`monitoring.canary`, `monitoring.case`).
    """
    if all(bundle is warm.bundle for bundle in deciding):
        return _shadow(warm.previous, encoded)
    canary = np.array([bundle is not warm.bundle for bundle in deciding])
    found: list[Shadow | None] = [None] * len(canary)
    for bundle, at in ((warm.previous, np.flatnonzero(~canary)), (warm.bundle, np.flatnonzero(canary))):
        if len(at):
            for place, shadow in zip(at.tolist(), _shadow(bundle, encoded.take(at)), strict=True):
                found[place] = shadow
    return found


def _shadow(bundle: Bundle | None, encoded: Encoded) -> list[Shadow | None]:
    """What a bundle makes of each row beside the one that decides; nothing if there is none, or if it fails."""
    nothing: list[Shadow | None] = [None] * len(encoded)
    if bundle is None:
        return nothing
    try:
        scores = bundle.student.score(encoded).score.tolist()
        actions = [ACTIONS[bundle.thresholds.band(score)] for score in scores]
        return [
            Shadow(bundle_version=bundle.version, score=score, action=action)
            for score, action in zip(scores, actions, strict=True)
        ]
    except Exception:  # a shadow is an optional part: the decision stands without it
        _logger.exception("bundle %s could not shadow", bundle.version)
        return nothing


def _checked(student: Scored) -> Scored:
    if not all(0 <= score <= 1 for score in student.score.tolist()):  # NaN too
        raise BundleDamagedError("the student gave no probability", mend="serve the previous bundle")
    return student


class Waiting(NamedTuple):
    """A decision that waits for the score of the bundle that did not decide."""

    decision: Decision
    encoded: Encoded
    champion: Bundle
    challenger: Challenger


class Shadows:
    """Scores decisions again with the bundle that did not decide them. Has a thread of its own until `close`.

    Args:
        log: takes the scores.
        metrics: counts what came of each.
        gather_seconds: how long a batch is gathered.
    """

    def __init__(self, log: ShadowLog, metrics: Metrics, gather_seconds: float = GATHER_SECONDS) -> None:
        self._log, self._metrics, self._gather_seconds = log, metrics, gather_seconds
        self._queue: queue.Queue[Waiting | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)
        self._thread.start()

    def offer(self, waiting: Waiting) -> None:
        """Have a durable decision scored by the other bundle, some time; returns at once."""
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            self._metrics.shadowed("dropped")

    def close(self) -> None:
        """Score and store what is waiting, and end."""
        self._queue.put(_END)
        self._thread.join()
        self._log.close()

    def _run(self) -> None:
        more = True
        while more:
            more, batch = self._gather()
            # one batch may hold decisions from before and after a swap
            for _, group in groupby(batch, key=lambda one: (id(one.champion), one.challenger.release_id)):
                waiting = list(group)
                try:
                    self._log.append(_scored(waiting))
                    self._metrics.shadowed("scored", len(waiting))
                except Exception:  # a shadow is an optional part
                    self._metrics.shadowed("failed", len(waiting))
                    _logger.exception("%d shadow scores are left out", len(waiting))

    def _gather(self) -> tuple[bool, list[Waiting]]:
        """What has come by the time that a batch is full or old enough, and whether more may come."""
        first = self._queue.get()
        if first is _END:
            return False, []
        batch, until = [first], monotonic() + self._gather_seconds
        while len(batch) < BATCH:
            try:
                one = self._queue.get(timeout=max(0.0, until - monotonic()))
            except queue.Empty:
                break
            if one is _END:
                return False, batch
            batch.append(one)
        return True, batch


def _scored(waiting: Sequence[Waiting]) -> list[ShadowScore]:
    """Both bundles' scores, of the same two bundles; the first row is timed alone on both."""
    champion, challenger = waiting[0].champion, waiting[0].challenger
    first = waiting[0].encoded
    taken = [_microseconds(bundle, first) for bundle in (champion, challenger.bundle)]
    mine = [one.decision.bundle_version == challenger.bundle.version for one in waiting]
    found: list[ShadowScore] = []
    others = {  # what each side makes of the rows that the other one decided
        side: iter(_scores(bundle, [one.encoded for one, own in zip(waiting, mine, strict=True) if own is decided]))
        for side, bundle, decided in (("champion", champion, True), ("challenger", challenger.bundle, False))
    }
    for number, (one, own) in enumerate(zip(waiting, mine, strict=True)):
        said = one.decision.student_score
        old, new = (next(others["champion"]), said) if own else (said, next(others["challenger"]))
        found.append(
            ShadowScore(
                tx_id=one.decision.tx_id,
                decided_at=one.decision.decided_at,
                decided_by="challenger" if own else "champion",
                challenger_release=challenger.release_id,
                champion_version=champion.version,
                challenger_version=challenger.bundle.version,
                champion_score=old,
                challenger_score=new,
                champion_alert=old >= champion.thresholds.review,
                challenger_alert=new >= challenger.bundle.thresholds.review,
                champion_us=None if number else taken[0],
                challenger_us=None if number else taken[1],
            )
        )
    return found


def _scores(bundle: Bundle, rows: list[Encoded]) -> list[float]:
    return [float(score) for score in bundle.student.score(Encoded.concat(rows)).score] if rows else []


def _microseconds(bundle: Bundle, row: Encoded) -> float:
    bundle.student.score(row)  # whatever was scored before, it is in the processor's cache now
    started = perf_counter()
    bundle.student.score(row)
    return 1e6 * (perf_counter() - started)
