"""Who may call: API keys, compared as digests in constant time and never logged.

A key comes in the header `X-API-Key` or as `Authorization: Bearer KEY`. All of `/v1` needs one. `/livez`,
`/readyz` and `/metrics` need none: they tell nothing of a transaction, orchestrators and Prometheus call them
without secrets, and the service listens on loopback unless told otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from api.secret_files import read_secret
from api.settings import ApiSettings
from riskdistill.errors import AuthenticationError, ConfigError

MIN_KEY_LENGTH: Final = 16
_MEND: Final = "send a valid key in the header X-API-Key or as Authorization: Bearer"
_header = APIKeyHeader(name="X-API-Key", auto_error=False)
_bearer = HTTPBearer(auto_error=False)


class KeyRing:
    """The digests of the accepted keys.

    Raises:
        ConfigError: there is no key, or one is too short to be safe.
    """

    def __init__(self, settings: ApiSettings) -> None:
        keys = settings.api_keys.get_secret_value().split(",")
        if settings.api_keys_file is not None:
            keys += read_secret(settings.api_keys_file).splitlines()
        keys = [key.strip() for key in keys if key.strip()]
        if not keys:
            raise ConfigError(
                "no API key is set",
                where="API settings",
                mend="set RISKDISTILL_API_KEYS or RISKDISTILL_API_KEYS_FILE",
            )
        if any(len(key) < MIN_KEY_LENGTH for key in keys):
            raise ConfigError(
                f"an API key is shorter than {MIN_KEY_LENGTH} characters",
                where="API settings",
                mend="make one with: openssl rand -hex 24",
            )
        self._digests = [_digest(key) for key in keys]

    def accepts(self, key: str) -> bool:
        """Whether `key` is one of the accepted keys; the time taken does not tell how much of it fits."""
        digest = _digest(key)
        return any([hmac.compare_digest(digest, accepted) for accepted in self._digests])  # noqa: C419

    def check(self, headers: Headers) -> None:
        """Lets a request with these `headers` pass.

        Raises:
            AuthenticationError: no key, or a wrong one.
        """
        key = headers.get("x-api-key")
        if key is None:
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            key = credentials.strip() if scheme.lower() == "bearer" else None
        if key is None:
            raise AuthenticationError("the request carries no API key", mend=_MEND)
        if not self.accepts(key):
            raise AuthenticationError("the API key is not known", mend=_MEND)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def require_key(
    request: Request,
    _header: Annotated[str | None, Security(_header)],
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> None:
    """Lets the request pass if it carries an accepted key; the parameters tell OpenAPI how it may.

    `api.gate` has asked before the body was read. This holds wherever the routes are mounted.

    Raises:
        AuthenticationError: no key, or a wrong one.
    """
    ring: KeyRing = request.app.state.keys
    ring.check(request.headers)
