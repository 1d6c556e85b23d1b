"""ASGI middleware behind the gate that answers plain scoring requests itself; all others go on to FastAPI.

FastAPI's routing, dependencies and models cost more than the decision. So a body that is plainly right
(`api.path.wire`) takes the short way to the scorer, if its caller has the scope and sends no Idempotency-Key. For
anything else the routes in `api.routes` answer, which also make OpenAPI; the two ways answer alike, and a test
compares them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.path import wire
from api.path.idempotency import HEADER
from api.security.auth import count_batch
from api.security.key_ring import Caller
from api.service import Service
from riskdistill.errors import ConflictError, RiskDistillError

_JSON: Final = (b"content-type", b"application/json")
_IDEMPOTENCY_KEY: Final = HEADER.encode()


class _Route(NamedTuple):
    """What `api.telemetry.watch` asks a route for."""

    path: str


class HotPath:
    """Answers what is plain, with `service`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._answers: dict[str, Callable[[bytes, Caller], Awaitable[bytes | None]]] = {
            "/v1/score": self._score,
            "/v1/score/batch": self._score_batch,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or passes it on."""
        answer = self._answers.get(scope.get("path", "")) if scope["type"] == "http" else None
        caller: Caller | None = scope.get("caller")
        if (
            answer is None
            or caller is None
            or "score" not in caller.scopes
            or scope["method"] != "POST"
            or not _is_plain(scope["headers"])
        ):
            await self._app(scope, receive, send)
            return
        scope["route"] = _Route(scope["path"])  # FastAPI puts its own there, if it goes on
        try:
            body = await _body(receive)
            content = await answer(body, caller) if body is not None else None
        except RiskDistillError as error:
            await (await problems.on_known(Request(scope), error))(scope, receive, send)
            return
        except HTTPException as error:
            await (await problems.on_http(Request(scope), error))(scope, receive, send)
            return
        if content is None:
            await self._app(scope, _again(body, receive), send)
            return
        length = str(len(content)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length), _JSON]})
        await send({"type": "http.response.body", "body": content})

    async def _score(self, body: bytes, _caller: Caller) -> bytes | None:
        transaction = wire.read_transaction(body)
        if transaction is None:
            return None
        (outcome,) = await self._service.parts.scorer.decide([transaction])
        if isinstance(outcome, ConflictError):
            raise outcome
        return wire.answer_bytes(outcome)

    async def _score_batch(self, body: bytes, caller: Caller) -> bytes | None:
        transactions = wire.read_batch(body)
        if transactions is None:
            return None
        count_batch(caller, len(transactions))
        outcomes = await self._service.parts.scorer.decide(transactions)
        ids = [transaction.tx_id for transaction in transactions]
        return wire.batch_bytes(list(zip(ids, outcomes, strict=True)), "/v1/score/batch")


def _is_plain(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether it is JSON by the plainest of headers, of a length that the gate has seen, and without a key."""
    names = {name for name, _ in headers}
    return _JSON in headers and b"content-length" in names and _IDEMPOTENCY_KEY not in names


async def _body(receive: Receive) -> bytes | None:
    """All of it; None if the caller went away."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


def _again(body: bytes | None, receive: Receive) -> Receive:
    """Gives `body` once more."""
    gone: Message = {"type": "http.disconnect"}
    messages = [gone if body is None else {"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give
