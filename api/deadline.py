"""ASGI middleware that lets nobody wait for ever: 503 where no answer came in time, 408 where the request did not.

Each part that the service rests on has a deadline of its own. This one is behind them all, for what has none: a
database that takes connections and says nothing. What was begun goes on without its caller, who may send it again.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from riskdistill.errors import UnavailableError


class Deadline:
    """Passes requests on to `app`, each for `seconds` after the last that came of it."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, and answers it if nobody else does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        awaits_body = has_begun = False

        async def receive_in_time() -> Message:
            nonlocal awaits_body
            awaits_body = True
            message = await receive()
            awaits_body = False
            if message.get("more_body", False):
                timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)
            return message

        async def note_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as timeout:
                await self._app(scope, receive_in_time, note_begin)
        except TimeoutError:
            if has_begun or not timeout.expired():
                raise
            answer = await self._refusal(Request(scope), awaits_body)
            await answer(scope, receive, send)

    async def _refusal(self, request: Request, awaits_body: bool) -> Response:
        if awaits_body:
            late = f"nothing came of the body for {self._seconds:g} s (mend: send the request again)"
            return await problems.on_http(request, HTTPException(408, late, {"Connection": "close"}))
        error = UnavailableError(
            f"there was no answer within {self._seconds:g} s", mend="send the request again in a moment"
        )
        return await problems.on_known(request, error)
