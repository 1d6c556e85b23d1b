"""Finds the reasons of an alert while its decision waits, for at most a tenth of a second.

Reasons are an optional part: the decision stands without those that are late or fail, and the metrics tell.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Final, NamedTuple

from api.desk.explanation import stated
from api.telemetry.metrics import Metrics
from riskdistill.bundle import Bundle
from riskdistill.features.encoded import Encoded
from riskdistill.reasons import Explanation, explain
from riskdistill.storage.decisions import Explained, StatedReason

SECONDS: Final = 0.1  # the longest wait for an explanation, queueing included
_logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """Fields of a `Decision`; of one that needs no reasons, or got none, they are empty."""

    reasons: tuple[StatedReason, ...] = ()
    explained: Explained | None = None


class AlertReasons:
    """Explains one alert after the other, beside the event loop; counts in `metrics` what came of it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reasons")

    async def find(self, bundle: Bundle, encoded: Encoded) -> Found:
        """What moved the student's logit."""
        began, found, outcome = perf_counter(), None, "given"
        asked = asyncio.get_running_loop().run_in_executor(self._thread, explain, bundle, encoded)
        try:
            found = await asyncio.wait_for(asked, SECONDS)
        except TimeoutError:
            outcome = "late"
            _logger.warning("bundle %s gave no reasons in time", bundle.version)
        except Exception:
            outcome = "failed"
            _logger.exception("bundle %s could not give reasons", bundle.version)
        seconds = perf_counter() - began
        self._metrics.explained(outcome, seconds)
        return _kept(found, seconds * 1e3) if found else Found()

    def close(self) -> None:
        """Lets go of what waits; nobody does any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _kept(found: Explanation, milliseconds: float) -> Found:
    explained = Explained(
        catalogue=found.catalogue, milliseconds=milliseconds, past=stated(found.past), facts=dict(found.facts)
    )
    return Found(stated(found.reasons), explained)
