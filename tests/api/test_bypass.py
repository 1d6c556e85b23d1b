"""The teacher decides when it can; when it cannot, the student's score stands and nobody waits."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from fake_serving import LateTeacher, body, running, settings_for, write_bundle
from fastapi import FastAPI

from api.app import create_app

pytestmark = pytest.mark.anyio


def app_with(tmp_path: Path, teacher: str, deadline_ms: float = 30.0) -> FastAPI:
    bundle = write_bundle(tmp_path / "bundle", teacher=teacher)
    return create_app(settings_for(tmp_path / "state", bundle=bundle, teacher_deadline_ms=deadline_ms))


async def record_of(client: httpx.AsyncClient, tx_id: str, amount: float, **changes: str) -> dict[str, object]:
    answer = await client.post("/v1/score", json=body(tx_id, amount, **changes))
    assert answer.status_code == 200, answer.text
    stored: dict[str, object] = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
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
    async with running(app_with(tmp_path, teacher)) as client:
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


async def test_reasons_that_fail_do_not_fail_the_decision(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no reasons")

    monkeypatch.setattr("api.scoring.explain", fail)
    stored = await record_of(client, "tx-1", 850)
    assert (stored["action"], stored["reasons"]) == ("hold", [])


async def test_reasons_that_come_late_are_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_explain = threading.Event()
    monkeypatch.setattr("api.scoring.explain", lambda *_: may_explain.wait(20))
    monkeypatch.setattr("api.scoring.REASONS_SECONDS", 0.01)
    stored = await asyncio.wait_for(record_of(client, "tx-1", 850), 10)
    assert (stored["action"], stored["reasons"]) == ("hold", [])
    may_explain.set()


async def test_the_schema_says_whose_logit_the_reasons_explain(app: FastAPI) -> None:
    schema = app.openapi()["components"]["schemas"]["StatedReason"]
    assert "student" in schema["properties"]["effect"]["description"]
