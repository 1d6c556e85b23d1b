"""Spans of requests, transactions and stages; off, and not even imported, unless told where they go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fake_serving import body, running, settings_for
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from api.telemetry import tracing
from api.telemetry.stages import STAGES

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where spans go while a test runs."""
    exporter = InMemorySpanExporter()
    tracing.send_to(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.stop()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


@pytest.mark.anyio
async def test_a_request_s_trace_goes_on_from_its_caller_down_to_the_stages(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = (await client.post("/v1/score", json=body("tx-secret", 950.0), headers=parent)).json()
    request, decide = named(spans, "/v1/score"), named(spans, "decide")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/score",
        "http.response.status_code": 200,
    }
    assert decide.parent == request.context
    assert decide.attributes is not None
    assert decide.attributes["riskdistill.decision_id"] == answer["decision_id"]
    assert decide.attributes["riskdistill.route"] == "teacher"
    stages = [span for span in spans.get_finished_spans() if span.parent == decide.context]
    assert {span.name for span in stages} <= set(STAGES)
    assert {"lookup", "features", "student", "teacher", "reasons", "store"} <= {span.name for span in stages}
    stages.sort(key=lambda span: span.start_time or 0)
    assert [span.end_time for span in stages[:-1]] == [span.start_time for span in stages[1:]]
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    for secret in ("tx-secret", "DE-sender", "FR-receiver", "BANK1", "950.0"):
        assert secret not in told


@pytest.mark.anyio
async def test_calls_for_a_request_carry_its_trace(
    tmp_path: Path, bundle: Path, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(settings_for(tmp_path / "state", bundle=bundle))
    async with running(app) as client:
        bypass = app.state.service.parts.scorer._bypass
        settle, sent = bypass.settle, []

        async def settling(*arguments: object) -> object:
            sent.append(tracing.outgoing(tracing.here()))
            assert sent[0] == tracing.outgoing()
            return await settle(*arguments)

        monkeypatch.setattr(bypass, "settle", settling)
        await client.post("/v1/score", json=body(amount=950.0), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    request = named(spans, "/v1/score")
    assert sent == [{"traceparent": f"00-{TRACE}-{request.context.span_id:016x}-01"}]


@pytest.mark.anyio
async def test_a_failed_request_s_span_says_so(client: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    await client.get("/readyz")
    await client.post(
        "/v1/score", content=b"no JSON", headers={"traceparent": "nonsense", "Content-Type": "application/json"}
    )
    request = named(spans, "/v1/score")
    assert request.parent is None
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 422
    assert request.status.is_ok


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    kept_out = ("opentelemetry.sdk", "opentelemetry.exporter", "torch", "sklearn", "redis")
    program = (
        "import sys; from api import server; from api.telemetry import tracing;"
        "tracing.start(); assert not tracing.is_on();"
        f"loaded = [name for name in sys.modules if name.startswith({kept_out})]; assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3], env={})


def test_an_endpoint_turns_it_on_and_the_switch_of_opentelemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert tracing.is_wanted()
    tracing.start()
    assert tracing.is_on()
    tracing.stop()
    assert not tracing.is_on()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing.is_wanted()
