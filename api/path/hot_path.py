"""ASGI middleware before all others that answers plain scoring requests itself; all others go on through them.

FastAPI's routing, dependencies and models cost more than the decision, and watch, gate and deadline, which any
request passes, a tenth of it. So a request that may plainly pass (`Gate.admit`), whose body is plainly right
(`api.path.wire`), takes the short way to the scorer: no layer wraps it, and what these would do is done here, in
order, by the same objects. Anything else is theirs and the routes' in `api.routes`, which also make OpenAPI: an
Idempotency-Key, a token, a trace, a drain, and all that is to be refused before its body is read. The two ways
answer alike, and a test compares them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.path import wire
from api.security.auth import count_batch
from api.security.connections import ANSWER, Answer
from api.security.deadline import Deadline
from api.security.gate import Gate
from api.security.key_ring import Caller
from api.service import Service
from api.telemetry import logs, tracing
from api.telemetry.watch import Watch
from riskdistill.errors import ConflictError, RiskDistillError

_logger = logs.logger(__name__)
_JSON: Final = (b"content-type", b"application/json")
_Answer = Callable[[bytes, Caller], Awaitable[bytes | None]]


class Layers(NamedTuple):
    """What others pass one after the other, the first first; behind the last are the routes."""

    watch: Watch
    gate: Gate
    deadline: Deadline


class _NotPlainError(Exception):
    """The body is not plainly right: others tell what is wrong, or know better."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body


class HotPath:
    """Answers what is plain, with `service`, and passes on all else to `layers`."""

    def __init__(self, layers: Layers, service: Service) -> None:
        self._app: ASGIApp = layers.watch
        self._layers, self._service, self._metrics = layers, service, service.metrics
        self._answers: dict[str, _Answer] = {"/v1/score": self._score, "/v1/score/batch": self._score_batch}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or passes it on."""
        answer = self._answers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        caller: Caller | None = None
        if answer is not None and not self._service.draining and not tracing.is_on():
            caller = self._layers.gate.admit(scope, "score")
        if answer is None or caller is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._visit(answer, caller, scope, receive, send)
        except _NotPlainError as error:
            if caller.bucket is not None:
                caller.bucket.owe(-1)  # it is counted there
            await self._app(scope, _again(error.body, receive), send)

    async def _visit(self, answer: _Answer, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        started, task = perf_counter(), asyncio.current_task()
        assert task is not None
        logs.REQUEST.set(scope)
        self._metrics.began()
        self._layers.deadline.expect(task)
        status = 500
        try:
            said = await self._said(answer, caller, scope, receive, task)
            self._layers.deadline.met(task)
            headers = self._layers.gate.headers(scope, caller)
            if isinstance(said, bytes):
                status = 200
                headers[:0] = (b"content-length", b"%d" % len(said)), _JSON
                at_once: Answer | None = scope.get("extensions", {}).get(ANSWER, {}).get("answer")
                if at_once is None or not at_once(headers, said):
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": said})
            else:
                status = said.status_code
                if status >= 500:
                    headers.append((b"x-request-id", logs.request_id(scope).encode()))
                said.raw_headers += headers
                await said(scope, receive, send)
        except _NotPlainError:
            status = 0
            raise
        finally:
            self._layers.deadline.met(task)
            self._metrics.ended()
            if status:
                self._layers.watch.over(scope["path"], status, perf_counter() - started, is_scoring=True)

    async def _said(
        self, answer: _Answer, caller: Caller, scope: Scope, receive: Receive, task: asyncio.Task[Any]
    ) -> bytes | Response:
        """The body of a good answer, or the answer to what went wrong."""
        awaits_body = True
        try:
            body = await self._body(receive, task)
            awaits_body = False
            content = None if body is None else await answer(body, caller)
        except RiskDistillError as error:
            return await problems.on_known(Request(scope), error)
        except asyncio.CancelledError:
            refusal = await self._layers.deadline.refusal(task, Request(scope), awaits_body)
            if refusal is None:
                raise
            return refusal
        except Exception as error:
            _logger.exception("a scoring request failed", extra=logs.fields("request_error"))
            return await problems.on_unexpected(Request(scope), error)
        if content is None:
            raise _NotPlainError(body)
        return content

    async def _body(self, receive: Receive, task: asyncio.Task[Any]) -> bytes | None:
        """All of it, which is as long as was admitted; None if the caller went away."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            while message.get("more_body", False):
                message = await receive()
                body += message.get("body", b"")
            self._layers.deadline.expect(task)  # it took its time: the answer has its own
        return None if message["type"] == "http.disconnect" else body

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


def _again(body: bytes | None, receive: Receive) -> Receive:
    """Gives `body` once more."""
    gone: Message = {"type": "http.disconnect"}
    messages = [gone if body is None else {"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give
