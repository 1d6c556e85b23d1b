"""Throughput, latency, start and memory of the service, beside an empty endpoint where that tells something."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from feature_data import Measurement
from http_load import Load, closed, opened
from serving_process import ServerProcess, Service, driving, empty_endpoint
from serving_world import ROUTED, World

from riskdistill.client import Answer, Client

CONNECTIONS: Final = 64
BATCH: Final = 256
BATCH_CONNECTIONS: Final = 4
WARM_UP: Final = 2_000  # requests
DEADLINE_MS: Final = 100.0  # of the teacher
_MB: Final = 2**20


@dataclass(frozen=True)
class Timed:
    """A closed loop, and the processor time that it cost the server."""

    load: Load
    cpu_seconds: float

    def microseconds(self, decisions: int = 1) -> float:
        """Processor time of one decision, with so many in a request."""
        return self.cpu_seconds / max(1, self.load.statuses[200] * decisions) * 1e6


class Bench:
    """Starts servers on new states below `folder` and keeps what several sections need."""

    def __init__(self, world: World, folder: Path, quick: bool) -> None:
        self.world, self.quick, self._folder, self._numbers = world, quick, folder, count()
        self.seconds = 5.0 if quick else 20.0

    def service(self, routed: float = 0.0, **settings: str) -> Service:
        """On an empty state, with history."""
        return Service(self.world.bundle(routed), self.new_folder(), self.world.history, **settings)

    def new_folder(self) -> Path:
        """An empty one, which goes in the end."""
        folder = self._folder / f"state-{next(self._numbers)}"
        folder.mkdir()
        return folder

    @cached_property
    def empty(self) -> Timed:
        """The empty endpoint, as fast as it goes."""
        with empty_endpoint(self._folder) as peer, driving():
            return self._driven(peer, self.world.singles(self._enough(15_000), "no-key"))

    @cached_property
    def single(self) -> Timed:
        """The service, one transaction a request, as fast as it goes."""
        service = self.service()
        requests = self.world.singles(self._enough(10_000), service.key)
        with service.running() as server, driving():
            return self._driven(server, requests)

    def _driven(self, server: ServerProcess, requests: list[bytes]) -> Timed:
        closed(server.port, requests[:WARM_UP], CONNECTIONS, self.seconds)
        before = server.cpu_seconds()
        load = closed(server.port, requests[WARM_UP:], CONNECTIONS, self.seconds)
        return Timed(load, server.cpu_seconds() - before)

    def _enough(self, rate: int) -> int:
        return WARM_UP + int(rate * self.seconds)


def single(bench: Bench) -> list[Measurement]:
    """One transaction a request against an endpoint that does nothing."""
    empty, ours = bench.empty, bench.single
    failed = ours.load.statuses.total() - ours.load.statuses[200]
    ratio, of_cpu = ours.load.rate / empty.load.rate, empty.microseconds() / ours.microseconds()
    shown = (
        f"p50 {ours.load.percentile(0.5):.1f} ms, p99 {ours.load.percentile(0.99):.1f} ms, {CONNECTIONS} at once"
    )
    return [
        Measurement("empty FastAPI and pydantic endpoint", empty.load.rate, "req/s"),
        Measurement("/v1/score, all of the path, durable", ours.load.rate, "req/s", detail=shown),
        Measurement("of the empty endpoint's rate", ratio, "x", 0.6, detail="aim 1.0"),
        Measurement("of it by processor time", of_cpu, "x", detail="does not depend on what else runs here"),
        Measurement("processor time, empty endpoint", empty.microseconds(), "us", better="lower"),
        Measurement("processor time, /v1/score", ours.microseconds(), "us", better="lower"),
        Measurement("requests not answered 200", failed, "", 0, "lower"),
    ]


def batch(bench: Bench) -> list[Measurement]:
    """256 transactions a request."""
    service = bench.service()
    requests = bench.world.batches(int(20_000 * bench.seconds / BATCH), BATCH, service.key)
    with service.running() as server, driving():
        closed(server.port, requests[:8], BATCH_CONNECTIONS, bench.seconds)
        before = server.cpu_seconds()
        load = closed(server.port, requests[8:], BATCH_CONNECTIONS, bench.seconds)
        timed = Timed(load, server.cpu_seconds() - before)
    return [
        Measurement(
            f"/v1/score/batch, {BATCH} a request", load.rate * BATCH, "decisions/s", 8_000, detail="aim 15,000"
        ),
        Measurement("processor time", timed.microseconds(BATCH), "us/decision", better="lower"),
    ]


def latency(bench: Bench) -> list[Measurement]:
    """Fixed arrival times at 70 % of the closed loop's rate."""
    rate = 0.7 * bench.single.load.rate
    load = _open(bench, rate)
    detail = f"open loop, {rate:,.0f} req/s, {load.statuses.total():,} requests, from the time due"
    return [
        Measurement("p50 at 70 %", load.percentile(0.5), "ms", 3.0, "lower", detail),
        Measurement("p99 at 70 %", load.percentile(0.99), "ms", 10.0, "lower"),
        Measurement("p99.9 at 70 %", load.percentile(0.999), "ms", better="lower"),
    ]


