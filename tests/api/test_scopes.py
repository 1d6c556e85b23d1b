"""Every route of /v1 needs its scope, callers are kept to their rates, and acts are for administrators."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body, running, settings_for
from fastapi import APIRouter, FastAPI, Request
from test_problem_documents import check

from api.app import create_app
from api.path import wire
from api.security.auth import Calling, ScopedRoute, needs
from api.security.key_file import SCOPES, KeyFile
from api.security.rate_limit import FAILURES, TokenBucket

pytestmark = pytest.mark.anyio
SCOPE_OF = {
    "POST /v1/score": "score",
    "POST /v1/score/batch": "score",
    "GET /v1/decisions/{decision_id}": "read",
    "GET /v1/acts": "admin",
    "POST /v2/models/teacher/infer": "score",
    "GET /v1/alerts": "read",
    "GET /v1/alerts/estimate": "read",
    "POST /v1/explain": "read",
    "POST /v1/cases": "label",
    "GET /v1/cases": "label",
    "POST /v1/suppressions": "operate",
    "GET /v1/suppressions": "operate",
    "DELETE /v1/suppressions/{suppression_id}": "operate",
    "GET /v1/releases": "operate",
    "GET /v1/releases/history": "operate",
    "GET /v1/releases/hold": "operate",
    "GET /v1/releases/{release_id}": "operate",
    "POST /v1/releases/rollback": "admin",
    "POST /v1/releases/hold": "admin",
    "POST /v1/releases/resume": "admin",
    "POST /v1/releases/{release_id}/approve": "admin",
    "POST /v1/releases/{release_id}/shadow": "admin",
    "POST /v1/releases/{release_id}/canary": "admin",
    "POST /v1/releases/{release_id}/promote": "admin",
    "POST /v1/releases/{release_id}/retire": "admin",
}


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """The secret of a key for each scope, and of `slow`, which may send two requests at once."""
    path, keys, made = tmp_path / "keys.json", KeyFile(), {}
    for scope in SCOPES:
        keys, _, made[scope] = keys.create(f"for-{scope}", (scope,), by="ann", expires=None, rate=None)
    keys, _, made["slow"] = keys.create("slow", ("score",), by="ann", expires=None, rate=2.0)
    keys.write(path)
    return made


@pytest.fixture
def app(tmp_path: Path, bundle: Path, secrets: dict[str, str]) -> FastAPI:
    return create_app(settings_for(tmp_path / "state", bundle=bundle, keys=tmp_path / "keys.json"))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        del client.headers["X-API-Key"]
        yield client


def operations(app: FastAPI) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if path.startswith(("/v1", "/v2"))
    ]


async def test_every_operation_refuses_callers_without_its_scope_before_it_reads_their_body(
    app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    for name, operation in operations(app):
        method, path = name.split(" ")
        (needed,) = operation["security"][0]["key"]
        for scope in SCOPES:
            answer = await client.request(method, re.sub("{.*?}", "x", path), headers={"X-API-Key": secrets[scope]})
            if scope == needed:
                assert answer.status_code != 403, name
                continue
            check(answer, 403, f"for-{scope} does not have the scope {needed}")
            assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch"])
async def test_a_right_body_of_a_caller_without_the_scope_is_not_scored(
    app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str], path: str
) -> None:
    sent = body() if path == "/v1/score" else {"transactions": [body()]}
    for scope in sorted(set(SCOPES) - {"score"}):
        answer = await client.post(path, json=sent, headers={"X-API-Key": secrets[scope]})
        check(answer, 403, f"for-{scope} does not have the scope score")
    assert app.state.service.parts.log.by_tx("tx-1") is None


async def test_openapi_names_each_scope_and_both_ways_to_send_a_credential(app: FastAPI) -> None:
    told = dict(operations(app))
    for name, scope in SCOPE_OF.items():
        assert told[name]["security"] == [{"key": [scope]}, {"bearer": [scope]}]
    schemes = app.openapi()["components"]["securitySchemes"]
    assert schemes["key"]["name"] == "X-API-Key"
    assert schemes["bearer"]["scheme"] == "bearer"


async def test_a_key_is_taken_from_either_header(client: httpx.AsyncClient, secrets: dict[str, str]) -> None:
    for headers in (
        {"X-API-Key": secrets["score"]},
        {"Authorization": f"Bearer {secrets['score']}"},
        {"Authorization": f"bearer  {secrets['score']} "},
    ):
        assert (await client.post("/v1/score", json=body(), headers=headers)).status_code == 200


async def test_the_simple_form_has_every_scope_but_admin(client: httpx.AsyncClient) -> None:
    headers = {"X-API-Key": KEY}
    assert (await client.post("/v1/score", json=body(), headers=headers)).status_code == 200
    check(await client.get("/v1/decisions/x", headers=headers), 404)
    check(await client.get("/v1/acts", headers=headers), 403, "RISKDISTILL_API_KEYS does not have the scope admin")


async def test_an_administrator_reads_the_acts(
    app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    log, headers = app.state.service.parts.acts, {"X-API-Key": secrets["admin"]}
    for number in range(3):
        log.append(actor="ann", act="key.created", subject=f"k{number}")
    told = (await client.get("/v1/acts?after=1&limit=1", headers=headers)).json()
    assert [(one["sequence"], one["actor"], one["act"], one["subject"]) for one in told] == [
        (2, "ann", "key.created", "k1")
    ]
    check(await client.get("/v1/acts?after=-1", headers=headers), 422)
    check(await client.get("/v1/acts?limit=100000", headers=headers), 422)


async def test_a_handler_knows_who_calls(app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str]) -> None:
    router = APIRouter(prefix="/v1", route_class=ScopedRoute)

    @router.post("/labels", dependencies=[needs("label")])
    async def label(caller: Calling) -> str:
        return caller.name

    app.include_router(router)
    answer = await client.post("/v1/labels", headers={"X-API-Key": secrets["label"]})
    assert answer.json() == "for-label"
    check(await client.post("/v1/labels", headers={"X-API-Key": secrets["operate"]}), 403)


async def test_cases_and_suppressions_are_recorded_under_the_name_of_the_key(
    app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    await client.post("/v1/score", json=body(), headers={"X-API-Key": secrets["score"]})
    case = {"tx_ids": [body()["tx_id"]], "outcome": "false_alert", "known_at": "2026-03-09T16:00:00Z"}
    told = (await client.post("/v1/cases", json=case, headers={"X-API-Key": secrets["label"]})).json()
    assert told["actor"] == "for-label"
    end = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    entry = {"target": {"typology": "fan_in"}, "owner": "ops", "reason": "payroll", "expires_at": end}
    headers = {"X-API-Key": secrets["operate"]}
    told = (await client.post("/v1/suppressions", json=entry, headers=headers)).json()
    assert told["added_by"] == "for-operate"
    await client.delete("/v1/suppressions/s1", params={"reason": "moved"}, headers=headers)
    history = app.state.service.parts.desk.suppressions.history()
    assert [change.actor for change in history] == ["for-operate", "for-operate"]


def test_a_scoped_route_cannot_be_made_without_its_scope() -> None:
    router = APIRouter(prefix="/v1", route_class=ScopedRoute)
    with pytest.raises(TypeError, match="give one scope"):
        router.get("/open")(lambda: None)


async def test_a_scope_holds_on_a_plain_router_and_without_the_gate(
    app: FastAPI, client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    plain, bare = APIRouter(), FastAPI()

    @plain.get("/v1/plain", dependencies=[needs("read")])
    async def read(request: Request) -> str:
        return "read"

    app.include_router(plain)
    check(await client.get("/v1/plain", headers={"X-API-Key": secrets["score"]}), 403)
    assert (await client.get("/v1/plain", headers={"X-API-Key": secrets["read"]})).json() == "read"
    bare.include_router(plain)
    transport = httpx.ASGITransport(bare, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bare") as other:
        assert (await other.get("/v1/plain", headers={"X-API-Key": KEY})).status_code == 500


@pytest.fixture
def _no_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller has used up stays so, however long the test takes."""
    monkeypatch.setattr(TokenBucket, "_fill", lambda _: None)


