"""Makes the FastAPI application of the scoring service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import alert_routes, case_routes, problems, routes, teacher_routes
from api.auth import KeyRing
from api.gate import Gate
from api.metrics import Metrics, RequestMetrics
from api.service import Service
from api.settings import ApiSettings
from riskdistill import __version__


def create_app(settings: ApiSettings) -> FastAPI:
    """The application for `settings`; its lifespan starts and stops the service.

    Raises:
        ConfigError: no usable API key, or a wrong file of the teacher bypass. What fails later is in
            `app.state.service.failure` and `/readyz`.
    """
    metrics = Metrics()
    service = Service(settings, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="riskdistill scoring service",
        summary="Scores, decides, explains and records financial transactions",
        version=__version__,
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.keys = KeyRing(settings)
    app.add_middleware(Gate, keys=app.state.keys)
    app.add_middleware(RequestMetrics, metrics=metrics)  # the outer one: it counts refusals too
    problems.install(app)
    app.include_router(routes.v1)
    app.include_router(teacher_routes.v2)
    app.include_router(alert_routes.alerts)
    app.include_router(case_routes.cases)
    app.include_router(case_routes.suppressions)
    app.include_router(routes.operation)
    return app