def bypass(bench: Bench) -> list[Measurement]:
    """The same traffic with and without a share that goes to the teacher."""
    rate = 0.5 * bench.single.load.rate
    plain = _open(bench, rate, keep=True)
    routed = _open(bench, rate, ROUTED, keep=True)
    by_route: dict[str, list[float]] = {}
    for seconds, (_, status, body) in zip(routed.latencies, routed.answers, strict=True):
        if status == 200:
            by_route.setdefault(json.loads(body)["route"], []).append(seconds * 1e3)
    student = by_route.get("student", [])
    asked = by_route.get("teacher", []) + by_route.get("student_degraded", [])
    before, after = plain.percentile(0.99), float(np.percentile(student, 99))
    share = len(asked) / max(1, len(asked) + len(student))
    in_time = len(by_route.get("teacher", [])) / max(1, len(asked))
    return [
        Measurement("student's p99 without bypass", before, "ms", better="lower", detail=f"{rate:,.0f} req/s"),
        Measurement("student's p99 with bypass", after, "ms", better="lower", detail=f"{share:.1%} to the teacher"),
        Measurement("it moves by", 100 * (after / before - 1), "%", 20, "lower"),
        Measurement("teacher within its deadline", 100 * in_time, "%", detail=f"{DEADLINE_MS:.0f} ms"),
    ]


def start(bench: Bench) -> list[Measurement]:
    """From the start of the process to `/readyz`."""
    service, seconds, used = bench.service(), [], []
    for _ in range(3):
        with service.running() as server:
            seconds.append(server.seconds_to_ready)
            used.append(server.cpu_seconds())
    return [
        Measurement(
            "start to ready, median of 3", median(seconds), "s", 3.0, "lower", f"{max(seconds):.2f} s at most"
        ),
        Measurement("processor time until ready", median(used), "s", better="lower"),
    ]


def memory(bench: Bench) -> list[Measurement]:
    """Resident memory and p99 over a soak at half of the full rate."""
    rate, minutes = 0.5 * bench.single.load.rate, 1 if bench.quick else 10
    service, tenths, resident = bench.service(), [], []
    requests = bench.world.singles(int(rate * 60 * minutes), service.key)
    with service.running() as server, driving():
        size = len(requests) // 10
        for part in range(10):
            tenths.append(opened(server.port, requests[part * size : (part + 1) * size], CONNECTIONS, rate))
            resident.append(server.resident_bytes())
    grown = 100 * (resident[-1] / resident[1] - 1)  # the first tenths fill what is bounded
    detail = f"{resident[1] / _MB:,.0f} to {resident[-1] / _MB:,.0f} MiB, {minutes} minutes at {rate:,.0f} req/s"
    early, late = (median(load.percentile(0.99) for load in part) for part in (tenths[1:5], tenths[6:]))
    return [
        Measurement("memory, last tenth beside second", grown, "%", 5, "lower", detail),
        Measurement("p99, later half beside earlier", late / early, "x", better="lower", detail=f"{early:.1f} ms"),
    ]


def same(bench: Bench) -> list[Measurement]:
    """The same traffic one by one, and in batches of many sizes: scores by transaction."""
    bodies = bench.world.bodies(500 if bench.quick else 4_000)
    scores = []
    for sizes in ([1], [256], [2, 3, 31, 32, 33, 100]):
        service, found, at, turn = bench.service(), {}, 0, 0
        with service.running() as server, Client(server.url, api_key=service.key, timeout=60) as client:
            while at < len(bodies):
                part = bodies[at : at + sizes[turn % len(sizes)]]
                answers = [client.score(part[0])] if len(part) == 1 else client.score_batch(part)
                found |= {answer.tx_id: answer.score for answer in answers if isinstance(answer, Answer)}
                at, turn = at + len(part), turn + 1
        scores.append(np.array([found[body["tx_id"]] for body in bodies]))
    widest = float(np.ptp(np.stack(scores), axis=0).max())
    detail = f"{len(bodies):,} transactions: alone, 256 together, and 2 to 100 together"
    return [Measurement("widest difference of a score", widest, "", 1e-6, "lower", detail)]


def _open(bench: Bench, rate: float, routed: float = 0.0, *, keep: bool = False) -> Load:
    service = bench.service(routed, RISKDISTILL_TEACHER_DEADLINE_MS=str(DEADLINE_MS))
    requests = bench.world.singles(WARM_UP + int(rate * bench.seconds), service.key)
    with service.running() as server, driving():
        closed(server.port, requests[:WARM_UP], CONNECTIONS, bench.seconds)
        time.sleep(0.2)
        return opened(server.port, requests[WARM_UP:], CONNECTIONS, rate, keep=keep)
