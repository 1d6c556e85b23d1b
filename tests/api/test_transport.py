"""On a real socket: HTTPS from TLS 1.2 on, headers of a proxy only from a proxy, and malformed requests."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fake_serving import KEY, body, settings_for
from ports import free_port
from serving_here import while_serving

from api.security.secret_files import write_secret
from api.server import serve
from api.settings import load_settings
from riskdistill.errors import ConfigError


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    write_secret(folder / "key.pem", text)
    return folder / "cert.pem", folder / "key.pem"


def test_it_serves_https_and_no_older_tls_than_1_2(tmp_path: Path, bundle: Path, pems: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=pems[0])

    def visit(port: int) -> tuple[int, str, str | None, bool]:
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting) as client:
            while client.get("/readyz").status_code != 200:
                pass
            answer = client.post("/v1/score", json=body(), headers={"X-API-Key": KEY})
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            version = secured.version()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
        with pytest.warns(DeprecationWarning, match="is deprecated"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", port)) as plain:
            try:
                old.wrap_socket(plain).close()
                old_passes = True
            except (ssl.SSLError, ConnectionError):
                old_passes = False
        return answer.status_code, answer.headers["strict-transport-security"], version, old_passes

    seen = while_serving(visit, tmp_path / "state", bundle=bundle, tls_certificate=pems[0], tls_key=pems[1])
    assert seen == (200, "max-age=31536000", "TLSv1.3", False)


@pytest.mark.parametrize(("proxy", "believed"), [("", False), ("10.0.0.0/8", False), ("10.0.0.1, 127.0.0.1", True)])
def test_headers_of_a_proxy_count_only_from_a_proxy(
    tmp_path: Path, bundle: Path, proxy: str, believed: bool
) -> None:
    def visit(port: int) -> httpx.Response:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        return httpx.get(f"http://127.0.0.1:{port}/livez", headers=headers)

    answer = while_serving(visit, tmp_path / "state", bundle=bundle, proxy=proxy)
    assert ("strict-transport-security" in answer.headers) == believed
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: abc",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Content-Length : 2",
        b"X-\x00: 1",
    ],
)
def test_a_malformed_request_is_answered_with_400(tmp_path: Path, bundle: Path, lines: bytes) -> None:
    request = (
        b"POST /v1/score HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n{}"
    )

    def visit(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request % (KEY.encode(), lines))
            return connection.recv(1_000)

    answer = while_serving(visit, tmp_path / "state", bundle=bundle)
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tls_certificate": Path("c")}, "tls_certificate and tls_key together"),
        ({"proxy": "*"}, "proxy"),
        ({"proxy": "proxy.bank.example"}, "proxy"),
        ({"proxy": "10.0.0.1/8"}, "proxy"),
    ],
)
def test_settings_that_are_not_safe_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(bundle=Path("b"), **given)


def test_a_key_that_does_not_fit_or_that_others_can_read_is_refused(
    tmp_path: Path, bundle: Path, pems: tuple[Path, Path]
) -> None:
    other, shared = tmp_path / "other.pem", tmp_path / "shared.pem"
    made = ec.generate_private_key(ec.SECP256R1())
    write_secret(other, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    shared.write_bytes(pems[1].read_bytes())
    shared.chmod(0o644)
    for key, says in ((other, "belong together"), (shared, "chmod 600")):
        with pytest.raises(ConfigError, match=says):
            serve(
                settings_for(
                    tmp_path / "state", bundle=bundle, port=free_port(), tls_certificate=pems[0], tls_key=key
                )
            )