@pytest.mark.usefixtures("_no_refill")
async def test_beyond_its_rate_a_caller_is_told_when_to_come_again(
    client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    headers = {"X-API-Key": secrets["slow"]}
    answers = [await client.post("/v1/score", json=body(f"tx-{n}"), headers=headers) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-policy"] for answer in answers] == ['"caller";q=2;w=1'] * 3
    assert answers[0].headers["ratelimit"].startswith('"caller";r=1;t=')
    check(answers[2], 429, "may send 2 transactions a second")
    assert answers[2].headers["retry-after"] == "1"
    assert "ratelimit" not in (await client.get("/livez")).headers
    free = await client.post("/v1/score", json=body("tx-9"), headers={"X-API-Key": secrets["score"]})
    assert free.status_code == 200
    assert "ratelimit" not in free.headers
    metrics = (await client.get("/metrics")).text
    assert 'riskdistill_refused_callers_total{reason="rate"} 1.0' in metrics


@pytest.mark.usefixtures("_no_refill")
@pytest.mark.parametrize("is_plain", [True, False])
async def test_a_batch_counts_by_its_transactions(
    client: httpx.AsyncClient, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, is_plain: bool
) -> None:
    if not is_plain:
        monkeypatch.setattr(wire, "read_batch", lambda _: None)  # FastAPI answers
    headers = {"X-API-Key": secrets["slow"]}
    batch = {"transactions": [body(f"tx-{number}") for number in range(10)]}
    answer = await client.post("/v1/score/batch", json=batch, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["ratelimit"].startswith('"caller";r=0;t=')
    late = await client.post("/v1/score", json=body("tx-10"), headers=headers)
    assert int(late.headers["retry-after"]) in (4, 5)  # 9 tokens at 2 a second


@pytest.mark.usefixtures("_no_refill")
async def test_an_address_that_fails_too_often_is_held_off_and_shuts_nobody_out(
    client: httpx.AsyncClient, secrets: dict[str, str]
) -> None:
    wrong = {"X-API-Key": "not-a-key"}
    for _ in range(FAILURES):
        check(await client.post("/v1/score", headers=wrong), 401, "not known")
    answer = await client.post("/v1/score", headers=wrong)
    check(answer, 429, "failed too often")
    assert int(answer.headers["retry-after"]) in (1, 2, 3)
    valid = await client.post("/v1/score", json=body(), headers={"X-API-Key": secrets["score"]})
    assert valid.status_code == 200
    assert 'refused_callers_total{reason="unknown"} 21.0' in (await client.get("/metrics")).text
