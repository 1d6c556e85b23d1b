"""Bearer tokens: what one issuer signed for us, and nothing else; a defined answer while the issuer is away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_serving import KEY, body, running, settings_for
from fastapi import FastAPI
from test_problem_documents import check

from api.app import create_app
from api.security import oidc
from api.security.oidc import Issuer
from api.settings import load_settings
from riskdistill.errors import AuthenticationError, ConfigError, UnavailableError

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://login.bank.example", "riskdistill"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "service-account-7",
    "exp": int(NOW) + 600,
    "scope": "openid riskdistill:score riskdistill:read score admin",
}
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
OTHER = ec.generate_private_key(ec.SECP256R1())
CLASSES: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, algorithm: str, **fields: Any) -> dict[str, Any]:
    """The public half of `key` as the issuer lists it."""
    return CLASSES[algorithm].to_jwk(key.public_key(), as_dict=True) | fields


JWKS = {"keys": [jwk(key, name, kid=name, use="sig") for name, key in PRIVATE.items()]}


class Provider:
    """An issuer's key server on loopback: answers with `content`, or after `may_answer` is set."""

    def __init__(self) -> None:
        self.content, self.status, self.asked = json.dumps(JWKS).encode(), 200, 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.may_answer.wait(20)
                with suppress(BrokenPipeError):  # it is not waited for for ever
                    self.answer()

            def answer(self) -> None:
                self.send_response(provider.status)
                self.send_header("content-length", str(len(provider.content)))
                self.end_headers()
                self.wfile.write(provider.content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,))
    thread.start()
    yield provider
    provider.may_answer.set()
    provider.server.shutdown()
    provider.server.server_close()
    thread.join()


class Time:
    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def epoch(self) -> float:
        return NOW + self.passed


def issuer_of(provider: Provider, time: Time, **changes: Any) -> Issuer:
    fields = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": provider.url, **changes}
    settings = settings_for(Path(), bundle=Path(), **fields)
    return Issuer(settings, time.monotonic, time.epoch)


def token(algorithm: str = "ES256", key: Any = None, headers: Any = None, **changes: Any) -> bytes:
    """A token of CLAIMS with `changes`; None leaves a claim out."""
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    made = jwt.encode(claims, key or PRIVATE[algorithm], algorithm, headers={"kid": algorithm} | (headers or {}))
    return made.encode()


