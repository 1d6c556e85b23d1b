"""Bearer tokens of an OpenID provider: who signed them, for whom, until when, and what they allow.

Accepted are signed JWTs (RS256, ES256, EdDSA) of one issuer for one audience. A key of the issuer fits one
algorithm only, whatever a token claims, so neither `none` nor a shared secret (HS256) can stand in for it. The
issuer's keys are fetched when the first token comes, again every KEYS_FRESH seconds behind the requests, and at
once for a key id that is not known, though not oftener than every RETRY_SECONDS.

While the issuer is away, its known keys stay in force for KEYS_STALE seconds; without them, a token is answered
with 503 after at most FETCH_SECONDS, and API keys work as ever. A token that was checked is not checked again for
TOKEN_SECONDS, so that its signature is not on the path of each transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from api.security.key_file import SCOPES, Scope
from api.security.rate_limit import Clock
from api.settings import ApiSettings
from riskdistill.errors import AuthenticationError, ConfigError, UnavailableError

if TYPE_CHECKING:
    from jwt import PyJWK

LEEWAY: Final = 30  # seconds by which the issuer's clock may differ
KEYS_FRESH: Final = 300.0
KEYS_STALE: Final = 3_600.0
RETRY_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 2.0
TOKEN_SECONDS: Final = 60.0
TOKENS: Final = 1_024  # checked ones that are remembered
MAX_TOKEN_BYTES: Final = 8_192
MAX_KEYS_BYTES: Final = 1 << 20
PREFIX: Final = "riskdistill:"  # of scopes in tokens, unless a mapping says otherwise
MIN_RSA_BITS: Final = 2_048
_ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # by type of key
_CURVES: Final = {"EC": "P-256", "OKP": "Ed25519"}
_logger = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Whom a token stands for, and what it allows."""

    name: str
    scopes: frozenset[Scope]


class _Checked(NamedTuple):
    identity: Identity
    until: float  # monotonic


