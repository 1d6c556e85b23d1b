"""What a caller of the scoring routes gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fake_serving import KEY, FakeEngine, body
from fastapi import FastAPI

from riskdistill.data.schema import ACCOUNT_FIELDS
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.anyio


async def score(client: httpx.AsyncClient, *args: Any, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/score", json=body(*args, **changes))
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def test_a_low_score_is_allowed_by_the_student_without_reasons(client: httpx.AsyncClient) -> None:
    said = await score(client, amount=100)
    assert said["score"] == pytest.approx(0.1, abs=1e-6)
    assert (said["band"], said["action"], said["route"], said["reasons"]) == ("low", "allow", "student", [])
    assert said["tx_id"] == "tx-1"
    assert said["bundle_version"] == "a" * 16
    assert said["latency_ms"] >= 0
    assert " ".join(said) == "decision_id tx_id score band action route reasons bundle_version latency_ms"


@pytest.mark.parametrize(
    ("amount", "route", "score_", "band", "action"),
    [
        (399, "student", 0.399, "low", "allow"),
        (400, "teacher", 0.45, "low", "allow"),
        (599, "teacher", 0.649, "medium", "review"),
        (600, "student", 0.6, "medium", "review"),
        (799, "student", 0.799, "medium", "review"),
        (800, "student", 0.8, "high", "hold"),
        (900, "teacher", 0.95, "high", "hold"),
    ],
)
async def test_thresholds_choose_route_band_and_action(
    client: httpx.AsyncClient, amount: float, route: str, score_: float, band: str, action: str
) -> None:
    said = await score(client, amount=amount)
    assert (said["route"], said["band"], said["action"]) == (route, band, action)
    assert said["score"] == pytest.approx(score_, abs=1e-6)


async def test_an_alert_states_its_reasons_and_its_likely_typology(client: httpx.AsyncClient) -> None:
    said = await score(client, amount=850)
    assert said["reasons"] == [{"code": "amount", "text": "amount of 850", "effect": 0.85}]
    stored = (await client.get(f"/v1/decisions/{said['decision_id']}")).json()
    assert stored["typology"] == "fan_in"
    assert stored["route_reason"] == "none"


async def test_the_stored_decision_holds_both_scores_and_no_account_id(client: httpx.AsyncClient) -> None:
    said = await score(client, amount=950)
    answer = await client.get(f"/v1/decisions/{said['decision_id']}")
    stored = answer.json()
    assert {name: stored[name] for name in said} == said
    assert stored["route_reason"] == "above_threshold"
    assert stored["student_score"] == pytest.approx(0.95)
    assert stored["teacher_score"] == pytest.approx(1.0)
    assert stored["transaction"]["sender_bank"] == "BANK1"
    assert "DE-sender" not in answer.text
    assert "FR-receiver" not in answer.text


async def test_balances_and_customer_fields_reach_the_engine_and_the_log(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Transaction] = []
    observing = FakeEngine.observing_many

    def spied(engine: FakeEngine, transactions: Sequence[Transaction]) -> Any:
        seen.extend(transactions)
        return observing(engine, transactions)

    monkeypatch.setattr(FakeEngine, "observing_many", spied)
    known = {
        "sender_balance": -20.5,
        "receiver_tenure_days": 400.0,
        "sender_contact_changes": 2.0,
        "sender_class": "pep",
    }
    said = await score(client, **known)
    [transaction] = seen
    assert {name: getattr(transaction, name) for name in ACCOUNT_FIELDS if name in known} == known
    stored = (await client.get(f"/v1/decisions/{said['decision_id']}")).json()["transaction"]
    assert {name: stored[name] for name in ACCOUNT_FIELDS if name in stored} == known
    assert await score(client, **known, receiver_balance=None) == said  # null is not known
    answer = await client.post("/v1/score", json=body("other", sender_tenure_days=-1))
    assert (answer.status_code, "sender_tenure_days" in answer.text) == (422, True)


async def test_the_same_transaction_again_gets_the_stored_answer(client: httpx.AsyncClient, app: FastAPI) -> None:
    first = await score(client)
    assert await score(client) == first
    assert await score(client, timestamp="2026-03-01T10:30:00+01:00") == first  # the same instant
    assert app.state.service.parts.log.verify().entries == 1


async def test_the_same_id_with_another_body_is_a_conflict(client: httpx.AsyncClient) -> None:
    said = await score(client)
    answer = await client.post("/v1/score", json=body(amount=101))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Transaction id was used with another body"
    assert said["decision_id"] in answer.json()["detail"]


async def test_the_same_transaction_many_times_at_once_is_decided_once(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    answers = await asyncio.gather(*(score(client, amount=950) for _ in range(20)))
    assert all(said == answers[0] for said in answers)
    assert app.state.service.parts.log.verify().entries == 1


async def test_a_batch_is_answered_in_order_and_a_conflict_harms_only_its_item(
    client: httpx.AsyncClient,
) -> None:
    await score(client, "tx-2", 100)
    transactions = [body("tx-3", 300), body("tx-2", 999), body("tx-1", 950), body("tx-3", 300)]
    answer = await client.post("/v1/score/batch", json={"transactions": transactions})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [item["tx_id"] for item in results] == ["tx-3", "tx-2", "tx-1", "tx-3"]
    assert results[1]["decision"] is None
    assert results[1]["problem"]["status"] == 422
    assert results[0]["decision"] == results[3]["decision"]
    assert results[0]["problem"] is None
    assert results[2]["decision"]["score"] == pytest.approx(1.0)


async def test_a_transaction_alone_and_in_a_batch_gets_the_same_score(client: httpx.AsyncClient) -> None:
    accounts = [f"account-{number}" for number in range(50)]
    bodies = [body(f"b-{number}", 7.7 * number, sender_account=name) for number, name in enumerate(accounts)]
    answer = await client.post("/v1/score/batch", json={"transactions": bodies})
    batch = [item["decision"]["score"] for item in answer.json()["results"]]
    others = [f"other-{number}" for number in range(50)]
    alone = [
        (await score(client, f"a-{number}", 7.7 * number, sender_account=name))["score"]
        for number, name in enumerate(others)
    ]
    assert batch == pytest.approx(alone, abs=1e-6)


async def test_concurrent_requests_share_commits_and_all_are_durable(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: DecisionLog = app.state.service.parts.log
    sizes: list[int] = []
    append = log.append

    def counted(decisions: Any) -> None:
        sizes.append(len(decisions))
        append(decisions)

    monkeypatch.setattr(log, "append", counted)
    answers = await asyncio.gather(*(score(client, f"tx-{number}") for number in range(100)))
    assert log.verify().entries == sum(sizes) == 100
    assert len(sizes) < 100
    assert {said["decision_id"] for said in answers} == {entry.decision.decision_id for entry in log.read()}


async def test_bearer_and_header_keys_are_both_accepted(client: httpx.AsyncClient) -> None:
    del client.headers["X-API-Key"]
    answer = await client.post("/v1/score", json=body(), headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200


async def test_metrics_count_routes_decisions_and_bypasses(client: httpx.AsyncClient) -> None:
    await score(client, "tx-1", 100)
    await score(client, "tx-2", 950)
    await client.get("/v1/decisions/none-such")
    await client.get("/none-such")
    text = (await client.get("/metrics")).text
    for line in (
        'riskdistill_requests_total{route="/v1/score",status="200"} 2.0',
        'riskdistill_requests_total{route="/v1/decisions/{decision_id}",status="404"} 1.0',
        'riskdistill_requests_total{route="unmatched",status="404"} 1.0',
        'riskdistill_decisions_total{action="allow",route="student"} 1.0',
        'riskdistill_decisions_total{action="hold",route="teacher"} 1.0',
        'riskdistill_bypass_total{reason="above_threshold"} 1.0',
        f'riskdistill_bundle_info{{role="current",version="{"a" * 16}"}} 1.0',
        'riskdistill_request_seconds_count{route="/v1/score"} 2.0',
    ):
        assert line in text


@pytest.mark.parametrize("route", ["/v1/score", "/v1/score/batch"])
async def test_a_stamp_from_far_ahead_is_refused_for_it_would_stop_the_account_s_clock(
    client: httpx.AsyncClient, route: str
) -> None:
    ahead = body(timestamp=(datetime.now(UTC) + timedelta(days=2)).isoformat())
    answer = await client.post(route, json=ahead if route == "/v1/score" else {"transactions": [ahead]})
    assert answer.status_code == 422
    assert "more than a day after now" in answer.text
    tomorrow = (datetime.now(UTC) + timedelta(hours=20)).isoformat()
    assert (await score(client, timestamp=tomorrow))["action"] == "allow"
