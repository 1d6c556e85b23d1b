"""Runs the scoring service on a socket until it is told to stop."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

import uvicorn

from api.app import create_app
from api.settings import ApiSettings
from riskdistill.errors import ConfigError

GRACE_SECONDS: Final = 10  # for requests that are under way when the service is told to stop


def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests that are under way are answered first.

    Raises:
        ConfigError: a setting cannot be used, or the address is taken.
        RiskDistillError: the service could not come up, e.g. its bundle is damaged.
    """
    app = create_app(settings)
    with _listening(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_SECONDS, lifespan="on"
        )
        server = uvicorn.Server(config)
        app.state.service.on_failure = lambda: setattr(server, "should_exit", True)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if app.state.service.failure is not None:
        raise app.state.service.failure


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
