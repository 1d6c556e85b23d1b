"""ASGI middleware of `/v1` and `/v2`: who has no key, or sends too much, is answered before the body is read."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.auth import KeyRing
from riskdistill.errors import AuthenticationError

MAX_BODY_BYTES: Final = 1 << 20  # a full batch with the longest ids takes less, in UTF-8
_TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES} bytes (mend: send fewer transactions at a time)"


class Gate:
    """Lets pass what carries a key of `keys` and no more than MAX_BODY_BYTES; counts what comes without length."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, or answers it."""
        if scope["type"] != "http" or not scope["path"].startswith(("/v1/", "/v2/")):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._keys.check(headers)
        except AuthenticationError as error:
            await (await problems.on_known(Request(scope), error))(scope, receive, send)
            return
        if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
            refusal = await problems.on_http(Request(scope), HTTPException(413, _TOO_LARGE))
            await refusal(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return count
