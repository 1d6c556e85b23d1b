"""Every refusal is a problem document that says what is wrong and how to mend it, and gives nothing away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body, running, settings_for
from fastapi import FastAPI

from api.app import create_app
from api.security.gate import MAX_BODY_BYTES
from riskdistill.storage.releases import ReleaseLog

pytestmark = pytest.mark.anyio


def check(answer: httpx.Response, status: int, detail: str = "") -> dict[str, Any]:
    """The problem document in `answer`, checked for form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "errors"}
    assert document["status"] == status
    assert document["instance"] == answer.request.url.path
    assert document["type"].startswith("urn:riskdistill:problem:")
    assert detail in document["detail"]
    assert "Traceback" not in answer.text
    return document


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"Authorization": "Bearer nope"},
        {"Authorization": f"Basic {KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch", "/v1/decisions/x"])
async def test_all_of_v1_needs_a_known_key(client: httpx.AsyncClient, headers: dict[str, str], path: str) -> None:
    del client.headers["X-API-Key"]
    method = "GET" if "decisions" in path else "POST"
    answer = await client.request(method, path, json=body() if method == "POST" else None, headers=headers)
    check(answer, 401, "X-API-Key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


class Endless:
    """A body that never ends, and counts the pieces of 64 KiB that were read of it."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.read += 1
            yield b" " * 65_536


async def test_without_a_key_the_body_is_not_read(client: httpx.AsyncClient) -> None:
    del client.headers["X-API-Key"]
    endless = Endless()
    check(await client.post("/v1/score", content=endless), 401, "carries no API key")
    assert endless.read == 0
    check(await client.post("/v1/score", content=b"{"), 401, "carries no API key")


async def test_a_body_too_large_is_refused_before_it_is_read_whole(client: httpx.AsyncClient) -> None:
    endless = Endless()
    headers = {"content-type": "application/json"}
    check(await client.post("/v1/score", content=endless, headers=headers), 413, "fewer transactions")
    assert endless.read == 17
    too_long = b" " * (MAX_BODY_BYTES + 1)
    check(await client.post("/v1/score", content=too_long, headers=headers), 413, "fewer transactions")


async def test_a_full_batch_with_the_longest_ids_is_not_too_large(client: httpx.AsyncClient) -> None:
    longest = "\N{MONEY BAG}" * 128
    accounts = dict.fromkeys(("sender_account", "sender_bank", "receiver_account", "receiver_bank"), longest)
    full = [body(longest[3:] + f"{number:03}") | accounts for number in range(256)]
    content = json.dumps({"transactions": full}, ensure_ascii=False).encode()
    headers = {"content-type": "application/json"}
    assert (await client.post("/v1/score/batch", content=content, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_and_metrics_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    del client.headers["X-API-Key"]
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "pointer", "detail"),
    [
        ({"timestamp": "2026-03-01T09:30:00"}, "#/timestamp", "time zone"),
        ({"timestamp": "yesterday"}, "#/timestamp", "timestamp"),
        ({"currency_paid": "EURO"}, "#/currency_paid", "did you mean EUR"),
        ({"amount_paid": -1}, "#/amount_paid", "greater than or equal to 0"),
        ({"amount_paid": 1e300}, "#/amount_paid", "less than or equal"),
        ({"amount_paid": "12"}, "#/amount_paid", "number"),
        ({"sender_account": ""}, "#/sender_account", "empty"),
        ({"sender_account": "x" * 1000}, "#/sender_account", "1000 characters"),
        ({"surprise": 1}, "#/surprise", "there is no such field"),
        ({"tx_id": None}, "#/tx_id", "string"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str, detail: str
) -> None:
    document = check(await client.post("/v1/score", json=body(**changes)), 422, detail)
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]


@pytest.mark.parametrize("field", ["tx_id", "sender_account", "payment_format", "currency_paid", "timestamp"])
async def test_half_of_a_surrogate_pair_is_a_fault_of_its_field(client: httpx.AsyncClient, field: str) -> None:
    content = json.dumps(body(**{field: "x\ud800x"}))  # type: ignore[arg-type]
    headers = {"content-type": "application/json"}
    document = check(await client.post("/v1/score", content=content, headers=headers), 422)
    assert [fault["pointer"] for fault in document["errors"]] == [f"#/{field}"]


async def test_half_of_a_surrogate_pair_in_a_field_s_name_is_a_fault(client: httpx.AsyncClient) -> None:
    content = json.dumps(body() | {"x\ud800": 1})
    answer = await client.post("/v1/score", content=content, headers={"content-type": "application/json"})
    check(answer, 422)


async def test_all_faults_of_a_body_are_listed(client: httpx.AsyncClient) -> None:
    document = check(await client.post("/v1/score", json={}), 422, "more, see errors")
    assert len(document["errors"]) == 11


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe", b'{"amount_paid": NaN}', b"null"]
)
async def test_a_body_of_the_wrong_shape_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/score", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    check(answer, answer.status_code)


async def test_a_batch_too_large_or_empty_is_refused(client: httpx.AsyncClient) -> None:
    too_many = [body(f"tx-{number}") for number in range(257)]
    check(await client.post("/v1/score/batch", json={"transactions": too_many}), 422, "at most 256")
    check(await client.post("/v1/score/batch", json={"transactions": []}), 422, "at least 1")


async def test_a_fault_in_a_batch_is_located_and_nothing_of_it_is_decided(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    transactions = [body("tx-1"), body("tx-2", currency_paid="???")]
    document = check(await client.post("/v1/score/batch", json={"transactions": transactions}), 422)
    assert document["errors"][0]["pointer"] == "#/transactions/1/currency_paid"
    assert app.state.service.parts.log.verify().entries == 0


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    check(await client.get("/v1/decisions/none-such"), 404, "no decision has this id")
    check(await client.get("/v2/score"), 404, "/docs")


async def test_a_wrong_method_names_the_right_one(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/score")
    check(answer, 405, "GET is not allowed")
    assert answer.headers["allow"] == "POST"


async def test_an_unexpected_failure_gives_nothing_away(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app.state.service.parts.log, "get", fail)
    answer = await client.get("/v1/decisions/x")
    check(answer, 500, "unexpectedly")
    assert "secret detail" not in answer.text


async def test_a_service_without_a_bundle_is_alive_but_not_ready(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/releases.db"
    ReleaseLog(url).close()
    app = create_app(settings_for(tmp_path / "state", releases=url))
    async with running(app, wait=False) as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        answer = await client.get("/readyz")
        check(answer, 503)
        assert answer.headers["retry-after"] == "2"
        check(await client.post("/v1/score", json=body()), 503, "cannot score yet")


async def test_every_operation_documents_its_problems_and_examples(app: FastAPI) -> None:
    schema = app.openapi()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"200", "400", "401", "403", "408", "413", "415", "422", "429", "503"} <= set(
                    operation["responses"]
                )
                assert operation["security"]
                problem = operation["responses"]["422"]["content"]["application/problem+json"]
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    assert schema["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]["examples"]
