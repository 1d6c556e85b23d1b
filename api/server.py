"""Runs the scoring service on a socket until it is told to stop: in this process, or in several workers.

On SIGTERM it drains: `/readyz` answers 503 and new requests are refused, those under way are answered; when there
are none left and load balancers had time to notice, or at the latest when its limit is over, it stores what is
decided and ends with code 0. On SIGINT (Ctrl-C) it does not wait for load balancers. Where the database takes no
decision it says what it leaves and ends with code 75; where the database says nothing it does so after a second
limit, for threads that wait cannot be stopped.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from math import ceil
from pathlib import Path
from threading import Timer
from time import monotonic
from types import FrameType
from typing import Final

import uvicorn

from api.app import create_app
from api.security.connections import Connection
from api.security.secret_files import read_secret
from api.service import Service, prepare
from api.settings import ApiSettings
from api.telemetry import logs, tracing
from api.workers import HELD_UP, metrics_directory, supervise
from riskdistill.errors import ConfigError

LAST_SECONDS: Final = 5.0  # beyond twice the drain's limit, for a short one leaves a commit no time
_POLL_SECONDS: Final = 0.02
_AT_ONCE_SECONDS: Final = 1  # for connections to be told that it ends
_SWITCH_SECONDS: Final = 0.0005  # a commit that is on disk waits so long for the event loop to let it go on
_YOUNG_OBJECTS: Final = 50_000  # more than some full batches under way hold
_logger = logs.logger(__name__)


def serve(settings: ApiSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests that are under way are answered first.

    Raises:
        ConfigError: a setting cannot be used, or the address is taken.
        RiskDistillError: the service could not come up, e.g. its bundle is damaged.
    """
    with logs.to_stderr(settings.log_format), _listening(settings.host, settings.port) as listener:
        if settings.workers == 1:
            serve_on(listener, settings)
        else:
            prepare(settings)
            with metrics_directory():
                supervise(settings, listener)


def serve_on(listener: socket.socket, settings: ApiSettings) -> None:
    """Serves in this process; raises as `serve`, and SystemExit where decisions could not be stored in the end."""
    tls = _tls(settings.tls_certificate, settings.tls_key)
    with ExitStack() as stack:
        sys.setswitchinterval(_SWITCH_SECONDS)
        tracing.start()
        stack.callback(tracing.stop)
        stack.enter_context(few_collections())
        app = create_app(settings)
        service: Service = app.state.service
        limit = _limit(service)
        stack.callback(limit.cancel)
        make_connection = partial(Connection, most=settings.max_connections, seconds=settings.deadline_ms / 1e3)
        config = uvicorn.Config(
            app,
            http=make_connection,  # type: ignore[arg-type]  # uvicorn only calls it
            access_log=False,
            log_config=None,  # its messages go the way of ours
            server_header=False,
            timeout_graceful_shutdown=ceil(settings.drain_seconds),
            lifespan="on",
            proxy_headers=bool(settings.proxy),  # else a client could choose the address that it is known by
            forwarded_allow_ips=settings.proxy,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        server = _Server(config, service, limit)
        service.on_failure = lambda: setattr(server, "should_exit", True)
        service.on_ready = gc.freeze  # half a million objects, for which requests waited 0.2 s now and then
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure
    if service.unfinished()[1]:
        sys.exit(HELD_UP)  # it has told of what it could not store


@contextmanager
def few_collections() -> Iterator[None]:
    """Inside, the garbage collector is seldom called: the path of a transaction makes no cycles.

    And what `gc.freeze` is called on, it does not go through.
    """
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class _Server(uvicorn.Server):
    """Drains on SIGTERM before it stops; a second one stops at once. SIGINT does not wait for load balancers.

    Args:
        limit: started when the end begins.
    """

    def __init__(self, config: uvicorn.Config, service: Service, limit: Timer) -> None:
        super().__init__(config)
        self._service, self._limit = service, limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what is open."""
        self._service.draining = True
        self._begin_limit()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on a signal."""
        if sig == signal.SIGTERM and self._loop is not None:
            if not self._service.draining:
                self._service.draining = True
                self._loop.call_soon_threadsafe(self._begin_drain)
            else:
                self.config.timeout_graceful_shutdown = _AT_ONCE_SECONDS
                self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    def _begin_limit(self) -> None:
        if self._limit.ident is None:  # it runs from the first signal on
            self._limit.start()

    def _begin_drain(self) -> None:
        self._begin_limit()
        self._drain = asyncio.get_running_loop().create_task(self._wait_and_exit())

    async def _wait_and_exit(self) -> None:
        settings, began = self._service.settings, monotonic()
        _logger.info("the service drains", extra=logs.fields("draining", in_flight=self._service.metrics.in_flight))
        while (passed := monotonic() - began) < settings.drain_seconds:
            if passed >= settings.drain_notice_seconds and not self._service.metrics.in_flight:
                break
            await asyncio.sleep(_POLL_SECONDS)
        if not self.should_exit:  # nobody asked meanwhile that it end at once
            # connections have what is left, and a moment to be told 503
            self.config.timeout_graceful_shutdown = ceil(max(_AT_ONCE_SECONDS, settings.drain_seconds - passed))
            self.should_exit = True


def _limit(service: Service) -> Timer:
    """What ends the process, once started, unless it is cancelled first; a blocked event loop does not stop it."""
    seconds = 2 * service.settings.drain_seconds + LAST_SECONDS

    def give_up() -> None:
        under_way, unstored = service.unfinished()
        _logger.error(
            "the service was told to end %g s ago, and the database does not let it go: %d transactions are under "
            "way and %d decisions wait to be stored; none of them was acknowledged, and all may be sent again",
            seconds,
            under_way,
            unstored,
            extra=logs.fields("held_up", under_way=under_way, unstored=unstored),
        )
        os._exit(HELD_UP)  # the threads that wait would hold up any other end

    timer = Timer(seconds, give_up)
    timer.daemon = True
    return timer


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
