"""ASGI middleware in front of the routes: what must not pass is answered before its body is read.

In order: the host (if the settings name any), then under `/v1` and `/v2` the caller, its rate, and the form of the
body: JSON, of a length that is a number, no longer than MAX_BODY_BYTES; what comes without a length is counted. The
headers are gone through once. Every answer gets its security headers here, refusals too. What fails unexpectedly
behind the gate is answered here as well, and raised on to whoever logs it.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.security.auth import Authenticator
from api.security.key_ring import Caller
from api.security.rate_limit import TokenBucket
from api.security.security_headers import API_HEADERS, PAGE_HEADERS, TLS_HEADERS, raw
from api.telemetry.metrics import Metrics
from riskdistill.errors import RiskDistillError, TooManyRequestsError

MAX_BODY_BYTES: Final = 1 << 20  # a full batch with the longest ids takes less, in UTF-8
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})  # called by address, so for any host
_TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES} bytes (mend: send fewer transactions at a time)"
_SINGLE: Final = frozenset(
    {b"host", b"x-api-key", b"authorization", b"content-type", b"content-length", b"content-encoding"}
)
_DIGITS: Final = 7  # of such a length
_UNUSUAL: Final = frozenset(
    {b"authorization", b"transfer-encoding", b"content-encoding", b"idempotency-key", b"expect"}
)
_SECURE: Final = {
    (api, tls): raw((API_HEADERS if api else PAGE_HEADERS) + (TLS_HEADERS if tls else ()))
    for api in (False, True)
    for tls in (False, True)
}


class Gate:
    """Lets pass what its callers may send, with the caller in `scope["caller"]`.

    Args:
        app: what is behind it.
        callers: finds who sent a request.
        metrics: counts refusals.
        hosts: the only hosts that requests may be for; empty for any.
    """

    def __init__(
        self, app: ASGIApp, callers: Authenticator, metrics: Metrics, hosts: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._callers, self._metrics, self._hosts = app, callers, metrics, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_api = path.startswith(("/v1/", "/v2/"))
        extra = _SECURE[is_api, scope["scheme"] == "https"]
        bucket: TokenBucket | None = None
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                limits = () if bucket is None else bucket.headers()
                # a copy: an application may send one message, made once, again and again
                message = {**message, "headers": [*message.get("headers", ()), *extra, *limits]}
            await send(message)

        try:
            headers = _once(scope)
            if self._hosts and path not in PROBES:
                self._check_host(headers.get(b"host", b""))
            if is_api:
                client = scope.get("client")
                scope["caller"] = caller = await self._callers.caller(
                    headers.get(b"x-api-key"), headers.get(b"authorization"), client[0] if client else ""
                )
                bucket = caller.bucket
                if bucket is not None:
                    self._take(bucket)
                _check_body(headers)
                if b"content-length" not in headers:
                    receive = _counted(receive)
        except RiskDistillError as error:
            await (await problems.on_known(Request(scope), error))(scope, receive, send_with_headers)
            return
        except HTTPException as error:
            await (await problems.on_http(Request(scope), error))(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if not answered:
                await (await problems.on_unexpected(Request(scope), error))(scope, receive, send_with_headers)
            raise

    def admit(self, scope: Scope, needed: str) -> Caller | None:
        """The caller of a request of `/v1` that may plainly pass, and is counted then; None: `__call__` judges it.

        Plain is JSON of a stated length, under a known key of the scope `needed`, without headers that ask more.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if (
            len(headers) != len(scope["headers"])
            or headers.get(b"content-type") != b"application/json"
            or not (length.isdigit() and len(length) <= _DIGITS and 0 < int(length) <= MAX_BODY_BYTES)
            or not headers.keys().isdisjoint(_UNUSUAL)
        ):
            return None
        if self._hosts:
            try:
                self._check_host(headers.get(b"host", b""))
            except HTTPException:
                return None
        caller = self._callers.known(headers.get(b"x-api-key"))
        if caller is None or needed not in caller.scopes:
            return None
        return None if caller.bucket is not None and caller.bucket.take() > 0 else caller

    @staticmethod
    def headers(scope: Scope, caller: Caller) -> list[tuple[bytes, bytes]]:
        """The headers of an answer to somebody who was admitted."""
        limits = () if caller.bucket is None else caller.bucket.headers()
        return [*_SECURE[True, scope["scheme"] == "https"], *limits]

    def _check_host(self, host: bytes) -> None:
        name = host.decode("latin-1").lower()
        name, _, port = name.rpartition(":") if not name.endswith("]") and ":" in name else (name, "", "")
        if name not in self._hosts or (port and not port.isdigit()):
            raise HTTPException(400, "the request is for a host that is not served here (mend: see the URL)")

    def _take(self, bucket: TokenBucket) -> None:
        wait = bucket.take()
        if wait > 0:
            self._metrics.turned_away("rate")
            raise TooManyRequestsError(
                f"this caller may send {bucket.rate:g} transactions a second",
                retry_after=wait,
                mend="wait as long as Retry-After says",
            )


def _once(scope: Scope) -> dict[bytes, bytes]:
    """The headers; 400 if one that decides something is there twice, for two readers could take different ones."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in headers and name in _SINGLE:
            raise HTTPException(400, f"the header {name.decode('latin-1')} is there twice (mend: send it once)")
        headers[name] = value
    return headers


def _check_body(headers: dict[bytes, bytes]) -> None:
    """400, 413 or 415 if the request has a body that may not be read."""
    length = headers.get(b"content-length")
    if b"transfer-encoding" in headers:
        if length is not None:
            raise HTTPException(400, "the body has a length and is chunked (mend: send one of the two headers)")
    elif length is None:
        return
    elif not length.isdigit():
        raise HTTPException(400, "the header content-length is not a number (mend: send the length in bytes)")
    elif len(length) > 18 or int(length) > MAX_BODY_BYTES:
        raise HTTPException(413, _TOO_LARGE)
    elif int(length) == 0:
        return
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not _is_json(kind):
        raise HTTPException(415, "the body is not application/json (mend: set the header Content-Type)")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HTTPException(415, "the body is encoded (mend: send it without Content-Encoding)")


def _is_json(kind: bytes) -> bool:
    """Whether a content type is JSON in UTF-8, the only encoding that JSON has."""
    media, _, parameter = kind.lower().partition(b";")
    return media.strip() == b"application/json" and parameter.strip() in (
        b"",
        b"charset=utf-8",
        b'charset="utf-8"',
    )


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
