"""Throughput, latency, start and memory of the service, beside an empty endpoint where that tells something."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np
from feature_data import Measurement
from http_load import Load, closed, opened
from serving_process import ServerProcess, Service, driving, empty_endpoint
from serving_world import ROUTED, World

CONNECTIONS: Final = 64
BATCH: Final = 256
BATCH_CONNECTIONS: Final = 4
WARM_UP: Final = 2_000  # requests
LATENCY_LOAD: Final = 0.7  # of the full rate
DEADLINE_MS: Final = 100.0  # of the teacher
REASONS_MS: Final = 100.0  # for the reasons, which follow
IN_TIME: Final = 99.0  # percent of the teacher's answers that come within its deadline, at least
STARTS: Final = 5
SOAK_PARTS: Final = 12
COMMIT_BYTES: Final = 64 * 1024  # SQLite's log grows by as much for a group of nine
COMMIT_EVERY: Final = 0.004  # seconds
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
    rate = LATENCY_LOAD * bench.single.load.rate
    load = _open(bench, rate)
    disk = _synced(bench.new_folder() / "log", bench.seconds)
    detail = f"open loop, {rate:,.0f} req/s, {load.statuses.total():,} requests, from the time due"
    alone = f"{COMMIT_BYTES // 1024} KiB written and synced every {COMMIT_EVERY * 1e3:.0f} ms, nothing else"
    return [
        Measurement("p50 at 70 %", load.percentile(0.5), "ms", 3.0, "lower", detail),
        Measurement("p99 at 70 %", load.percentile(0.99), "ms", 10.0, "lower"),
        Measurement("p99.9 at 70 %", load.percentile(0.999), "ms", better="lower"),
        Measurement("the disk alone, p99", float(np.percentile(disk, 99)), "ms", better="lower", detail=alone),
        Measurement("the disk alone, slowest", max(disk), "ms", better="lower"),
    ]


def _synced(path: Path, seconds: float) -> list[float]:
    """Milliseconds of each of the writes that a log of a fixed size gets when nothing else uses the disk."""
    took, content, until = [], bytes(COMMIT_BYTES), time.perf_counter() + seconds
    with path.open("wb", buffering=0) as log:
        log.write(content)
        os.fsync(log.fileno())
        while (began := time.perf_counter()) < until:
            log.seek(0)
            log.write(content)
            os.fdatasync(log.fileno())
            took.append((time.perf_counter() - began) * 1e3)
            time.sleep(COMMIT_EVERY)
    return took


def bypass(bench: Bench) -> list[Measurement]:
    """The same traffic with and without a share that goes to the teacher: what those feel that have nothing to do
    with it, which are low without it and the student's with it."""
    rate = 0.5 * bench.single.load.rate
    plain, routed = _decided(_open(bench, rate, keep=True)), _decided(_open(bench, rate, ROUTED, keep=True))
    others = [
        number
        for number in plain.keys() & routed.keys()
        if plain[number].said["band"] == "low" and routed[number].said["route"] == "student"
    ]
    before, after = (_p99([run[number] for number in others]) for run in (plain, routed))
    asked = [one for one in routed.values() if one.said["route"] != "student"]
    in_time = sum(one.said["route"] == "teacher" for one in asked) / max(1, len(asked))
    same = f"the same {len(others):,} transactions of the low band, {rate:,.0f} req/s"
    share = f"{len(asked) / max(1, len(routed)):.1%} of the traffic goes to the teacher"
    return [
        Measurement("p99 without bypass", before, "ms", better="lower", detail=same),
        Measurement("p99 with bypass", after, "ms", better="lower", detail=share),
        Measurement("it moves by", 100 * (after / before - 1), "%", 20, "lower"),
        Measurement("teacher within its deadline", 100 * in_time, "%", IN_TIME, detail=f"{DEADLINE_MS:.0f} ms"),
        Measurement("p99 of those that it is asked about", _p99(asked), "ms", DEADLINE_MS + REASONS_MS, "lower"),
    ]


def start(bench: Bench) -> list[Measurement]:
    """From the start of the process to `/readyz`."""
    service, seconds, used = bench.service(), [], []
    for _ in range(STARTS):
        with service.running() as server:
            seconds.append(server.seconds_to_ready)
            used.append(server.cpu_seconds())
    name, middle = f"start to ready, slowest of {STARTS}", f"median {median(seconds):.2f} s"
    return [
        Measurement(name, max(seconds), "s", 3.0, "lower", middle),
        Measurement("processor time until ready, median", median(used), "s", better="lower"),
    ]


def memory(bench: Bench, minutes: float) -> list[Measurement]:
    """Resident memory and p99 over a soak at half of the full rate."""
    rate, parts, resident = 0.5 * bench.single.load.rate, [], []
    service = bench.service()
    requests = bench.world.singles(int(rate * 60 * minutes), service.key)
    with service.running() as server, driving():
        size = len(requests) // SOAK_PARTS
        for part in range(SOAK_PARTS):
            parts.append(opened(server.port, requests[part * size : (part + 1) * size], CONNECTIONS, rate))
            resident.append(server.resident_bytes())
    third = SOAK_PARTS // 3
    early, late = Load.of(parts[:third]).percentile(0.99), Load.of(parts[-third:]).percentile(0.99)
    filled = resident[1]  # what is bounded is full by then
    over = f"over {minutes:g} minutes"
    held = f"{filled / _MB:,.0f} to {resident[-1] / _MB:,.0f} MiB, {rate:,.0f} req/s"
    refused = sum(load.statuses.total() - load.statuses[200] for load in parts)
    return [
        Measurement(f"memory {over}: it grows by", 100 * (resident[-1] / filled - 1), "%", 5, "lower", held),
        Measurement(
            f"p99 {over}: last third beside first", late / early, "x", 1.2, "lower", f"{early:.1f}, {late:.1f} ms"
        ),
        Measurement(f"requests {over} not answered 200", refused, "", 0, "lower", f"of {size * SOAK_PARTS:,}"),
    ]


class _Decided(NamedTuple):
    seconds: float
    said: dict[str, Any]


def _decided(load: Load) -> dict[int, _Decided]:
    """What was answered 200, by the number of its request."""
    return {
        number: _Decided(seconds, json.loads(body))
        for seconds, (number, status, body) in zip(load.latencies, load.answers, strict=True)
        if status == 200
    }


def _p99(answers: Sequence[_Decided]) -> float:
    return float(np.percentile([one.seconds for one in answers], 99) * 1e3)


def _open(bench: Bench, rate: float, routed: float = 0.0, *, keep: bool = False) -> Load:
    service = bench.service(routed, RISKDISTILL_TEACHER_DEADLINE_MS=str(DEADLINE_MS))
    requests = bench.world.singles(WARM_UP + int(rate * bench.seconds), service.key)
    with service.running() as server, driving():
        closed(server.port, requests[:WARM_UP], CONNECTIONS, bench.seconds)
        time.sleep(0.2)
        return opened(server.port, requests[WARM_UP:], CONNECTIONS, rate, keep=keep)
