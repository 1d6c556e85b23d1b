"""OpenTelemetry traces: a span for each request, one for each transaction in it, and one for each of its stages.

Off, and nothing of it is imported, unless the environment names where traces go (`OTEL_EXPORTER_OTLP_ENDPOINT` or
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`); the other `OTEL_` variables hold as OpenTelemetry defines them. A request's
`traceparent` is taken as its parent, and `outgoing` gives that of the request to whatever is called for it.

A transaction's spans are made when its decision is durable, from the marks that the metrics use too, so a request
pays nothing for them while it is under way. A transaction is named by its decision's id; attributes hold no
account, no amount and no transaction id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.types import Scope

from api.telemetry.stages import Marks
from riskdistill import __version__
from riskdistill.errors import ConfigError
from riskdistill.storage.decisions import Decision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_provider: TracerProvider | None = None


def is_on() -> bool:
    """Whether traces are taken."""
    return _provider is not None


def is_wanted() -> bool:
    """Whether the environment names where traces go."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true" and any(map(os.environ.get, ENDPOINTS))


def start() -> None:
    """Takes traces from now on, and sends them over OTLP (HTTP, protobuf), if the environment says where.

    Raises:
        ConfigError: it does, and OpenTelemetry is not installed.
    """
    if not is_wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(
            "traces are wanted, and OpenTelemetry is not installed",
            where=" or ".join(ENDPOINTS),
            mend="install riskdistill[otel], or unset the variable",
        ) from error
    send_to(BatchSpanProcessor(OTLPSpanExporter()))


def send_to(processor: Any) -> None:
    """Takes traces from now on, and gives ended spans to `processor`."""
    global _provider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "riskdistill"), "service.version": __version__}
    _provider = TracerProvider(resource=Resource.create(named))
    _provider.add_span_processor(processor)


def stop() -> None:
    """Sends what is left, and takes no more traces."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


@contextmanager
def request(scope: Scope) -> Iterator[Span]:
    """A span that lasts as long as a request, a child of the one that its headers name."""
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    assert _provider is not None
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }
    parent = TraceContextTextMapPropagator().extract(carrier)
    tracer = _provider.get_tracer("riskdistill")
    with tracer.start_as_current_span(
        scope["method"], parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        span.set_attribute("http.request.method", scope["method"])
        yield span


def answered(span: Span, route: str, status: int) -> None:
    """Says of a request's span how it ended."""
    from opentelemetry.trace import StatusCode

    span.update_name(route)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def here() -> object:
    """What tells the trace that runs now to whatever goes on later, in no task of the request; None when off."""
    if _provider is None:
        return None
    from opentelemetry.context import get_current

    return get_current()


def decided(decision: Decision, marks: Marks) -> None:
    """Makes the spans of a transaction that is decided, as children of its request's."""
    if _provider is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span, set_span_in_context

    around = marks.trace if isinstance(marks.trace, Context) else None
    if not get_current_span(around).is_recording():
        return
    tracer = _provider.get_tracer("riskdistill")
    since = time.time_ns() - int(time.perf_counter() * 1e9)  # from one clock to the other
    before = since + int(marks.began * 1e9)
    span = tracer.start_span(
        "decide",
        around,
        start_time=before,
        attributes={
            "riskdistill.decision_id": decision.decision_id,
            "riskdistill.route": decision.route,
            "riskdistill.route_reason": decision.route_reason,
            "riskdistill.band": decision.band,
            "riskdistill.bundle_version": decision.bundle_version,
        },
    )
    inside = set_span_in_context(span)
    for stage, end in marks.ends:
        after = since + int(end * 1e9)
        tracer.start_span(stage, inside, start_time=before).end(after)
        before = after
    span.end(before)


def trace_id() -> str | None:
    """The id of the trace that what runs now belongs to, 32 hex digits."""
    if _provider is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


def outgoing(trace: object = None) -> dict[str, str]:
    """Headers for a call that is made for a request; none where no trace is taken.

    Args:
        trace: what `here` said in the request; left out in a task of its own, which knows.
    """
    headers: dict[str, str] = {}
    if _provider is not None:
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers, trace if isinstance(trace, Context) else None)
    return headers
