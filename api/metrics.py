"""What Prometheus sees: counts, latencies and the bundle in service, with labels of few values.

Each application has its own registry, so several can live in one process. Times are in seconds.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from riskdistill.storage.decisions import Decision

BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The service's own registry and the metrics in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "riskdistill_requests_total", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "riskdistill_request_seconds",
            "Time from a request's arrival to the end of its answer",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.decisions = Counter(
            "riskdistill_decisions_total",
            "Decisions made durable",
            ["route", "action"],
            registry=self.registry,
        )
        self.bypass = Counter(
            "riskdistill_bypass_total",
            "Decisions for which the teacher was wanted, by what came of it",
            ["reason"],
            registry=self.registry,
        )
        self.bundle = Gauge(
            "riskdistill_bundle_info",
            "Bundles kept warm, by role",
            ["role", "version"],
            registry=self.registry,
        )
        self.refused = Counter(
            "riskdistill_refused_bundles_total",
            "Released bundles that were not taken",
            registry=self.registry,
        )
        self.shadows = Counter(
            "riskdistill_shadow_scores_total",
            "Decisions for the other bundle to score, by what came of it",
            ["outcome"],
            registry=self.registry,
        )

    def decided(self, decision: Decision) -> None:
        """Counts a decision that is durable now."""
        self.decisions.labels(decision.route, decision.action).inc()
        if decision.route_reason != "none":
            self.bypass.labels(decision.route_reason).inc()

    def serving(self, current: str, previous: str | None, challenger: str | None = None) -> None:
        """Shows these bundle versions and no others."""
        self.bundle.clear()
        for role, version in (("current", current), ("previous", previous), ("challenger", challenger)):
            if version is not None:
                self.bundle.labels(role, version).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class RequestMetrics:
    """ASGI middleware that counts and times requests by route template, so that ids make no new series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on and records how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.latency.labels(route).observe(perf_counter() - started)
