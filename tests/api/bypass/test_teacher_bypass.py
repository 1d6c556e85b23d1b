"""Who decides: the teacher where it was wanted and answers, else the student, by the policy and with the reason."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fake_serving import body
from fake_teachers import FakeTeacher, encoded, fake_bundle, scored
from prometheus_client import CollectorRegistry, generate_latest

from api.bypass import TeacherBypass, Verdict
from api.bypass.metrics import BypassMetrics
from api.bypass.policies import Policies
from api.bypass.settings import BypassSettings
from api.bypass.teachers import LocalTeacher
from api.path.pseudonyms import Pseudonyms
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import UnavailableError
from riskdistill.storage.decisions import Bypass, WantedReason

pytestmark = pytest.mark.anyio
DEADLINE = 0.02


class Asking:
    """A bypass with settings, and the fake teacher that it asks."""

    def __init__(self, deadline: float = DEADLINE, **settings: Any) -> None:
        told = BypassSettings.model_validate(settings)
        self.teacher, self.registry = FakeTeacher(), CollectorRegistry()
        policies = Policies(told.policies, Rates.fixed(), Pseudonyms("0123456789abcdef"), ())
        local = LocalTeacher(1, deadline)
        self.bypass = TeacherBypass(told, policies, deadline, local, self.teacher, BypassMetrics(self.registry))
        self.bundle = fake_bundle()

    async def verdict(self, student: float = 0.45, *wanted: WantedReason) -> Verdict:
        reasons = wanted or ("uncertain",)
        return await self.bypass.settle(reasons, self.bundle, encoded(), scored(student))


def record_of(verdict: Verdict) -> Bypass:
    assert verdict.bypass is not None
    return verdict.bypass


async def test_a_teacher_that_answers_decides_and_the_record_says_what_it_took() -> None:
    asking = Asking(teacher={"cost_per_call": 0.25})
    verdict = await asking.verdict(0.45, "uncertain", "amount")
    assert (verdict.route, verdict.reason, verdict.band) == ("teacher", "uncertain", "medium")
    assert verdict.score == verdict.teacher_score == 0.7
    record = record_of(verdict)
    assert (record.wanted, record.outcome, record.cost) == (("uncertain", "amount"), "answered", 0.25)
    assert (record.teacher, record.teacher_version) == ("fake", "v1")
    assert (record.student_action, record.teacher_action, record.raised) == ("allow", "review", False)
    assert record.latency_ms is not None
    assert 0 <= record.latency_ms < 1_000


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason"),
    [
        (None, "late", "teacher_late"),
        (RuntimeError("lost its weights"), "failed", "teacher_failed"),
        (UnavailableError("no answer"), "failed", "teacher_failed"),
        (float("nan"), "failed", "teacher_failed"),
        (1.5, "failed", "teacher_failed"),
    ],
)
@pytest.mark.parametrize(
    ("fallback", "student", "band"),
    [("cheap", 0.45, "low"), ("safe", 0.45, "medium"), ("safe", 0.55, "high"), ("safe", 0.95, "high")],
)
async def test_without_an_answer_the_policy_says_what_holds(
    behaviour: float | Exception | None, outcome: str, reason: str, fallback: str, student: float, band: str
) -> None:
    asking = Asking(fallback=fallback)
    asking.teacher.behaviour = behaviour
    verdict = await asking.verdict(student)
    assert (verdict.route, verdict.reason, verdict.band) == ("student_degraded", reason, band)
    assert (verdict.score, verdict.teacher_score) == (student, None)
    record = record_of(verdict)
    assert record.outcome == outcome
    assert record.raised == (fallback == "safe" and student < 0.8)
    assert record.latency_ms is not None
    assert record.teacher_action is None


async def test_one_reason_that_is_safe_is_enough_to_raise_the_band() -> None:
    asking = Asking(fallback_of={"amount": "safe"})
    asking.teacher.behaviour = None
    assert (await asking.verdict(0.45, "uncertain")).band == "low"
    assert (await asking.verdict(0.45, "uncertain", "amount")).band == "medium"


@pytest.mark.parametrize(("behaviour", "teacher_score"), [(0.95, 0.95), (None, None)])
async def test_the_student_decides_on_what_was_only_sampled(
    behaviour: float | None, teacher_score: float | None
) -> None:
    asking = Asking(policies={"sample": 0.5}, fallback="safe")
    asking.teacher.behaviour = behaviour
    verdict = await asking.verdict(0.1, "sampled")
    assert (verdict.route, verdict.reason, verdict.band, verdict.score) == ("student", "sampled", "low", 0.1)
    assert verdict.teacher_score == teacher_score
    record = record_of(verdict)
    assert (record.sample_share, record.raised) == (0.5, False)
    assert record.outcome == ("late" if behaviour is None else "answered")


async def test_what_was_sampled_and_wanted_otherwise_is_the_teacher_s_and_still_in_the_sample() -> None:
    asking = Asking(policies={"sample": 0.5})
    verdict = await asking.verdict(0.95, "above_threshold", "sampled")
    assert (verdict.route, verdict.reason) == ("teacher", "above_threshold")
    assert record_of(verdict).sample_share == 0.5


@pytest.mark.parametrize("fallback", ["cheap", "safe"])
async def test_over_the_budget_nobody_is_asked_and_the_policy_holds(fallback: str) -> None:
    asking = Asking(budget={"share": 0.001, "burst": 2}, fallback=fallback, teacher={"cost_per_call": 1.0})
    verdicts = [await asking.verdict() for _ in range(4)]
    assert [verdict.reason for verdict in verdicts] == ["uncertain", "uncertain", "budget", "budget"]
    last = verdicts[-1]
    assert (last.route, last.band) == ("student_degraded", "medium" if fallback == "safe" else "low")
    assert (record_of(last).cost, record_of(last).latency_ms) == (0.0, None)
    assert asking.teacher.asked == 2


async def test_traffic_that_does_not_want_the_teacher_fills_the_budget_s_share() -> None:
    asking = Asking(budget={"share": 0.1, "burst": 1})
    transaction = Transaction.model_validate(body())
    assert (await asking.verdict()).route == "teacher"
    assert (await asking.verdict()).reason == "budget"
    for _ in range(11):
        assert asking.bypass.wanted(asking.bundle, transaction, scored(0.1)) == ()
    assert (await asking.verdict()).route == "teacher"


async def test_late_answers_in_a_row_open_the_breaker_and_then_nobody_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asking = Asking(breaker={"failures": 3, "pause_seconds": 60}, budget={"share": 0.001, "burst": 4})
    asking.teacher.behaviour = None
    reasons = [(await asking.verdict()).reason for _ in range(6)]
    assert reasons == ["teacher_late"] * 3 + ["breaker_open"] * 3
    assert asking.teacher.asked == asking.teacher.cancelled == 3
    assert "the circuit breaker of the fake teacher is open" in caplog.text
    assert 'riskdistill_teacher_breaker{state="open"} 1.0' in generate_latest(asking.registry).decode()


async def test_after_the_pause_one_call_tries_and_the_teacher_decides_again() -> None:
    asking = Asking(breaker={"failures": 1, "pause_seconds": 1e-9})
    asking.teacher.behaviour = RuntimeError("down")
    assert (await asking.verdict()).reason == "teacher_failed"
    asking.teacher.behaviour = 0.7
    assert (await asking.verdict()).route == "teacher"
    assert 'riskdistill_teacher_breaker{state="closed"} 1.0' in generate_latest(asking.registry).decode()


async def test_more_calls_than_may_wait_are_not_made() -> None:
    asking = Asking(teacher={"calls_at_once": 1, "calls_waiting": 2}, breaker={"failures": 100})
    asking.teacher.behaviour = None
    reasons = [verdict.reason for verdict in await asyncio.gather(*(asking.verdict() for _ in range(5)))]
    assert sorted(reasons) == ["teacher_busy"] * 2 + ["teacher_late"] * 3
    asking.teacher.behaviour = 0.7
    assert (await asking.verdict()).route == "teacher"  # the places are free again


async def test_without_a_teacher_nothing_is_taken_from_the_budget() -> None:
    asking = Asking(budget={"share": 0.001, "burst": 1})
    asking.bundle = fake_bundle("none")
    for _ in range(3):
        assert (await asking.verdict()).reason == "teacher_not_loaded"
    asking.bundle = fake_bundle()
    assert (await asking.verdict()).route == "teacher"


async def test_a_failure_is_logged_without_the_transaction(caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking()
    asking.teacher.behaviour = UnavailableError("answers 500", where="https://teacher.example")
    with caplog.at_level(logging.WARNING):
        await asking.verdict()
    assert "the fake teacher failed: https://teacher.example: answers 500" in caplog.text


async def test_a_bundle_without_a_teacher_lends_none() -> None:
    asking = Asking(deadline=20.0)
    assert (await asking.bypass.lend(asking.bundle, encoded(200))).score == pytest.approx(0.25)
    with pytest.raises(UnavailableError, match=r"no teacher that is loaded .*readyz"):
        await asking.bypass.lend(fake_bundle("none"), encoded())
    await asking.bypass.close()