class Issuer:
    """The provider that `settings` name.

    Args:
        clock, now: monotonic time, and time since the epoch.

    Raises:
        ConfigError: the extra `oidc` is not installed.
    """

    def __init__(self, settings: ApiSettings, clock: Clock = monotonic, now: Callable[[], float] = time) -> None:
        try:
            import jwt
        except ModuleNotFoundError as error:
            raise ConfigError(
                "tokens of an OpenID provider need PyJWT",
                where="API settings",
                mend="pip install 'riskdistill[oidc]'",
            ) from error
        self._jwt = jwt
        self._settings, self._clock, self._now = settings, clock, now
        self._claim = settings.oidc_scopes_claim.split(".")
        self._granted: Mapping[str, tuple[Scope, ...]] = settings.oidc_scopes or {
            PREFIX + scope: (scope,) for scope in SCOPES
        }
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = self._tried_at = -inf
        self._fetching: asyncio.Task[None] | None = None
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()

    async def caller(self, token: bytes) -> Identity:
        """Whom `token` stands for.

        Raises:
            AuthenticationError: it is not valid; says why.
            UnavailableError: the issuer's keys are not known and cannot be fetched now.
        """
        digest = hashlib.sha256(token).digest()
        known = self._checked.get(digest)
        if known is not None and self._clock() < known.until:
            return known.identity
        identity, ends_in = await self._check(token)
        self._checked[digest] = _Checked(identity, self._clock() + min(TOKEN_SECONDS, ends_in))
        if len(self._checked) > TOKENS:
            self._checked.popitem(last=False)
        return identity

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _check(self, token: bytes) -> tuple[Identity, float]:
        """Whom `token` stands for, and the seconds until it ends."""
        if len(token) > MAX_TOKEN_BYTES:
            raise AuthenticationError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            header = self._jwt.get_unverified_header(token)
            if header.get("alg") not in _ALGORITHMS.values():
                raise AuthenticationError("the token's algorithm is not accepted")
            key = await self._key(str(header.get("kid", "")))
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._settings.oidc_issuer,
                audience=self._settings.oidc_audience,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,  # by our clock, below
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            ends_in = _lasts(claims, self._now())
        except self._jwt.PyJWTError as error:
            raise AuthenticationError(f"the token is not valid: {_told(error)}") from error
        return Identity(_name(claims["sub"]), self._scopes(claims)), ends_in

    async def _key(self, kid: str) -> PyJWK:
        age = self._clock() - self._fetched_at
        if kid in self._keys and age < KEYS_STALE:
            if age >= KEYS_FRESH:
                self._fetch()  # behind this request
            return self._keys[kid]
        fetch = self._fetch()
        if fetch is not None:
            await asyncio.shield(fetch)
        if self._clock() - self._fetched_at >= KEYS_STALE:
            raise UnavailableError(
                "the issuer's keys cannot be fetched, so the token cannot be checked",
                mend="try again in a moment, or use an API key",
            )
        if kid not in self._keys:
            raise AuthenticationError("the token is signed with a key that its issuer does not list")
        return self._keys[kid]

    def _fetch(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None if the last try was just now."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._tried_at < RETRY_SECONDS:
            return None
        self._tried_at = self._clock()
        self._fetching = asyncio.create_task(self._take_keys())
        return self._fetching

    async def _take_keys(self) -> None:
        url = str(self._settings.oidc_jwks_url)
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                content = await _download(url)
            self._keys = _signing_keys(self._jwt, content)
            self._fetched_at = self._clock()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            _logger.error("the keys at %s cannot be used (%s): %s", url, type(error).__name__, error)

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        found: Any = claims
        for step in self._claim:
            found = found.get(step) if isinstance(found, dict) else None
        values = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        return frozenset(scope for value in values for scope in self._granted.get(str(value), ()))


async def _download(url: str) -> bytes:
    content = b""
    made = await asyncio.to_thread(httpx.AsyncClient)  # reads the certificates of authorities: tens of ms
    async with made as client, client.stream("GET", url) as answer:
        answer.raise_for_status()  # a redirect too: the keys come from where the settings say
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > MAX_KEYS_BYTES:
                raise ValueError(f"more than {MAX_KEYS_BYTES} bytes")
    return content


def _signing_keys(jwt: Any, content: bytes) -> dict[str, PyJWK]:
    """The keys of a JWK set that we accept, by id; others are passed over.

    Raises:
        ValueError: it is no JWK set, or there is none.
    """
    document = json.loads(content)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is not a JWK set")
    keys = {}
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or not isinstance(one.get("kid"), str):
            continue
        kind = one.get("kty")
        if kind not in _ALGORITHMS or one.get("crv") != _CURVES.get(kind):
            continue
        if one.get("alg", _ALGORITHMS[kind]) != _ALGORITHMS[kind]:
            continue
        try:
            key = jwt.PyJWK(one, algorithm=_ALGORITHMS[kind])
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            _logger.warning("a key of the issuer cannot be used: %s", type(error).__name__)
            continue
        if kind != "RSA" or key.key.key_size >= MIN_RSA_BITS:
            keys[one["kid"]] = key
    if not keys:
        raise ValueError("no key in it can be used")
    return keys


def _lasts(claims: Mapping[str, Any], now: float) -> float:
    """Seconds until the token ends.

    Raises:
        AuthenticationError: it has ended, or has not begun.
    """
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in times.values()):
        raise AuthenticationError("the token is not valid: its times are not numbers")
    if not now < times["exp"] + LEEWAY:
        raise AuthenticationError("the token has expired")
    if times.get("nbf", now) > now + LEEWAY or times.get("iat", now) > now + LEEWAY:
        raise AuthenticationError("the token is not valid yet")
    return float(times["exp"] + LEEWAY - now)


def _name(subject: str) -> str:
    """The actor's name: one line of at most 128 printable characters, apart from the names of keys."""
    return "oidc:" + "".join(sign if sign.isprintable() else "?" for sign in subject[:128])


def _told(error: Exception) -> str:
    """What is wrong in a few words of our own kind: the library's may quote the token."""
    words = {
        "InvalidSignatureError": "its signature does not fit",
        "InvalidAlgorithmError": "its algorithm is not that of its key",
        "InvalidAudienceError": "it is meant for another audience",
        "InvalidIssuerError": "another issuer made it",
        "MissingRequiredClaimError": "a claim of exp, iss, aud, sub is missing",
        "InvalidSubjectError": "its subject is not a text",
    }
    return words.get(type(error).__name__, "it is not a signed JWT of the accepted form")
