"""Who decides on a score, and what holds when the teacher is wanted and not there, from top to bottom.

wanted     the policies; without a reason the student decides, and nothing here waits
obstacle   no teacher, breaker open, too many calls waiting, over the budget: it is not asked
asked      within the deadline, which counts waiting for its turn; its answer is checked
decided    with an answer, the teacher decides. A transaction that only the sample wanted is the student's
           either way: what is learned from the sample would else hold for another rule than the one in use
without    the student's score stands; where a policy is fail-safe, band and action are one above its own.
           That holds over the budget too, or a flood of payments would be a way around the policy
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter
from typing import Final, NamedTuple

from api.bypass.breaker import CircuitBreaker, State
from api.bypass.budget import Budget
from api.bypass.customer_classes import accounts_of
from api.bypass.metrics import BypassMetrics
from api.bypass.policies import Policies
from api.bypass.settings import BypassSettings
from api.bypass.teachers import Answer, LocalTeacher, RemoteTeacher, Teacher
from api.path.pseudonyms import Pseudonyms
from api.settings import ApiSettings
from riskdistill.bundle import ACTIONS, Band, Bundle
from riskdistill.data.rates import Rates
from riskdistill.data.schema import NORMAL
from riskdistill.data.transaction import Transaction
from riskdistill.errors import UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import Bypass, BypassOutcome, Route, RouteReason, WantedReason

_logger = logging.getLogger(__name__)
Wanted = tuple[WantedReason, ...]
_ONLY_SAMPLED: Final[Wanted] = ("sampled",)
_ABOVE: Final[dict[Band, Band]] = {"low": "medium", "medium": "high", "high": "high"}
_LEVELS: Final[dict[State, int]] = {"closed": logging.INFO, "half_open": logging.INFO, "open": logging.WARNING}
_REASONS: Final[dict[BypassOutcome, RouteReason]] = {
    "late": "teacher_late",
    "failed": "teacher_failed",
    "not_loaded": "teacher_not_loaded",
    "busy": "teacher_busy",
    "breaker_open": "breaker_open",
    "budget": "budget",
}


class Verdict(NamedTuple):
    """Who decided, why, on which row of scores, and what was asked of the teacher."""

    route: Route
    reason: RouteReason
    scored: Scored
    band: Band
    teacher_score: float | None = None
    bypass: Bypass | None = None

    @property
    def score(self) -> float:
        """The calibrated score that decides."""
        return float(self.scored.score[0])

    def typology(self, bundle: Bundle) -> str | None:
        """The likeliest kind of laundering."""
        likely = self.scored.typology[0].argsort()[::-1]
        return next((bundle.typologies[index] for index in likely if bundle.typologies[index] != NORMAL), None)


class _Asked(NamedTuple):
    outcome: BypassOutcome
    answer: Answer | None = None
    seconds: float | None = None


def by_student(bundle: Bundle, student: Scored) -> Verdict:
    """The verdict where the teacher is not wanted."""
    return Verdict("student", "none", student, bundle.thresholds.band(float(student.score[0])))


def by_failure(bundle: Bundle, student: Scored) -> Verdict:
    """The verdict where the bypass itself failed: state has moved on by then, so a decision must come of it."""
    return by_student(bundle, student)._replace(route="student_degraded", reason="step_failed")


class TeacherBypass:
    """Asks the teacher where the policies want it, within `deadline` seconds. Used on one event loop.

    Args:
        settings, policies: what it is told.
        deadline: seconds.
        local: the bundle's teacher, which is also lent to other services.
        teacher: who is asked.
        metrics: told of the breaker.
    """

    def __init__(
        self,
        settings: BypassSettings,
        policies: Policies,
        deadline: float,
        local: LocalTeacher,
        teacher: Teacher,
        metrics: BypassMetrics,
    ) -> None:
        self._settings, self._policies, self._deadline = settings, policies, deadline
        self._local, self._teacher, self._metrics = local, teacher, metrics
        self._budget = Budget(settings.budget)
        self._breaker = CircuitBreaker(settings.breaker, self._tell_state)
        self._under_way, self._most = 0, settings.teacher.calls_at_once + settings.teacher.calls_waiting

    def wanted(self, bundle: Bundle, transaction: Transaction, student: Scored) -> Wanted:
        """Why the teacher is wanted; nothing where the student decides. Asked once for each transaction."""
        self._budget.saw_one()
        return self._policies.wanted(bundle.thresholds, transaction, float(student.score[0]))

    async def settle(self, wanted: Wanted, bundle: Bundle, encoded: Encoded, student: Scored) -> Verdict:
        """The verdict on a transaction for which the teacher is wanted."""
        obstacle = self._obstacle(bundle)
        asked = await self._ask(bundle, encoded) if obstacle is None else _Asked(obstacle)
        return self._verdict(wanted, asked, bundle, student)

    async def lend(self, bundle: Bundle, encoded: Encoded) -> Scored:
        """The scores of the bundle's own teacher for another service's rows, within the same deadline and queue.

        Raises:
            UnavailableError: it is not there, busy, or late.
        """
        if not self._local.is_there(bundle):
            raise UnavailableError(
                "the bundle has no teacher that is loaded",
                mend="wait until /readyz says that it is loaded, or ask a service whose bundle has one",
            )
        if self._under_way >= self._most:
            raise UnavailableError("the teacher has enough to do", mend="ask again later")
        self._under_way += 1
        try:
            return (await asyncio.wait_for(self._local.ask(bundle, encoded), self._deadline)).scored
        except TimeoutError as error:
            raise UnavailableError("the teacher is late", mend="ask again later") from error
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        """Lets go of the teachers; a call of the bundle's own that is under way ends on its own."""
        await self._teacher.close()
        await self._local.close()

    def _tell_state(self, state: State) -> None:
        self._metrics.breaker(state)
        _logger.log(_LEVELS[state], "the circuit breaker of the %s teacher is %s", self._teacher.kind, state)

    def _obstacle(self, bundle: Bundle) -> BypassOutcome | None:
        if not self._teacher.is_there(bundle):
            return "not_loaded"
        if not self._breaker.allows():
            return "breaker_open"
        if self._under_way >= self._most:
            return "busy"
        return None if self._budget.take() else "budget"

    async def _ask(self, bundle: Bundle, encoded: Encoded) -> _Asked:
        started, era = perf_counter(), self._breaker.begin()
        answer: Answer | None = None
        outcome: BypassOutcome = "failed"
        self._under_way += 1
        try:
            answer = _checked(await asyncio.wait_for(self._teacher.ask(bundle, encoded), self._deadline))
            outcome = "answered"
        except TimeoutError:
            outcome = "late"
        except UnavailableError as error:
            _logger.warning("the %s teacher failed: %s", self._teacher.kind, error)
        except Exception:
            _logger.exception("the %s teacher failed on bundle %s", self._teacher.kind, bundle.version)
        finally:
            self._under_way -= 1
            self._breaker.end(era, answered=outcome == "answered")
        return _Asked(outcome, answer, perf_counter() - started)

    def _verdict(self, wanted: Wanted, asked: _Asked, bundle: Bundle, student: Scored) -> Verdict:
        own = bundle.thresholds.band(float(student.score[0]))
        bypass = Bypass(
            wanted=wanted,
            outcome=asked.outcome,
            teacher=self._teacher.kind,
            latency_ms=None if asked.seconds is None else asked.seconds * 1e3,
            cost=0.0 if asked.seconds is None else self._settings.teacher.cost_per_call,
            sample_share=self._policies.sample if "sampled" in wanted else None,
            student_action=ACTIONS[own],
        )
        if asked.answer is not None:
            scored, version = asked.answer
            if not scored.typology.size:
                scored = replace(scored, typology=student.typology)
            score = float(scored.score[0])
            band = bundle.thresholds.band(score)
            bypass = bypass.model_copy(update={"teacher_version": version, "teacher_action": ACTIONS[band]})
            if wanted != _ONLY_SAMPLED:
                return Verdict("teacher", wanted[0], scored, band, score, bypass)
            return Verdict("student", "sampled", student, own, score, bypass)
        if wanted == _ONLY_SAMPLED:
            return Verdict("student", "sampled", student, own, None, bypass)
        if self._settings.is_safe(wanted) and own != "high":
            own, bypass = _ABOVE[own], bypass.model_copy(update={"raised": True})
        return Verdict("student_degraded", _REASONS[asked.outcome], student, own, None, bypass)


def _checked(answer: Answer) -> Answer:
    if not 0 <= answer.scored.score[0] <= 1:  # NaN too
        raise UnavailableError("the teacher gave no probability")
    return answer


def make_bypass(
    settings: ApiSettings, told: BypassSettings, rates: Rates, pseudonyms: Pseudonyms, metrics: BypassMetrics
) -> TeacherBypass:
    """The bypass of a service with these settings.

    Raises:
        DataError: the file of customer classes cannot be used.
        ConfigError: the file of authorities that a remote teacher's certificate is checked with cannot.
    """
    deadline = settings.teacher_deadline_ms / 1e3
    policies = Policies(told.policies, rates, pseudonyms, accounts_of(told.policies.customer_classes, pseudonyms))
    local = LocalTeacher(told.teacher.calls_at_once, deadline)
    remote = told.teacher.riskdistill or told.teacher.open_inference
    teacher: Teacher = local
    if remote is not None:
        teacher = RemoteTeacher(remote, settings.teacher_key, told.teacher.calls_at_once, deadline)
    return TeacherBypass(told, policies, deadline, local, teacher, metrics)