def assembled(header: dict[str, Any], signature: bytes | None = None, secret: bytes = b"") -> bytes:
    """A token by hand, for what the library refuses to make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, CLAIMS)]
    if signature is None:
        signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")])


@pytest.mark.parametrize("algorithm", list(PRIVATE))
async def test_a_token_gives_a_name_and_the_scopes_that_are_meant_for_us(
    provider: Provider, algorithm: str
) -> None:
    identity = await issuer_of(provider, Time()).caller(token(algorithm))
    assert identity == ("oidc:service-account-7", {"score", "read"})  # a bare `admin` is another application's


RSA_PEM = PRIVATE["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
REFUSED: dict[str, tuple[bytes, str]] = {
    "no signature": (assembled({"alg": "none", "kid": "ES256"}, b""), "algorithm is not accepted"),
    "none, spelled otherwise": (assembled({"alg": "nOnE", "kid": "ES256"}, b""), "algorithm is not accepted"),
    "public key as secret": (
        assembled({"alg": "HS256", "kid": "RS256"}, secret=RSA_PEM),
        "algorithm is not accepted",
    ),
    "no algorithm": (assembled({"kid": "ES256"}, b"x"), "accepted"),
    "algorithm of another key": (assembled({"alg": "RS256", "kid": "ES256"}, b"x"), "not that of its key"),
    "signature of another key": (token(key=OTHER), "signature does not fit"),
    "signature cut": (token()[:-20], "not valid"),
    "claims changed": (token().split(b".")[0] + b"." + token(sub="eve").split(b".")[1] + b".AAAA", "signature"),
    "unknown key": (token(headers={"kid": "other"}), "does not list"),
    "no key id": (assembled({"alg": "ES256"}, b"x"), "does not list"),
    "embedded key": (
        token(key=OTHER, headers={"kid": "other", "jwk": jwk(OTHER, "ES256")}),
        "does not list",
    ),
    "critical extension": (token(headers={"crit": ["x"], "x": 1}), "accepted form"),
    "expired": (token(exp=int(NOW) - 31), "expired"),
    "not yet": (token(nbf=int(NOW) + 60), "not valid yet"),
    "issued tomorrow": (token(iat=int(NOW) + 86_400), "not valid yet"),
    "time as text": (token(nbf="soon"), "not numbers"),
    "no end": (token(exp=None), "is missing"),
    "no subject": (token(sub=None), "is missing"),
    "no issuer": (token(iss=None), "is missing"),
    "no audience": (token(aud=None), "is missing"),
    "other issuer": (token(iss=ISSUER + "/"), "another issuer"),
    "other audience": (token(aud=["a", "b"]), "another audience"),
    "no JSON": (b"e30.e30.", "accepted"),
    "bytes": (b"\xff.\x00.\xfe", "accepted form"),
    "long": (token(filler="x" * 9_000), "longer than"),
}


@pytest.mark.parametrize(("bad", "says"), list(REFUSED.values()), ids=list(REFUSED))
async def test_anything_else_is_refused(provider: Provider, bad: bytes, says: str) -> None:
    with pytest.raises(AuthenticationError, match=says):
        await issuer_of(provider, Time()).caller(bad)


async def test_clocks_may_differ_a_little(provider: Provider) -> None:
    issuer = issuer_of(provider, Time())
    ended = await issuer.caller(token(exp=int(NOW) - 29))
    assert ended == await issuer.caller(token(nbf=int(NOW) + 29, iat=int(NOW) + 29))


async def test_a_token_ends_on_time_though_it_was_checked_before(provider: Provider) -> None:
    time = Time()
    issuer = issuer_of(provider, time)
    short = token(exp=int(NOW) + 10)
    await issuer.caller(short)
    time.passed = 39.9
    await issuer.caller(short)
    time.passed = 40.1
    with pytest.raises(AuthenticationError, match="expired"):
        await issuer.caller(short)


@pytest.mark.parametrize(
    ("claim", "mapping", "extra", "scopes"),
    [
        ("scope", {}, {"scope": ["riskdistill:label", 7, None]}, {"label"}),
        (
            "realm_access.roles",
            {"fraud-ops": ("label", "operate")},
            {"realm_access": {"roles": ["fraud-ops"]}},
            {"label", "operate"},
        ),
        ("realm_access.roles", {}, {"realm_access": "none"}, set()),
        ("scope", {}, {"scope": {"riskdistill:admin": True}}, set()),
        ("scope", {}, {"scope": None}, set()),
    ],
)
async def test_scopes_come_from_the_claim_and_the_mapping_that_are_set(
    provider: Provider, claim: str, mapping: Any, extra: Any, scopes: set[str]
) -> None:
    issuer = issuer_of(provider, Time(), oidc_scopes_claim=claim, oidc_scopes=mapping)
    assert (await issuer.caller(token(**extra))).scopes == scopes


async def test_a_name_is_one_short_line(provider: Provider) -> None:
    identity = await issuer_of(provider, Time()).caller(token(sub="x\n\u202e" + "y" * 500))
    assert identity.name == "oidc:x??" + "y" * 125


async def test_keys_are_fetched_once_and_again_for_a_new_one_but_not_for_every_unknown(
    provider: Provider,
) -> None:
    time = Time()
    issuer = issuer_of(provider, time)
    for name in PRIVATE:
        await issuer.caller(token(name))
    assert provider.asked == 1
    new = token(key=OTHER, headers={"kid": "new"})
    provider.content = json.dumps({"keys": [jwk(OTHER, "ES256", kid="new")]}).encode()
    with pytest.raises(AuthenticationError, match="does not list"):
        await issuer.caller(new)
    assert provider.asked == 1  # asked a moment ago
    time.passed = oidc.RETRY_SECONDS
    await issuer.caller(new)
    assert provider.asked == 2
    time.passed += oidc.TOKEN_SECONDS
    with pytest.raises(AuthenticationError, match="does not list"):
        await issuer.caller(token())  # its key was withdrawn


async def test_while_the_issuer_is_away_known_keys_stay_in_force_for_a_time(provider: Provider) -> None:
    time = Time()
    issuer = issuer_of(provider, time)
    long = token(exp=int(NOW) + 100_000)
    await issuer.caller(long)
    provider.status = 503
    time.passed = oidc.KEYS_STALE - 1
    await issuer.caller(long)
    assert issuer._fetching is not None
    await issuer._fetching
    assert provider.asked == 2
    time.passed = oidc.KEYS_STALE + oidc.TOKEN_SECONDS
    with pytest.raises(UnavailableError, match="issuer's keys cannot be fetched"):
        await issuer.caller(long)
    provider.status = 200
    time.passed += oidc.RETRY_SECONDS
    await issuer.caller(long)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": []}',
        b'{"keys": [7, {"kty": "oct", "k": "AAAA", "kid": "ES256"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "kid": "ES256"}]}',
        json.dumps({"keys": [JWKS["keys"][1] | {"use": "enc"}]}).encode(),
        json.dumps({"keys": [JWKS["keys"][1] | {"alg": "ES384"}]}).encode(),
        json.dumps({"keys": [JWKS["keys"][1] | {"crv": "P-384"}]}).encode(),
        json.dumps({"keys": [jwk(rsa.generate_private_key(65_537, 1_024), "RS256", kid="ES256")]}).encode(),
        b" " * (oidc.MAX_KEYS_BYTES + 1),
    ],
)
async def test_a_key_set_that_cannot_be_used_is_as_none(provider: Provider, content: bytes) -> None:
    provider.content = content
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        await issuer_of(provider, Time()).caller(token())


async def test_a_hung_issuer_is_waited_for_no_longer_than_the_deadline_and_by_all_at_once(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "FETCH_SECONDS", 0.1)
    provider.may_answer.clear()
    issuer = issuer_of(provider, Time())
    for _ in range(3):  # the second and third are answered at once
        with pytest.raises(UnavailableError):
            await issuer.caller(token())
    assert provider.asked <= 1
    await issuer.close()


def app_with(tmp_path: Path, bundle: Path, url: str, **changes: Any) -> FastAPI:
    fields = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": url, **changes}
    return create_app(settings_for(tmp_path / "state", bundle=bundle, **fields))


async def test_the_service_takes_tokens_beside_keys(tmp_path: Path, bundle: Path, provider: Provider) -> None:
    far = token("RS256", exp=4_000_000_000)
    async with running(app_with(tmp_path, bundle, provider.url, rate=0.001)) as client:
        del client.headers["X-API-Key"]
        headers = {"Authorization": f"Bearer {far.decode()}"}
        assert (await client.post("/v1/score", json=body(), headers=headers)).status_code == 200
        check(await client.post("/v1/score", json=body(), headers=headers), 429)  # limited by its subject
        check(await client.get("/v1/acts", headers={"X-API-Key": KEY}), 403)
        answer = await client.post(
            "/v1/score", headers={"Authorization": f"Bearer {token(exp=1_000_000_000).decode()}"}
        )
        check(answer, 401, "expired")
        assert 'refused_callers_total{reason="token"} 1.0' in (await client.get("/metrics")).text


async def test_without_its_issuer_the_service_answers_tokens_with_503_and_keys_as_ever(
    tmp_path: Path, bundle: Path, provider: Provider
) -> None:
    provider.status = 404
    async with running(app_with(tmp_path, bundle, provider.url)) as client:
        assert (await client.post("/v1/score", json=body())).status_code == 200
        del client.headers["X-API-Key"]
        answer = await client.post("/v1/score", headers={"Authorization": f"Bearer {token().decode()}"})
        check(answer, 503, "issuer's keys cannot be fetched")
        assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"oidc_issuer": ISSUER}, "together"),
        ({"oidc_jwks_url": "http://login.bank.example/keys"}, "https only"),
        ({"oidc_jwks_url": "file:///etc/keys"}, "https only"),
        ({"oidc_scopes": {"x": ("root",)}}, "oidc_scopes"),
    ],
)
def test_settings_that_are_not_safe_or_whole_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(bundle=Path("b"), **given)
