"""The teacher bypass: who decides on a score, and what holds when the teacher is wanted and not there.

The teacher is an optional part: it has its own thread, so that the student never waits for it, and a
deadline, after which the student's score stands and the route says `student_degraded`.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from riskdistill.bundle import Bundle
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import Route, RouteReason

_logger = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """Who decided, why, and on which row of scores."""

    route: Route
    reason: RouteReason
    scored: Scored

    @property
    def score(self) -> float:
        """The calibrated score that decides."""
        return float(self.scored.score[0])


class TeacherBypass:
    """Asks the teacher, one transaction at a time, within `deadline` seconds (queueing counts)."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")

    def at_once(self, bundle: Bundle, student: Scored) -> Verdict | None:
        """The verdict where the student's scores are enough; None where `settle` is to be asked."""
        wanted = bundle.thresholds.bypass(float(student.score[0]))
        return Verdict("student", "none", student) if wanted is None else None

    async def settle(self, bundle: Bundle, encoded: Encoded, student: Scored) -> Verdict:
        """The verdict on one transaction, given its features and the student's scores."""
        wanted = bundle.thresholds.bypass(float(student.score[0]))
        if wanted is None:
            return Verdict("student", "none", student)
        if bundle.teacher is None:
            return Verdict("student_degraded", "teacher_not_loaded", student)
        asked = asyncio.get_running_loop().run_in_executor(self._thread, bundle.teacher.score, encoded)
        try:
            teacher = await asyncio.wait_for(asked, self._deadline)
        except TimeoutError:
            return Verdict("student_degraded", "teacher_late", student)
        except Exception:
            _logger.exception("the teacher of bundle %s failed", bundle.version)
            return Verdict("student_degraded", "teacher_failed", student)
        if not 0 <= teacher.score[0] <= 1:  # NaN too
            _logger.error("the teacher of bundle %s gave no probability", bundle.version)
            return Verdict("student_degraded", "teacher_failed", student)
        return Verdict("teacher", wanted, teacher)

    def close(self) -> None:
        """Lets go of the teacher's thread; a call that is under way ends on its own."""
        self._thread.shutdown(wait=False, cancel_futures=True)
