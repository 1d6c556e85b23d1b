"""No request waits for ever: neither for a database that says nothing, nor for its own body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import body, ready, running, settings_for
from fastapi import FastAPI

from api.app import create_app
from api.problems import Problem
from api.security.deadline import Deadline

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(tmp_path: Path, bundle: Path) -> FastAPI:
    return create_app(settings_for(tmp_path / "state", bundle=bundle, deadline_ms=50))


@contextmanager
def silent(owner: Any, name: str) -> Iterator[None]:
    """A method that does not return inside the block, and then does its work."""
    works: Callable[..., Any] = getattr(owner, name)
    may_go_on = threading.Event()

    def wait(*arguments: Any) -> Any:
        may_go_on.wait()
        return works(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, wait)
        try:
            yield
        finally:
            may_go_on.set()


def refusal(answer: httpx.Response, says: str) -> None:
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status) == (503, 503)
    assert answer.headers["retry-after"]
    assert says in problem.detail


async def decide(client: httpx.AsyncClient, tx_id: str) -> dict[str, Any]:
    """Sends it again where it is told to: on a busy machine the deadline of these tests is short."""
    async with asyncio.timeout(20):
        while (answer := await client.post("/v1/score", json=body(tx_id))).status_code != 200:
            assert answer.status_code == 503
            await asyncio.sleep(0)  # a refusal may come without a turn of the loop
    decided: dict[str, Any] = answer.json()
    return decided


async def test_while_the_log_says_nothing_nobody_waits_and_what_was_begun_is_stored_once(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    log = app.state.service.parts.log
    with silent(log, "append"):
        refusal(await client.post("/v1/score", json=body("tx-1")), "no answer within 0.05 s")
        await asyncio.sleep(0.05)  # what the request has put in line is a little younger than it
        refusal(await client.get("/readyz"), "does not answer")
        refusal(await client.post("/v1/score", json=body("tx-2")), "does not answer")
        assert len(app.state.service.parts.scorer) == 1  # the second was refused before account state saw it
    again = await decide(client, "tx-1")
    assert [entry.decision.decision_id for entry in log.read()] == [again["decision_id"]]
    await ready(client)


async def test_while_the_log_cannot_be_asked_what_stands_in_line_is_refused(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    decided = await decide(client, "tx-1")
    with silent(app.state.service.parts.log, "by_txs"):
        refusal(await client.post("/v1/score", json=body("tx-1")), "no answer within 0.05 s")
        await asyncio.sleep(0.05)  # what the request has put in line is a little younger than it
        refusal(await client.get("/readyz"), "does not answer")
        refusal(await client.post("/v1/score", json=body("tx-2")), "does not answer")
    assert await decide(client, "tx-1") == decided
    await ready(client)


async def test_a_read_of_a_silent_log_is_refused(app: FastAPI, client: httpx.AsyncClient) -> None:
    with silent(app.state.service.parts.log, "get"):
        refusal(await client.get("/v1/decisions/any"), "no answer within 0.05 s")


async def test_a_body_that_does_not_come_is_a_timeout_of_the_request(app: FastAPI) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with running(app) as client:
        answer = await client.post("/v1/score", content=never(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 408
    assert "the body was not whole within 0.05 s" in answer.json()["detail"]


class Clock:
    """Says what time it is, and lets the deadline's timer look when it moves on."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.deadline: Deadline
        patched.setattr("api.security.deadline.monotonic", lambda: self.now)

    async def move(self, seconds: float) -> None:
        self.now += seconds
        self.deadline._sweep()
        await asyncio.sleep(0)  # where one that is late is stopped


@pytest.mark.parametrize(("pause", "statuses"), [(0.3, [200]), (0.4, [408])])
async def test_a_body_in_drops_has_the_deadline_for_all_of_it_and_the_answer_another(
    monkeypatch: pytest.MonkeyPatch, pause: float, statuses: list[int]
) -> None:
    clock, left, told = Clock(monkeypatch), 3, list[int]()

    async def drops() -> dict[str, Any]:
        nonlocal left
        await clock.move(pause)
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await clock.move(0.9)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def tell(message: Any) -> None:
        if message["type"] == "http.response.start":
            told.append(message["status"])

    clock.deadline = Deadline(answer, seconds=1.0)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    await clock.deadline(scope, drops, tell)
    assert told == statuses
