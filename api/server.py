"""Runs the scoring service on a socket until it is told to stop."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvicorn

from api.app import create_app
from api.secret_files import read_secret
from api.settings import ApiSettings
from riskdistill.errors import ConfigError

GRACE_SECONDS: Final = 10  # for requests that are under way when the service is told to stop


def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests that are under way are answered first.

    Raises:
        ConfigError: a setting cannot be used, or the address is taken.
        RiskDistillError: the service could not come up, e.g. its bundle is damaged.
    """
    tls = _tls(settings.tls_certificate, settings.tls_key)
    app = create_app(settings)
    with _listening(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="on",
            proxy_headers=bool(settings.proxy),  # else a client could choose the address that it is known by
            forwarded_allow_ips=settings.proxy,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        server = uvicorn.Server(config)
        app.state.service.on_failure = lambda: setattr(server, "should_exit", True)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if app.state.service.failure is not None:
        raise app.state.service.failure


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What serves HTTPS: TLS 1.2 with forward secrecy, or 1.3."""
    if certificate is None or key is None:
        return None
    read_secret(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of 1.2; those of 1.3 are all good
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # an empty one: asks nobody at the terminal
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificate and its key cannot be used ({error})",
            where=str(certificate),
            mend="give PEM files that belong together, the key without a password",
        ) from error
    return context


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen there ({error.strerror or error})",
            where=f"{host}:{port}",
            mend="choose another port, or stop what uses it",
        ) from error
