"""The outermost ASGI middleware, before FastAPI's own: it counts, times and traces all, and refuses in a drain.

Requests are counted by route template, so that ids make no new series. Where nothing goes wrong and no trace is
taken, it reads no header.
"""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.service import Service
from api.telemetry import logs, tracing
from riskdistill.errors import UnavailableError

_QUIET_SECONDS: Final = 1.0  # a failure that repeats is told at most so often
_logger = logs.logger(__name__)


class Watch:
    """Passes requests on to `app` and records how they ended."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._metrics = app, service, service.metrics
        self._told: dict[tuple[str, int], tuple[float, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, or refuses it in a drain."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, is_scoring = perf_counter(), 500, scope["path"].startswith(("/v1/", "/v2/"))
        logs.REQUEST.set(scope)

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 500:
                    message["headers"] = [*message["headers"], (b"x-request-id", logs.request_id(scope).encode())]
            await send(message)

        if is_scoring:
            self._metrics.began()
        try:
            if is_scoring and self._service.draining:
                self._metrics.refused_for("draining")
                await self._refuse(scope, receive, note_status)
            elif tracing.is_on():
                with tracing.request(scope) as span:
                    await self._app(scope, receive, note_status)
                    tracing.answered(span, _route(scope), status)
            else:
                await self._app(scope, receive, note_status)
        finally:
            if is_scoring:
                self._metrics.ended()
            self.over(_route(scope), status, perf_counter() - started, is_scoring)

    def over(self, route: str, status: int, seconds: float, is_scoring: bool) -> None:
        """Counts a request that ended, and tells of one that failed."""
        self._metrics.answered(route, status, seconds)
        if status >= 500 and is_scoring:
            self._tell(route, status, seconds)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = UnavailableError("the service is stopping", mend="send the request again, to another replica")
        answer = await problems.on_known(Request(scope), error)
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)

    def _tell(self, route: str, status: int, seconds: float) -> None:
        """Logs a failed request, with the number of like ones that were not logged since the last."""
        last, silent = self._told.get((route, status), (-_QUIET_SECONDS, 0))
        now = monotonic()
        if now - last < _QUIET_SECONDS:
            self._told[route, status] = last, silent + 1
            return
        self._told[route, status] = now, 0
        _logger.warning(
            "a request could not be answered",
            extra=logs.fields("request_failed", route=route, status=status, seconds=round(seconds, 4), more=silent),
        )


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")
