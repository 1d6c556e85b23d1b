"""The short way answers as FastAPI does, takes nothing that FastAPI refuses, and scores alike in any company."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fake_serving import KEY, FakeModel, body, running, settings_for
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select

from api.app import create_app
from api.path import wire
from api.path.hot_path import HotPath
from api.schemas import Answer, BatchAnswer, BatchItem
from api.security.key_file import KeyFile
from riskdistill.client import AsyncClient
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.tables import DECISIONS

pytestmark = pytest.mark.anyio
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.integers(-5, 10**20),
    st.floats(),
    st.sampled_from(["EUR", "EURO", "DE", "de", "ÄÖ", " x", "x ", "a\u00a0", "a\tb", "\ud800", "x" * 300]),
    st.sampled_from(["2026-03-01T09:30:00Z", "2026-03-01T10:30:00+01:00", "2026-03-01", "2026-W09-7T09:30:00Z"]),
    st.sampled_from(["2026-03-01T09:30:00.123456Z", "2026-03-01T24:00:00Z", "2026-02-30T09:30:00Z"]),
    st.sampled_from(["1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "２026-03-01T09:30:00Z"]),
)


@given(st.dictionaries(st.sampled_from([*Transaction.model_fields, "unknown"]), ODD, max_size=3))
def test_what_the_short_way_takes_pydantic_takes_for_the_same(changes: dict[str, Any]) -> None:
    sent = json.dumps(body() | changes).encode()
    read = wire.read_transaction(sent)
    if read is not None:
        expected = Transaction.model_validate(json.loads(sent))
        assert read == expected
        assert read.model_dump() == expected.model_dump()
        assert read.timestamp.tzinfo is expected.timestamp.tzinfo


@given(st.dictionaries(st.sampled_from(["sender_bank", "sender_class", "tx_id"]), st.text(max_size=5)))
def test_what_pydantic_refuses_the_short_way_does_not_take(changes: dict[str, Any]) -> None:
    sent = json.dumps(body() | changes).encode()
    try:
        Transaction.model_validate(json.loads(sent))
    except ValidationError:
        assert wire.read_transaction(sent) is None


@pytest.mark.parametrize("sent", [b"", b"{", b"[]", b"null", b'{"tx_id": NaN}', b"\xff", b'{"transactions": []}'])
def test_what_is_no_transaction_is_left_to_fastapi(sent: bytes) -> None:
    assert wire.read_transaction(sent) is None
    assert wire.read_batch(sent) is None


def test_ordinary_bodies_take_the_short_way() -> None:
    ordinary = body(sender_country="DE", receiver_country=None, sender_balance=-20.5, sender_class="retail")
    assert wire.read_transaction(json.dumps(ordinary).encode()) == Transaction.model_validate(ordinary)
    batch = wire.read_batch(json.dumps({"transactions": [ordinary] * 256}).encode())
    assert batch is not None
    assert len(batch) == 256
    assert wire.read_batch(json.dumps({"transactions": [ordinary] * 257}).encode()) is None


async def test_both_ways_answer_alike(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"transactions": [body("tx-2", 850), body("tx-1", 99), body("tx-3", 20)]}
    quick = [
        await client.post("/v1/score", json=body("tx-1", 100)),
        await client.post("/v1/score/batch", json=batch),
    ]
    refused = await client.post("/v1/score", json=body("tx-1", 99))
    monkeypatch.setattr(wire, "read_transaction", lambda _: None)
    monkeypatch.setattr(wire, "read_batch", lambda _: None)
    usual = [
        await client.post("/v1/score", json=body("tx-1", 100)),
        await client.post("/v1/score/batch", json=batch),
    ]
    assert [answer.json() for answer in quick] == [answer.json() for answer in usual]
    assert [list(answer.json()) for answer in quick] == [list(answer.json()) for answer in usual]
    assert quick[0].headers == usual[0].headers
    again = await client.post("/v1/score", json=body("tx-1", 99))
    assert (again.status_code, again.json(), again.headers) == (422, refused.json(), refused.headers)
    counted = (await client.get("/metrics")).text
    assert 'riskdistill_requests_total{route="/v1/score",status="200"} 2.0' in counted
    assert 'riskdistill_requests_total{route="/v1/score",status="422"} 2.0' in counted
    assert "unmatched" not in counted


def test_the_bytes_are_those_of_the_models() -> None:
    fields = {"decision_id": "d", "request_hash": "h", "decided_at": "2026-03-01T09:30:00Z", "score": 1e-7}
    route = {"band": "low", "action": "allow", "route": "student", "bundle_version": "b", "latency_ms": 1.5}
    reasons = [{"code": "velocity", "text": "fast", "effect": 0.5}]
    told = {**fields, **route, "tx_id": "tx-1", "transaction": body(), "student_score": 0.5, "reasons": reasons}
    decision = Decision.model_validate(told)
    assert json.loads(wire.answer_bytes(decision)) == Answer.of(decision).model_dump(mode="json")
    conflict = ConflictError("another body")
    batch = BatchAnswer.model_validate_json(wire.batch_bytes([("tx-1", decision), ("tx-2", conflict)], "/there"))
    assert batch.results[0] == BatchItem(tx_id="tx-1", decision=Answer.of(decision))
    assert batch.results[1].problem is not None
    assert "another body" in batch.results[1].problem.detail


async def test_a_body_without_a_length_is_answered_by_fastapi(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield json.dumps(body()).encode()

    headers = {"Content-Type": "application/json"}
    assert (await client.post("/v1/score", content=pieces(), headers=headers)).status_code == 200


async def test_what_arrives_together_is_scored_together_and_at_most_32_at_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    score = FakeModel.score
    monkeypatch.setattr(FakeModel, "score", lambda model, rows: sizes.append(len(rows)) or score(model, rows))
    batch = {"transactions": [body(f"tx-{n}", 10, sender_account=f"account {n % 35}") for n in range(70)]}
    results = (await client.post("/v1/score/batch", json=batch)).json()["results"]
    assert sizes == [32, 32, 6]
    assert [item["decision"]["score"] for item in results] == pytest.approx(
        [0.01 + 0.01 * (n // 35) for n in range(70)]
    )


async def test_one_that_cannot_be_scored_fails_alone(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = FakeModel.score

    def fragile(model: FakeModel, rows: Any) -> Any:
        if (rows.context[:, 0] == 666).any():
            raise RuntimeError("that one")
        return score(model, rows)

    monkeypatch.setattr(FakeModel, "score", fragile)
    posts = [client.post("/v1/score", json=body(f"tx-{amount}", amount)) for amount in (10, 666, 20)]
    answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json()["status"] == 500
    assert "that one" not in answers[1].text
    assert answers[1].headers["x-request-id"]
    assert answers[1].headers["content-type"] == "application/problem+json"
    assert answers[1].headers["cache-control"] == answers[0].headers["cache-control"] == "no-store"
    assert answers[2].json()["score"] == pytest.approx(0.03)  # the state knows of one earlier payment, not of two
    assert app.state.service.parts.scorer._under_way == {}
    assert 'riskdistill_requests_total{route="/v1/score",status="500"} 1.0' in (await client.get("/metrics")).text


async def test_a_request_with_a_key_of_its_own_is_answered_by_fastapi(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "read_transaction", lambda _: pytest.fail("the short way was taken"))
    headers = {"Idempotency-Key": '"one"'}
    assert (await client.post("/v1/score", json=body(), headers=headers)).status_code == 200
    assert (await client.post("/v1/score", json=body("tx-2"), headers=headers)).status_code == 422


async def test_what_passes_silently_is_drawn_into_the_sample_and_counted_once(tmp_path: Path, bundle: Path) -> None:
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, sample_share=1.0))
    async with running(app) as client:
        for _ in range(2):
            answer = (await client.post("/v1/score", json=body("tx-1", 100))).json()
        stored = app.state.service.parts.log.get(answer["decision_id"])
        assert (stored.action, stored.sample_share, stored.at_risk_usd) == ("allow", 1.0, 100.0)
        assert stored.features is not None
        counted = (await client.get("/metrics")).text
    assert "riskdistill_sampled_total 1.0" in counted
    for stage in ("lookup", "features", "student", "store"):
        assert f'riskdistill_stage_seconds_count{{stage="{stage}"}} 1.0' in counted


async def test_new_transactions_ask_the_log_for_nothing_and_known_ones_keep_their_place_in_line(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path / "state", bundle=bundle)
    async with running(create_app(settings)) as client:
        first = (await client.post("/v1/score", json=body("old", 100))).json()
    asked: list[Sequence[str]] = []
    may_answer, by_txs = threading.Event(), DecisionLog.by_txs

    def slowly(log: DecisionLog, ids: Sequence[str]) -> dict[str, Decision]:
        asked.append(ids)
        may_answer.wait(20)
        return by_txs(log, ids)

    monkeypatch.setattr(DecisionLog, "by_txs", slowly)
    app = create_app(settings)
    async with running(app) as client:
        await client.post("/v1/score", json=body("new", 100))
        assert asked == []
        again = asyncio.create_task(client.post("/v1/score", json=body("old", 100)))
        while not asked:
            await asyncio.sleep(0)
        behind = asyncio.create_task(client.post("/v1/score", json=body("behind", 100)))
        while len(app.state.service.parts.scorer._line) < 2:
            await asyncio.sleep(0)
        assert not behind.done()
        may_answer.set()
        assert (await again).json() == first
        assert (await behind).json()["score"] == pytest.approx(0.12)
    assert asked == [["old"]]


async def test_the_typed_client_reads_what_the_service_says(app: FastAPI) -> None:
    async with (
        running(app),
        AsyncClient("http://service", api_key="a-key-for-the-tests", transport=httpx.ASGITransport(app)) as client,
    ):
        answer = await client.score(body("tx-1", 850))
        assert (answer.action, answer.reasons[0].code) == ("hold", "amount")
        found = [one async for one in client.score_many([body("tx-1", 1), body("tx-2", 10)], batch=1, in_flight=2)]
        assert isinstance(found[0], ConflictError)
        assert isinstance(found[1], type(answer))
        assert (await client.decision(answer.decision_id)).tx_id == "tx-1"
        assert (await client.ready()).bundle_version == "a" * 16


async def test_what_is_stored_is_spelled_as_validation_spells_it(client: httpx.AsyncClient, app: FastAPI) -> None:
    batch = {"transactions": [body("tx-low", 20), body("tx-high", 850), body("tx-medium", 620)]}
    await client.post("/v1/score/batch", json=batch)
    log: DecisionLog = app.state.service.parts.log
    for row in log.fetch(select(DECISIONS.c.body)):
        assert Decision.model_validate_json(row.body).model_dump_json() == row.body
        assert list(json.loads(row.body)) == list(Decision.model_fields)


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
async def test_what_is_no_probability_decides_nothing(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch, score: float
) -> None:
    scored = Scored(np.array([score]), np.array([0.0]), np.zeros((1, 3), np.float32))
    monkeypatch.setattr(FakeModel, "score", lambda _model, _rows: scored)
    answer = await client.post("/v1/score", json=body())
    assert answer.status_code >= 500
    assert "no probability" in answer.json()["detail"]
    assert app.state.service.parts.log.by_tx(body()["tx_id"]) is None


REFUSED: list[tuple[dict[str, str], int]] = [
    ({"X-API-Key": "of nobody"}, 401),
    ({"X-API-Key": "of nobody", "Authorization": f"Bearer {KEY}"}, 401),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Encoding": "gzip"}, 415),
    ({"Content-Length": "many"}, 400),
    ({"Content-Length": "99999999"}, 413),
    ({"Transfer-Encoding": "chunked"}, 400),
    ({"Host": "elsewhere"}, 400),
]


@pytest.mark.parametrize(("headers", "status"), REFUSED)
async def test_what_may_not_plainly_pass_is_judged_by_the_layers(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    async def visit(*_: object) -> None:
        raise AssertionError("the short way was taken")

    monkeypatch.setattr(HotPath, "_visit", visit)
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, allowed_hosts="service"))
    async with running(app) as client:
        sent = {"Content-Type": "application/json", **headers}
        answer = await client.post("/v1/score", content=json.dumps(body()).encode(), headers=sent)
    assert answer.status_code == status, answer.text


async def test_a_header_that_is_there_twice_is_judged_by_the_layers(client: httpx.AsyncClient) -> None:
    twice = [("Content-Type", "application/json"), ("X-API-Key", KEY), ("X-API-Key", KEY)]
    del client.headers["X-API-Key"]
    answer = await client.post("/v1/score", content=json.dumps(body()).encode(), headers=twice)
    assert answer.status_code == 400


async def test_a_key_without_the_scope_scores_nothing_on_the_short_way(tmp_path: Path, bundle: Path) -> None:
    keys, _, secret = KeyFile().create("reader", ("read",), by="ann", expires=None, rate=None)
    keys.write(tmp_path / "keys.json")
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, keys=tmp_path / "keys.json"))
    async with running(app) as client:
        answer = await client.post("/v1/score", json=body(), headers={"X-API-Key": secret})
        assert answer.status_code == 403
        assert app.state.service.parts.log.by_tx(body()["tx_id"]) is None


async def test_what_is_passed_on_counts_once_against_the_rate_of_its_caller(tmp_path: Path, bundle: Path) -> None:
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, rate=0.001))  # one request, and then no more
    async with running(app) as client:
        statuses = [
            (await client.post("/v1/score", json=body(amount_paid="much"))).status_code,
            (await client.post("/v1/score", json=body())).status_code,
        ]
    assert statuses == [422, 429]
