"""Where a transaction's time goes, stage by stage: the server's processor time, and what its caller waits for.

The processor time is sampled inside a server under full load (`serving_sampler`). The latency is from the metrics
of a server without a sampler, at the load of the section `latency`: what each stage takes of the time from a
request's arrival to the end of its answer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import httpx
import serving_sampler
from feature_data import ROOT, Measurement
from http_load import closed, opened
from prometheus_client.parser import text_string_to_metric_families
from serving_process import ServerProcess, driving
from serving_speed import CONNECTIONS, LATENCY_LOAD, WARM_UP, Bench

UNEXPLAINED: Final = 30.0  # percent that no stage has, at most
REST: Final = "no stage"
WAITS: Final = {
    "lookup": "the look-up of its id, and waiting for those in line before it",
    "features": "its features, and those of the others of its group",
    "student": "the student, for the whole group",
    "store": "until its group commit is on disk",
    "teacher": "its answer, of those that are sent on",
    "reasons": "of alerts",
    "order": "behind earlier ones of its accounts",
    REST: "HTTP, the gate, reading the body and writing the answer",
}


def stages(bench: Bench) -> list[Measurement]:
    """Shares of processor time at full load, and of latency at the usual one."""
    return _processor_time(bench) + _latency(bench)


def _processor_time(bench: Bench) -> list[Measurement]:
    service = bench.service()
    found = service.state / "samples.json"
    program = [sys.executable, str(ROOT / "benchmarks" / "serving_sampler.py")]
    requests = bench.world.singles(int(10_000 * bench.seconds), service.key)
    with service.running(program, {serving_sampler.OUT: str(found)}) as server, driving():
        before = server.cpu_seconds()
        load = closed(server.port, requests, CONNECTIONS, bench.seconds)
        used = server.cpu_seconds() - before
    shares = serving_sampler.read(found)
    each = used / max(1, load.statuses[200]) * 1e6
    return [
        _share("processor time", name, share, f"{share * each:.0f} us a request", name == serving_sampler.OTHER)
        for name, share in shares.items()
    ]


def _latency(bench: Bench) -> list[Measurement]:
    rate, service = LATENCY_LOAD * bench.single.load.rate, bench.service()
    requests = bench.world.singles(WARM_UP + int(rate * bench.seconds), service.key)
    with service.running() as server, driving():
        closed(server.port, requests[:WARM_UP], CONNECTIONS, bench.seconds)
        before = _seconds(server)
        load = opened(server.port, requests[WARM_UP:], CONNECTIONS, rate)
        after = _seconds(server)
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    whole = spent.pop(REST)
    spent[REST] = whole - sum(spent.values())
    mean = whole / load.statuses.total() * 1e6
    callers = sum(load.latencies) / len(load.latencies) * 1e6
    seen = f"at {rate:,.0f} req/s; its caller sees {callers:,.0f} us, from the time due"
    return [Measurement("latency in the service, mean", mean, "us", better="lower", detail=seen)] + [
        _share("latency", name, seconds / whole, f"{mean * seconds / whole:,.0f} us: {WAITS[name]}", name == REST)
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])
    ]


def _share(of: str, stage: str, share: float, detail: str, is_unexplained: bool) -> Measurement:
    bar = UNEXPLAINED if is_unexplained else None
    return Measurement(f"{of}: {stage}", 100 * share, "%", bar, "lower", detail)


def _seconds(server: ServerProcess) -> Mapping[str, float]:
    """Sum over all transactions, of each stage; under REST that of the requests which scored them."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text):
        for sample in family.samples:
            if sample.name == "riskdistill_stage_seconds_sum":
                found[sample.labels["stage"]] = sample.value
            elif sample.name == "riskdistill_request_seconds_sum" and sample.labels["route"] == "/v1/score":
                found[REST] = sample.value
    return found
