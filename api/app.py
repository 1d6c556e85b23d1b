"""Makes the FastAPI application of the scoring service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import problems, routes
from api.auth import KeyRing
from api.gate import Gate
from api.hot_path import HotPath
from api.metrics import Metrics, RequestMetrics
from api.service import Service
from api.settings import ApiSettings
from riskdistill import __version__


def create_app(settings: ApiSettings) -> FastAPI:
    """The application for `settings`; its lifespan starts and stops the service.

    Raises:
        ConfigError: no usable API key. What fails later is in `app.state.service.failure` and `/readyz`.
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
    app.add_middleware(HotPath, service=service)  # the inner one: what it answers has passed the gate
    app.add_middleware(Gate, keys=app.state.keys)
    app.add_middleware(RequestMetrics, metrics=metrics)  # the outer one: it counts refusals too
    problems.install(app)
    app.include_router(routes.v1)
    app.include_router(routes.operation)
    return app
