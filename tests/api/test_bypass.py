"""The teacher decides when it can; when it cannot, the student's score stands and nobody waits."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import LateTeacher, body, running, settings_for, write_bundle
from fastapi import FastAPI

from api.app import create_app
from riskdistill.reasons import Explanation, Reason

pytestmark = pytest.mark.anyio


def app_with(tmp_path: Path, teacher: str, deadline_ms: float = 30.0, told: str = "fallback: cheap") -> FastAPI:
    bundle, bypass = write_bundle(tmp_path / "bundle", teacher=teacher), tmp_path / "bypass.yaml"
    bypass.write_text(told)
    settings = settings_for(tmp_path / "state", bundle=bundle, bypass=bypass, teacher_deadline_ms=deadline_ms)
    return create_app(settings)


async def record_of(client: httpx.AsyncClient, tx_id: str, amount: float, **changes: str) -> dict[str, Any]:
    answer = await client.post("/v1/score", json=body(tx_id, amount, **changes))
    assert answer.status_code == 200, answer.text
    stored: dict[str, Any] = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
    return stored


@pytest.mark.parametrize(
    ("teacher", "reason"),
    [
        ("late", "teacher_late"),
        ("failing", "teacher_failed"),
        ("nan", "teacher_failed"),
        ("none", "teacher_not_loaded"),
    ],
)
async def test_without_its_teacher_the_student_decides_and_says_so(
    tmp_path: Path, teacher: str, reason: str
) -> None:
    async with running(app_with(tmp_path, teacher, 30 if teacher == "late" else 20_000)) as client:
        stored = await record_of(client, "tx-1", 950)
        assert (stored["route"], stored["route_reason"]) == ("student_degraded", reason)
        assert stored["score"] == stored["student_score"] == pytest.approx(0.95)
        assert stored["teacher_score"] is None
        assert stored["action"] == "hold"
        assert f'riskdistill_bypass_total{{reason="{reason}"}} 1.0' in (await client.get("/metrics")).text


async def test_a_late_teacher_is_left_at_its_deadline(tmp_path: Path) -> None:
    async with running(app_with(tmp_path, "late", deadline_ms=30)) as client:
        stored = await record_of(client, "tx-1", 950)
        assert isinstance(stored["latency_ms"], float)
        assert 30 <= stored["latency_ms"] < 5_000  # the fake teacher itself would hang for 20 s


async def test_nobody_waits_for_the_teacher_of_other_accounts(tmp_path: Path) -> None:
    async with running(app_with(tmp_path, "late", deadline_ms=20_000)) as client:
        slow = asyncio.create_task(record_of(client, "tx-slow", 950))
        others = {"sender_account": "another", "receiver_account": "a third"}
        students = [await record_of(client, f"tx-{number}", 100, **others) for number in range(5)]
        assert not slow.done()
        LateTeacher.may_answer.set()
        stored = await slow
        assert stored["route"] == "teacher"
        assert [student["route"] for student in students] == ["student"] * 5


async def test_a_drawn_transaction_is_the_student_s_and_keeps_the_teacher_s_score(tmp_path: Path) -> None:
    async with running(app_with(tmp_path, "ok", 20_000, "policies: {sample: 1.0}")) as client:
        stored = await record_of(client, "tx-1", 300)
        metrics = (await client.get("/metrics")).text
    assert (stored["route"], stored["route_reason"]) == ("student", "sampled")
    assert stored["score"] == pytest.approx(0.3)
    assert stored["teacher_score"] == pytest.approx(0.35)
    bypass: Any = stored["bypass"]
    assert (bypass["wanted"], bypass["sample_share"], bypass["teacher"]) == (["sampled"], 1.0, "local")
    for line in (
        'riskdistill_teacher_wanted_total{outcome="answered",reason="sampled"} 1.0',
        'riskdistill_teacher_seconds_count{outcome="answered"} 1.0',
        'riskdistill_teacher_disagreement_bucket{le="0.1",sampled="true"} 1.0',
        'riskdistill_teacher_disagreement_bucket{le="0.02",sampled="true"} 0.0',
    ):
        assert line in metrics


async def test_different_actions_and_the_cost_of_calls_are_counted(tmp_path: Path) -> None:
    app = app_with(tmp_path, "ok", 20_000, "policies: {amount_usd: 1}\nteacher: {cost_per_call: 0.5}")
    async with running(app) as client:
        stored = [
            await record_of(client, f"tx-{amount}", amount, sender_account=f"s-{amount}") for amount in (470, 300)
        ]
        metrics = (await client.get("/metrics")).text
    assert [one["action"] for one in stored] == ["review", "allow"]
    assert [one["bypass"]["student_action"] for one in stored] == ["allow", "allow"]
    assert 'riskdistill_teacher_differing_actions_total{sampled="false"} 1.0' in metrics
    assert "riskdistill_teacher_cost_total 1.0" in metrics


async def test_where_a_policy_is_safe_the_action_is_raised_with_reasons_and_counted(tmp_path: Path) -> None:
    told = "policies: {countries: [KP]}\nfallback_of: {country: safe}"
    async with running(app_with(tmp_path, "failing", told=told)) as client:
        stored = await record_of(client, "tx-1", 100, receiver_country="KP")
        other = await record_of(client, "tx-2", 450)
        metrics = (await client.get("/metrics")).text
    assert (stored["score"], stored["band"], stored["action"]) == (pytest.approx(0.1), "medium", "review")
    assert stored["reasons"]
    assert stored["bypass"]["raised"] is True
    assert (other["route"], other["action"]) == ("student_degraded", "allow")
    assert "riskdistill_raised_bands_total 1.0" in metrics


async def test_behind_a_teacher_that_hangs_the_breaker_opens_and_nobody_waits_any_more(tmp_path: Path) -> None:
    app = app_with(tmp_path, "late", 30, "breaker: {failures: 2, pause_seconds: 600}")
    async with running(app) as client:
        stored = [await record_of(client, f"tx-{number}", 950) for number in range(4)]
    assert [one["route_reason"] for one in stored] == ["teacher_late"] * 2 + ["breaker_open"] * 2
    assert [one["action"] for one in stored] == ["hold"] * 4
    assert stored[-1]["bypass"]["latency_ms"] is None


async def reasons_of_alerts(client: httpx.AsyncClient) -> dict[str, int]:
    """How many alerts were given reasons, or why not."""
    text = (await client.get("/metrics")).text
    counts = re.findall(r'riskdistill_reasons_seconds_count\{outcome="(\w+)"\} (\d+)', text)
    return {outcome: int(count) for outcome, count in counts}


async def test_reasons_that_fail_do_not_fail_the_decision(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no reasons")

    monkeypatch.setattr("api.path.alert_reasons.explain", fail)
    stored = await record_of(client, "tx-1", 850)
    assert (stored["action"], stored["reasons"]) == ("hold", [])
    assert await reasons_of_alerts(client) == {"given": 0, "late": 0, "failed": 1}


async def test_reasons_that_cannot_be_stored_keep_no_decision_of_the_group_from_being_stored(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object, **__: object) -> Explanation:
        return Explanation((Reason("amount", "", float("inf")),), (), {}, "1")

    monkeypatch.setattr("api.path.alert_reasons.explain", odd)
    sent = [body(f"tx-{number}", amount) for number, amount in enumerate([100, 850, 850, 100])]
    batch = await client.post("/v1/score/batch", json={"transactions": sent})
    assert [one["decision"]["action"] for one in batch.json()["results"]] == ["allow", "hold", "hold", "allow"]
    assert await reasons_of_alerts(client) == {"given": 0, "late": 0, "failed": 2}


async def test_reasons_whose_turn_does_not_come_in_time_are_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.path.alert_reasons.SECONDS", 0.0)
    alerts = [body(f"tx-{number}", 850, sender_account=f"DE-{number}") for number in range(3)]
    batch = await client.post("/v1/score/batch", json={"transactions": alerts})
    said = [result["decision"] for result in batch.json()["results"]]
    assert [one["action"] for one in said] == ["hold"] * 3
    assert [bool(one["reasons"]) for one in said] == [True, False, False]  # the first has no turn to wait for
    assert await reasons_of_alerts(client) == {"given": 1, "late": 2, "failed": 0}


async def test_the_first_alert_of_a_group_is_durable_with_the_others_of_it(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, lots = app.state.service.parts.log, list[list[str]]()
    append = log.append
    monkeypatch.setattr(log, "append", lambda lot, *rest: (lots.append([one.tx_id for one in lot]), append(lot)))
    sent = [body("low", 100), body("first", 850, sender_account="DE-1"), body("second", 850, sender_account="DE-2")]
    await client.post("/v1/score/batch", json={"transactions": sent})
    assert lots[0] == ["low", "first"]
    assert ["second"] in lots


async def test_alerts_that_got_reasons_are_counted_and_others_are_not(client: httpx.AsyncClient) -> None:
    await record_of(client, "low", 100)
    await record_of(client, "tx-1", 850)
    assert await reasons_of_alerts(client) == {"given": 1, "late": 0, "failed": 0}


async def test_the_schema_says_whose_logit_the_reasons_explain(app: FastAPI) -> None:
    schema = app.openapi()["components"]["schemas"]["StatedReason"]
    assert "student" in schema["properties"]["effect"]["description"]
