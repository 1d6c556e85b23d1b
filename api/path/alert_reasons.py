"""Finds the reasons of an alert while its decision waits.

It is a millisecond of plain computing, so it is done on the event loop, one alert in each of its turns: a thread
would have to take interpreter and processor from the loop for each, and cost more than the reasons. Reasons are an
optional part: the decision stands without those that fail, or whose turn does not come within half a second,
and the metrics tell.
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
    """Explains one alert after the other; counts in `metrics` what came of it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._line: deque[_Asked] = deque()

    async def find(self, bundle: Bundle, encoded: Encoded) -> Found:
        """What moved the student's logit."""
        loop, outcome = asyncio.get_running_loop(), "given"
        asked = _Asked(bundle, encoded, perf_counter(), loop.create_future())
        self._line.append(asked)
        if len(self._line) == 1:
            loop.call_soon(self._next)
        try:
            found = await asked.answer
            if found is None:
                outcome = "late"
                _logger.warning("bundle %s gave no reasons in time", bundle.version)
        except Exception:
            found, outcome = None, "failed"
            _logger.exception("bundle %s could not give reasons", bundle.version)
        seconds = perf_counter() - asked.at
        self._metrics.explained(outcome, seconds)
        return _kept(found, seconds * 1e3) if found else Found()

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


def _kept(found: Explanation, milliseconds: float) -> Found:
    explained = Explained(
        catalogue=found.catalogue, milliseconds=milliseconds, past=stated(found.past), facts=dict(found.facts)
    )
    return Found(stated(found.reasons), explained)
