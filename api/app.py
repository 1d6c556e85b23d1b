"""Makes the FastAPI application of the scoring service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems, routes, teacher_routes
from api.desk import alert_routes, case_routes, release_routes
from api.path.hot_path import HotPath, Layers
from api.security.auth import Authenticator, document_security
from api.security.deadline import Deadline
from api.security.gate import Gate
from api.security.key_ring import KeyRing
from api.security.oidc import Issuer
from api.security.security_headers import add_docs
from api.service import Service
from api.settings import ApiSettings
from api.telemetry.metrics import Metrics
from api.telemetry.watch import Watch
from riskdistill import __version__


class _Application(FastAPI):
    """FastAPI behind `outside`, which so stands before FastAPI's own middleware too."""

    outside: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self.outside(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what has passed `outside`."""
        await super().__call__(scope, receive, send)


def create_app(settings: ApiSettings) -> FastAPI:
    """The application for `settings`; its lifespan starts and stops the service.

    Raises:
        ConfigError: nobody could call: no usable API key and no OpenID provider; or a wrong file of the teacher
            bypass. What fails later is in
            `app.state.service.failure` and `/readyz`.
    """
    metrics = Metrics()
    service = Service(settings, metrics)
    issuer = None if settings.oidc_issuer is None else Issuer(settings)
    callers = Authenticator(KeyRing(settings, metrics), issuer, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()
            await callers.close()

    app = _Application(
        title="riskdistill scoring service",
        summary="Scores, decides, explains and records financial transactions",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    hosts = frozenset(filter(None, map(str.strip, settings.allowed_hosts.lower().split(","))))
    deadline = Deadline(app.routed, settings.deadline_ms / 1e3, is_stopping=lambda: service.draining)
    gate = Gate(deadline, callers, metrics, hosts)
    watch = Watch(gate, service)  # before the gate: it counts refusals too
    app.outside = HotPath(Layers(watch, gate, deadline), service)
    problems.install(app)
    app.include_router(routes.v1)
    app.include_router(teacher_routes.v2)
    app.include_router(alert_routes.alerts)
    app.include_router(case_routes.cases)
    app.include_router(case_routes.suppressions)
    app.include_router(release_routes.releases)
    app.include_router(release_routes.changes)
    app.include_router(routes.operation)
    add_docs(app)
    document_security(app)
    return app
