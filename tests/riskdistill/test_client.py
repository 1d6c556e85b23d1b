"""The client: what it sends again and when, how it waits, and what its errors are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from riskdistill.client import Answer, AsyncClient, Client
from riskdistill.errors import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    NotFoundError,
    RiskDistillError,
    TransactionError,
    UnavailableError,
)

pytestmark = pytest.mark.anyio
URL, KEY = "http://service", "a-key-for-the-tests"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def payment(tx_id: str = "tx-1") -> dict[str, Any]:
    parties = {
        f"{side}_{part}": f"{side} {part}" for side in ("sender", "receiver") for part in ("account", "bank")
    }
    money = {"amount_paid": 10.0, "currency_paid": "EUR", "amount_received": 10.0, "currency_received": "EUR"}
    return {"tx_id": tx_id, "timestamp": "2026-03-01T09:30:00Z", "payment_format": "wire", **parties, **money}


def answer(tx_id: str = "tx-1") -> dict[str, Any]:
    said = {"decision_id": f"d-{tx_id}", "tx_id": tx_id, "score": 0.1, "band": "low", "action": "allow"}
    return {**said, "route": "student", "reasons": [], "bundle_version": "b", "latency_ms": 1.0, "new_field": 1}


def batch_answer(request: httpx.Request) -> httpx.Response:
    sent = httpx.Response(200, content=request.content).json()["transactions"]
    return httpx.Response(
        200, json={"results": [{"tx_id": one["tx_id"], "decision": answer(one["tx_id"])} for one in sent]}
    )


def problem(status: int, title: str, detail: str = "it is so (mend: do this)", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": title, "detail": detail, "instance": "/v1/score"}, headers=headers)


def client(handler: Handler, **options: Any) -> Client:
    options = {"api_key": KEY, "backoff": 1e-4} | options
    return Client(URL, transport=httpx.MockTransport(handler), **options)


def async_client(handler: Any, **options: Any) -> AsyncClient:
    options = {"api_key": KEY, "backoff": 1e-4} | options
    return AsyncClient(URL, transport=httpx.MockTransport(handler), **options)


class Failing:
    """Fails as told, then answers."""

    def __init__(self, *failures: httpx.Response | Exception) -> None:
        self.failures, self.bodies = list(failures), list[bytes]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.content)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        return httpx.Response(200, json=answer())


def test_a_busy_service_and_a_broken_connection_are_asked_again_with_the_same_body() -> None:
    service = Failing(httpx.ConnectError("refused"), problem(503, "Not available now"), problem(429, "Too many"))
    with client(service) as used:
        assert used.score(payment()) == Answer.model_validate(answer())
    assert len(service.bodies) == 4
    assert len(set(service.bodies)) == 1


async def test_the_async_client_asks_again_too() -> None:
    service = Failing(httpx.ReadError("reset"), problem(503, "Not available now"))
    async with async_client(service) as used:
        assert (await used.score(payment())).decision_id == "d-tx-1"
    assert len(service.bodies) == 3


@pytest.mark.parametrize(
    ("last", "said"), [(problem(503, "Not available now"), "it is so"), (httpx.ConnectError("refused"), "3 tries")]
)
def test_after_the_last_retry_the_reason_is_raised(last: httpx.Response | Exception, said: str) -> None:
    service = Failing(*[last] * 3)
    with client(service, retries=2) as used, pytest.raises(UnavailableError, match=said):
        used.score(payment())
    assert len(service.bodies) == 3


def test_it_waits_as_long_as_the_service_asks_and_ever_longer_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("riskdistill.client.threads.time.sleep", pauses.append)
    monkeypatch.setattr("riskdistill.client.connection.random.uniform", lambda _low, high: high)
    busy = [problem(503, "Not available now", **{"Retry-After": "7"}), *[problem(503, "Not available now")] * 3]
    with client(Failing(*busy), backoff=0.1) as used:
        used.score(payment())
    assert pauses == pytest.approx([7.0, 0.4, 0.8, 1.6])


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (401, "Authentication failed", AuthenticationError),
        (422, "Transaction id was used with another body", ConflictError),
        (422, "Request does not validate", TransactionError),
        (404, "Not found", NotFoundError),
        (500, "Internal error", RiskDistillError),
    ],
)
def test_a_refusal_is_the_error_that_it_was_and_is_not_sent_again(
    status: int, title: str, kind: type[RiskDistillError]
) -> None:
    service = Failing(problem(status, title))
    with client(service) as used, pytest.raises(kind) as caught:
        used.score(payment())
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.mend, caught.value.where) == ("it is so", "do this", "/v1/score")
    assert len(service.bodies) == 1


def test_what_is_no_problem_document_is_told_by_its_status() -> None:
    with client(lambda _: httpx.Response(502, text="<html>")) as used, pytest.raises(RiskDistillError, match="502"):
        used.score(payment())
    with client(lambda _: httpx.Response(200, text="hello")) as used, pytest.raises(UnavailableError):
        used.score(payment())


def test_what_is_not_valid_is_not_sent() -> None:
    service = Failing()
    with client(service) as used:
        with pytest.raises(TransactionError, match="currency_paid"):
            used.score(payment() | {"currency_paid": "EURO"})
        with pytest.raises(TransactionError, match="257"):
            used.score_batch([payment()] * 257)
    assert service.bodies == []


def test_a_conflict_stands_in_its_transaction_s_place() -> None:
    conflict = {"status": 422, "title": ConflictError.title, "detail": "another body"}
    results = [{"tx_id": "a", "decision": answer("a")}, {"tx_id": "b", "problem": conflict}]
    with client(lambda _: httpx.Response(200, json={"results": results})) as used:
        fine, refused = used.score_batch([payment("a"), payment("b")])
    assert isinstance(fine, Answer)
    assert isinstance(refused, ConflictError)


def test_many_are_sent_in_batches_and_taken_only_as_they_are_answered() -> None:
    taken: list[str] = []

    def transactions() -> Iterator[dict[str, Any]]:
        for number in range(10):
            taken.append(str(number))
            yield payment(str(number))

    with client(batch_answer) as used:
        answers = used.score_many(transactions(), batch=4)
        assert next(answers) == Answer.model_validate(answer("0"))
        assert len(taken) == 4
        assert [one.tx_id for one in answers if isinstance(one, Answer)] == [str(number) for number in range(1, 10)]


async def test_many_are_under_way_in_bounded_number_and_answered_in_order() -> None:
    flying = Counter[str]()

    async def handle(request: httpx.Request) -> httpx.Response:
        flying["now"] += 1
        flying["most"] = max(flying["most"], flying["now"])
        for _ in range(5):
            await asyncio.sleep(0)
        flying["now"] -= 1
        return batch_answer(request)

    async def transactions() -> AsyncIterator[dict[str, Any]]:
        for number in range(50):
            yield payment(str(number))

    async with async_client(handle) as used:
        found = [one async for one in used.score_many(transactions(), batch=4, in_flight=3)]
    assert [one.tx_id for one in found if isinstance(one, Answer)] == [str(number) for number in range(50)]
    assert flying["most"] == 3


async def test_no_more_requests_than_allowed_are_under_way() -> None:
    flying = Counter[str]()

    async def handle(_: httpx.Request) -> httpx.Response:
        flying["now"] += 1
        flying["most"] = max(flying["most"], flying["now"])
        await asyncio.sleep(0)
        flying["now"] -= 1
        return httpx.Response(200, json=answer())

    async with async_client(handle, concurrency=2) as used:
        await asyncio.gather(*(used.score(payment()) for _ in range(12)))
    assert flying["most"] == 2


def test_credentials_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Headers] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json={"bundle_version": "b"})

    for name in ("RISKDISTILL_URL", "RISKDISTILL_API_KEY", "RISKDISTILL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="RISKDISTILL_URL"):
        Client()
    monkeypatch.setenv("RISKDISTILL_URL", URL)
    with pytest.raises(ConfigError, match="RISKDISTILL_API_KEY"):
        Client()
    monkeypatch.setenv("RISKDISTILL_TOKEN", "from-elsewhere")
    for options in ({}, {"api_key": KEY}):
        with Client(transport=httpx.MockTransport(handle), **options) as used:
            assert used.ready().bundle_version == "b"
    assert sent[0]["authorization"] == "Bearer from-elsewhere"
    assert (sent[1]["x-api-key"], "authorization" in sent[1]) == (KEY, False)


def test_readiness_is_not_waited_for() -> None:
    service = Failing(problem(503, "Not available now", "it is starting"))
    with client(service) as used, pytest.raises(UnavailableError, match="it is starting"):
        used.ready()
    assert len(service.bodies) == 1
