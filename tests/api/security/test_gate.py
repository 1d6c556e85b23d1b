"""What must not pass is answered at the gate: odd bodies, odd headers, other hosts; every answer is careful."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body, running, settings_for
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_problem_documents import check

from api.app import create_app
from api.security.gate import MAX_BODY_BYTES, Gate

pytestmark = pytest.mark.anyio
Headers = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")
MINE = (b"x-api-key", KEY.encode())


async def raw(app: FastAPI, headers: Headers, content: bytes = b"", path: str = "/v1/score") -> tuple[int, bytes]:
    """Status and body of the answer to a request that no client library would send."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("10.0.0.1", 4711),
        "server": ("service", 80),
    }
    sent: list[Any] = []
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await asyncio.sleep(60)
        asked.set()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=latin-1", 415),
        ("application/json, text/plain", 415),
        ("application/problem+json", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
        (None, 415),
    ],
)
async def test_a_body_is_json_in_utf8(client: httpx.AsyncClient, kind: str | None, status: int) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = await client.post("/v1/score", content=json.dumps(body()).encode(), headers=headers)
    assert answer.status_code == status
    if status == 415:
        check(answer, 415, "set the header Content-Type")


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    check(await client.post("/v1/score", content=b"\x1f\x8b", headers=headers), 415, "without Content-Encoding")


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"-1", 400),
        (b"+1", 400),
        (b"1e3", 400),
        (b"0x10", 400),
        (b"5, 5", 400),
        (b" 5", 400),
        (b"", 400),
        (b"\xb2", 400),
        (b"\xd9\xa1", 400),
        (str(MAX_BODY_BYTES + 1).encode(), 413),
        (b"9" * 5_000, 413),
        (b"0" * 30, 413),
        (b"0", 422),
    ],
)
async def test_a_length_that_is_no_number_or_too_large_is_refused(
    app: FastAPI, client: httpx.AsyncClient, length: bytes, status: int
) -> None:
    told, answer = await raw(app, [MINE, JSON, (b"content-length", length)])
    assert (told, json.loads(answer)["status"]) == (status, status)


@pytest.mark.parametrize(
    "twice",
    [
        (b"content-length", b"2"),
        (b"content-type", b"application/json"),
        (b"x-api-key", KEY.encode()),
        (b"authorization", b"Bearer x"),
        (b"host", b"service"),
    ],
)
async def test_a_header_that_decides_something_is_there_once(
    app: FastAPI, client: httpx.AsyncClient, twice: tuple[bytes, bytes]
) -> None:
    status, answer = await raw(app, [MINE, JSON, (b"content-length", b"2"), twice, twice], b"{}")
    assert status == 400
    assert b"is there twice" in answer


async def test_a_body_with_a_length_is_not_chunked_too(app: FastAPI, client: httpx.AsyncClient) -> None:
    both = [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")]
    assert (await raw(app, [MINE, JSON, *both], b"{}"))[0] == 400


async def test_a_body_without_a_length_is_counted(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert (await raw(app, [MINE, JSON], b" " * (MAX_BODY_BYTES + 1)))[0] == 413


names = st.sampled_from(
    [b"host", b"x-api-key", b"authorization", b"content-type", b"content-length", b"content-encoding", b"accept"]
) | st.binary(min_size=1, max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.lists(st.tuples(names, st.binary(max_size=40)), max_size=6),
    known=st.booleans(),
    path=st.sampled_from(["/v1/score", "/v1/score/batch", "/v1/acts", "/v1/", "/livez", "/docs"]),
)
async def test_no_bytes_in_headers_make_the_service_fail(
    app: FastAPI, client: httpx.AsyncClient, headers: Headers, known: bool, path: str
) -> None:
    status, answer = await raw(app, [*([MINE] if known else []), *headers], b"{}", path)
    assert status < 500, answer


async def test_answers_under_v1_are_for_no_cache_and_no_browser(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/v1/score", json=body()),
        await client.get("/v1/decisions/none"),
        await client.get("/v1/none"),
        await client.post("/v1/score", json={}),
        await client.post("/v1/score", json={}, headers={"X-API-Key": "wrong"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 422, 401]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers


async def test_a_failure_has_these_headers_too(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.service.parts.log, "get", None)
    by_tls = str(client.base_url).replace("http:", "https:")
    answer = await client.get(f"{by_tls}/v1/decisions/x", headers={"X-Request-ID": "mine-1"})
    check(answer, 500)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-request-id"] == "mine-1"
    names = [name for name, _ in answer.headers.multi_items()]
    assert len(names) == len(set(names))


async def test_a_failure_after_the_answer_began_is_raised_on_and_not_answered_again() -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("gone")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    gate = Gate(breaks_off, callers=None, metrics=None)  # type: ignore[arg-type]  # neither is asked outside /v1
    with pytest.raises(RuntimeError, match="gone"):
        await gate({"type": "http", "path": "/livez", "scheme": "http", "headers": []}, None, send)  # type: ignore[arg-type]
    assert [message["status"] for message in sent] == [200]


async def test_a_request_by_tls_is_answered_with_a_promise_of_tls(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://service") as client:
        assert (await client.get("/livez")).headers["strict-transport-security"] == "max-age=31536000"


async def test_docs_run_their_own_script_only(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}' https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/;" in policy
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    for url in re.findall(r'(?:src|href)="(https?:[^"]+)"', page.text):
        assert url.startswith("https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/")
    assert "url: '/openapi.json'" in script
    assert (await client.get("/redoc")).status_code == 404


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("scoring.bank.example", True),
        ("SCORING.bank.example:8443", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("scoring.bank.example.evil.example", False),
        ("scoring.bank.example:80@evil.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
async def test_only_the_hosts_that_are_named_are_served(
    tmp_path: Path, bundle: Path, host: str, passes: bool
) -> None:
    allowed = "scoring.bank.example, [::1]"
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, allowed_hosts=allowed))
    async with running(app) as client:  # probes are for any host
        for path in ("/v1/decisions/none", "/docs"):
            answer = await client.get(path, headers={"host": host})
            if passes:
                assert answer.status_code in (200, 404)
            else:
                check(answer, 400, "not served here")
