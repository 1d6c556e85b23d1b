"""ASGI middleware that lets nobody wait for ever: 503 where no answer came in time, 408 where the request did not.

Each part that the service rests on has a deadline of its own. This one is behind them all, for what has none: a
database that takes connections and says nothing. What was begun goes on without its caller, who may send it again.

One timer serves all requests, for a timer of each would cost a scoring request a twentieth of its time: they stand
in the order in which they fall due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from riskdistill.errors import UnavailableError

_ENDS: Final = UnavailableError(
    "the service ends and cannot wait for the answer", mend="send the request again, to another replica"
)


class Deadline:
    """Passes requests on to `app`: each must be whole within `seconds`, its answer begin so long after that.

    Args:
        is_stopping: whether the service ends: whoever is under way when it must is cancelled, and answered 503.
    """

    def __init__(self, app: ASGIApp, seconds: float, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._app, self._seconds, self._is_stopping = app, seconds, is_stopping
        self._due: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, and answers it if nobody else does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        awaits_body = in_pieces = False

        async def receive_in_time() -> Message:
            nonlocal awaits_body, in_pieces
            awaits_body = True
            message = await receive()
            awaits_body = False
            if message.get("more_body", False):
                in_pieces = True
            elif in_pieces:  # it took its time: the answer has its own
                in_pieces = False
                self.expect(task)
            return message

        async def send_in_peace(message: Message) -> None:
            self._due.pop(task, None)  # it is being answered
            await send(message)

        self.expect(task)
        try:
            await self._app(scope, receive_in_time, send_in_peace)
        except asyncio.CancelledError:
            answer = await self.refusal(task, Request(scope), awaits_body)
            if answer is None:
                raise
            await answer(scope, receive, send)
        finally:
            self.met(task)

    def expect(self, task: asyncio.Task[Any]) -> None:
        """From now on `task` has its time; it is cancelled once that is over, unless it is `met` before."""
        self._due.pop(task, None)  # to the end of the line
        self._due[task] = monotonic() + self._seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._sweep)

    def met(self, task: asyncio.Task[Any]) -> None:
        """`task` need not be stopped any more."""
        self._due.pop(task, None)
        self._late.discard(task)

    async def refusal(self, task: asyncio.Task[Any], request: Request, awaits_body: bool) -> Response | None:
        """The answer of a cancelled `task`, which may go on then; None: it was cancelled for another cause."""
        is_late = task in self._late
        if not is_late and not (self._is_stopping() and task in self._due):  # or it is being answered
            return None
        task.uncancel()
        return await (self._refusal(request, awaits_body) if is_late else problems.on_known(request, _ENDS))

    def _sweep(self) -> None:
        """Stops those that are due, and comes again for the next."""
        self._timer, now = None, monotonic()
        while self._due:
            task, due = next(iter(self._due.items()))
            if due > now:
                self._timer = asyncio.get_running_loop().call_later(due - now, self._sweep)
                return
            del self._due[task]
            self._late.add(task)
            task.cancel()

    async def _refusal(self, request: Request, awaits_body: bool) -> Response:
        if awaits_body:
            late = f"the body was not whole within {self._seconds:g} s (mend: send the request again)"
            return await problems.on_http(request, HTTPException(408, late, {"Connection": "close"}))
        error = UnavailableError(
            f"there was no answer within {self._seconds:g} s", mend="send the request again in a moment"
        )
        return await problems.on_known(request, error)
