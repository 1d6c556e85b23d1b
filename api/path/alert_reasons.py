"""Finds the reasons of an alert while its decision waits.

It is less than a millisecond of plain computing, so it is done on the event loop: a thread would have to take
interpreter and processor from the loop for each, and cost more than the reasons. An alert of a group that waits for
nothing else is explained at once and is durable with the others, for beside their commit it would hold that up as
long; further ones wait in line, one in each turn of the loop. Reasons are an optional part: the decision stands
without those that fail, or whose turn does not come within half a second, and the metrics tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import Final, NamedTuple

from api.desk.explanation import stated
from api.telemetry.metrics import Metrics
from riskdistill.bundle import Bundle
from riskdistill.features.encoded import Encoded
from riskdistill.reasons import Explanation, explain
from riskdistill.storage.decisions import Explained, StatedReason

SECONDS: Final = 0.5  # the longest wait for one's turn; a full batch of alerts takes 0.3
_FAILED: Final = "bundle %s could not give reasons"
_logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """Fields of a `Decision`; of one that needs no reasons, or got none, they are empty."""

    reasons: tuple[StatedReason, ...] = ()
    explained: Explained | None = None


class _Asked(NamedTuple):
    bundle: Bundle
    encoded: Encoded
    at: float  # of `perf_counter`
    answer: asyncio.Future[Explanation | None]


class AlertReasons:
    """Explains alerts; counts in `metrics` what came of it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._line: deque[_Asked] = deque()

    def at_once(self, bundle: Bundle, encoded: Encoded) -> Found:
        """What moved the student's logit, before anything else is done."""
        began = perf_counter()
        try:
            found = _kept(explain(bundle, encoded), began)
            self._metrics.explained("given", perf_counter() - began)
            return found
        except Exception:
            _logger.exception(_FAILED, bundle.version)
            self._metrics.explained("failed", perf_counter() - began)
            return Found()

    async def find(self, bundle: Bundle, encoded: Encoded) -> Found:
        """The same, once it is its turn."""
        loop, outcome = asyncio.get_running_loop(), "failed"
        asked = _Asked(bundle, encoded, perf_counter(), loop.create_future())
        self._line.append(asked)
        if len(self._line) == 1:
            loop.call_soon(self._next)
        found = Found()
        try:
            explanation = await asked.answer
            outcome = "late" if explanation is None else "given"
            if explanation is None:
                _logger.warning("bundle %s gave no reasons in time", bundle.version)
            else:
                found = _kept(explanation, asked.at)
        except Exception:
            outcome = "failed"
            _logger.exception(_FAILED, bundle.version)
        self._metrics.explained(outcome, perf_counter() - asked.at)
        return found

    def _next(self) -> None:
        """Explains the first in line, and has the loop come again for the next."""
        asked = self._line.popleft()
        if self._line:
            asyncio.get_running_loop().call_soon(self._next)
        if asked.answer.done():  # nobody waits any more
            return
        try:
            in_time = perf_counter() - asked.at <= SECONDS
            asked.answer.set_result(explain(asked.bundle, asked.encoded) if in_time else None)
        except Exception as error:
            asked.answer.set_exception(error)


def _kept(found: Explanation, began: float) -> Found:
    milliseconds = (perf_counter() - began) * 1e3
    explained = Explained(
        catalogue=found.catalogue, milliseconds=milliseconds, past=stated(found.past), facts=dict(found.facts)
    )
    return Found(stated(found.reasons), explained)
