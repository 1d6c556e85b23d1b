"""Who may call what: each route of `/v1` and `/v2` needs one scope, and a caller has those of its key or token.

A key comes in the header `X-API-Key` or as `Authorization: Bearer KEY`; a bearer token of an OpenID provider the
second way (`api.security.oidc`). `/livez`, `/readyz` and `/metrics` need neither: they tell nothing of a
transaction, orchestrators and Prometheus call them without secrets, and the service listens on loopback unless
told otherwise.

Scopes stand beside one another; none includes another:

| scope | lets a caller |
|---|---|
| `score` | have transactions scored |
| `read` | read stored decisions, have them explained, and read the alert queue |
| `label` | report outcomes of cases |
| `operate` | work on suppressions, and see the releases |
| `admin` | change releases, and read the log of administrative acts |

A router of these has `route_class=ScopedRoute`, and each of its routes `dependencies=[needs("read")]`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from api.security.key_file import Scope
from api.security.key_ring import Caller, KeyRing
from api.security.oidc import Issuer
from api.security.rate_limit import FailureLimit
from api.telemetry.metrics import Metrics
from riskdistill.errors import AuthenticationError, ForbiddenError, TooManyRequestsError

_logger = logging.getLogger(__name__)
_MEND: Final = "send a valid key in the header X-API-Key or as Authorization: Bearer"
_UNKNOWN: Final = "the API key is not known"
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or a token of an OpenID provider"},
}


def document_security(app: FastAPI) -> None:
    """Adds to OpenAPI how a credential is sent; each route names its scope itself (`ScopedRoute`)."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schema["components"]["securitySchemes"] = SECURITY_SCHEMES
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


class Authenticator:
    """Finds the caller of a request by the credential that it carries.

    Args:
        keys: the API keys in force.
        issuer: whose bearer tokens are accepted; None: nobody's.
        metrics: counts refusals.
    """

    def __init__(self, keys: KeyRing, issuer: Issuer | None, metrics: Metrics) -> None:
        self._keys, self._issuer, self._metrics = keys, issuer, metrics
        self._failures = FailureLimit()

    def known(self, key: bytes | None) -> Caller | None:
        """The caller with that API key, if there is one and it may call."""
        found = None if key is None else self._keys.find(key)
        return found if isinstance(found, Caller) else None

    async def caller(self, key: bytes | None, authorization: bytes | None, address: str) -> Caller:
        """The caller with the values of the headers X-API-Key and Authorization, from that client address.

        Raises:
            AuthenticationError: no valid key or token.
            TooManyRequestsError: the same, and the address has failed too often.
            UnavailableError: a token cannot be checked now, for its issuer does not answer.
        """
        credential = key if key is not None else _bearer(authorization)
        if credential is None:
            raise self._failed("the request carries no API key", "missing", address)
        found = self._keys.find(credential)
        if isinstance(found, Caller):
            return found
        if found is not None:
            raise self._failed(f"the API key is {found}", found, address)
        if self._issuer is None or credential.count(b".") != 2:
            raise self._failed(_UNKNOWN, "unknown", address)
        try:
            name, scopes = await self._issuer.caller(credential)
        except AuthenticationError as error:
            raise self._failed(error.what, "token", address) from error
        return Caller(name, scopes, self._keys.bucket(name))

    async def close(self) -> None:
        """Ends what is under way."""
        if self._issuer is not None:
            await self._issuer.close()

    def _failed(self, what: str, reason: str, address: str) -> AuthenticationError | TooManyRequestsError:
        self._metrics.turned_away(reason)
        wait = self._failures.failed(address)
        if wait == 0:  # beyond its limit an address writes no more lines
            _logger.warning("no access for %a: %s", address, what)
        else:
            return TooManyRequestsError(
                f"{what}, and this address has failed too often", retry_after=wait, mend=_MEND
            )
        return AuthenticationError(what, mend=_MEND)


def _bearer(authorization: bytes | None) -> bytes | None:
    scheme, _, credential = (authorization or b"").partition(b" ")
    return credential.strip() or None if scheme.lower() == b"bearer" else None


class _Needs:
    """A dependency that lets through whoever has `scope`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        self.check(request.scope)

    def check(self, connection: Connection) -> None:
        """Raises AuthenticationError without a caller, and ForbiddenError if it lacks the scope."""
        caller: Caller | None = connection.get("caller")
        if caller is None:  # no gate stands before this route
            raise AuthenticationError("the request carries no API key", mend=_MEND)
        if self.scope not in caller.scopes:
            raise ForbiddenError(
                f"{caller.name} does not have the scope {self.scope}",
                scope=self.scope,
                mend=f"use a key with the scope {self.scope}",
            )


def needs(scope: Scope) -> Any:
    """For a route's `dependencies`: only callers with that scope."""
    return Depends(_Needs(scope))


class ScopedRoute(APIRoute):
    """A route that checks its scope before it reads the body, and tells OpenAPI of it.

    FastAPI would read the body first, and take 8 µs for each dependency.

    Raises:
        TypeError: no scope is named in `dependencies`, so that nobody forgets to.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        dependencies: Sequence[Dependency] | None = None,
        openapi_extra: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given = dependencies or ()
        found = [one.dependency for one in given if isinstance(one.dependency, _Needs)]
        if len(found) != 1:
            raise TypeError(f"{path}: give one scope, dependencies=[needs(...)]")
        (self._needs,) = found
        security = [{name: [self._needs.scope]} for name in SECURITY_SCHEMES]
        super().__init__(
            path,
            endpoint,
            dependencies=[one for one in given if one.dependency is not self._needs],
            openapi_extra={"security": security, **(openapi_extra or {})},
            **options,
        )

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answers a request to this path."""
        self._needs.check(scope)
        await super().handle(scope, receive, send)


def caller_of(request: Request) -> Caller:
    """The caller of a request that the gate has let pass."""
    caller: Caller = request.scope["caller"]
    return caller


Calling = Annotated[Caller, Depends(caller_of)]


def count_batch(caller: Caller, transactions: int) -> None:
    """Counts a batch by its transactions: the first was counted with the request, and these are the others."""
    if caller.bucket is not None:
        caller.bucket.owe(transactions - 1)
