"""A lean HTTP/1.1 load generator: keep-alive connections, requests built beforehand, answers hardly looked at.

Closed loop: each connection sends its next request when it has its answer; gives the throughput. Open loop:
requests fall due at fixed times, whether or not the server keeps up, and latency counts from that time, so that a
stall is felt by all whom it would have kept waiting (no coordinated omission).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Final, cast

import numpy as np
import uvloop

TIMEOUT: Final = 60.0  # seconds that a run may go on after it should have ended


@dataclass
class Load:
    """What came of a run.

    Attributes:
        seconds: how long it took.
        statuses: answers by HTTP status; 0 where the connection broke.
        latencies: seconds, of each answer, in the order in which they came.
        answers: number of the request, status and body of each answer, where they were wanted.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    answers: list[tuple[int, int, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, parts: Sequence[Load]) -> Load:
        """Runs that followed one another, as one; without answers, whose numbers are each run's own."""
        return cls(
            sum(part.seconds for part in parts),
            sum((part.statuses for part in parts), Counter[int]()),
            [seconds for part in parts for seconds in part.latencies],
        )

    @property
    def rate(self) -> float:
        """Successful answers a second."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds within which that share of the answers came."""
        return float(np.percentile(np.array(self.latencies), 100 * share) * 1e3)


def post(path: str, body: bytes, key: str) -> bytes:
    """One request, as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: service\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def closed(port: int, requests: Sequence[bytes], connections: int, seconds: float, *, keep: bool = False) -> Load:
    """Send as many of `requests` as are answered within `seconds`."""
    return uvloop.run(_closed(port, requests, connections, seconds, keep))


def opened(port: int, requests: Sequence[bytes], connections: int, rate: float, *, keep: bool = False) -> Load:
    """Send all `requests`, `rate` a second; those due while all `connections` wait queue up here, and it counts."""
    return uvloop.run(_opened(port, requests, connections, rate, keep))


class _Driver:
    """Hands requests to connections as they become free."""

    def __init__(self, requests: Sequence[bytes], keep: bool) -> None:
        self.load, self._keep = Load(), keep
        self._requests = requests
        self._idle: deque[_Connection] = deque()
        self._due: deque[tuple[int, float]] = deque()  # request, seconds on the clock
        self._next: Iterator[int] = iter(range(len(requests)))
        self.is_closed_loop = False
        self.until = float("inf")
        self.under_way = 0
        self.over = asyncio.Event()

    def enlist(self, number: int, due: float) -> None:
        """`number` is to be sent now, or as soon as a connection is free."""
        if self._idle:
            self._idle.pop().send(self._requests[number], number, due)
            self.under_way += 1
        else:
            self._due.append((number, due))

    def free(self, connection: _Connection) -> None:
        """`connection` has nothing to do."""
        if self.is_closed_loop:
            now = perf_counter()
            number = next(self._next, None) if now < self.until else None
            if number is not None:
                connection.send(self._requests[number], number, now)
                self.under_way += 1
                return
        elif self._due:
            number, due = self._due.popleft()
            connection.send(self._requests[number], number, due)
            self.under_way += 1
            return
        self._idle.append(connection)
        if not self.under_way:
            self.over.set()

    def closed(self, connection: _Connection) -> None:
        """The server has closed a connection that had nothing to do."""
        if connection in self._idle:
            self._idle.remove(connection)

    def answered(self, connection: _Connection, number: int, due: float, status: int, body: bytes) -> None:
        """The answer to request `number` is here."""
        self.under_way -= 1
        load = self.load
        load.statuses[status] += 1
        load.latencies.append(perf_counter() - due)
        if self._keep:
            load.answers.append((number, status, body))
        self.free(connection)

    def broken(self, number: int) -> None:
        """The connection that waited for the answer to `number` is gone."""
        self.under_way -= 1
        self.load.statuses[0] += 1
        if self._keep:
            self.load.answers.append((number, 0, b""))
        if not self.under_way:
            self.over.set()


class _Connection(asyncio.Protocol):
    def __init__(self, driver: _Driver) -> None:
        self._driver, self._received = driver, b""
        self._number, self._due, self._waits = 0, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, number: int, due: float) -> None:
        self._number, self._due, self._waits = number, due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._received.find(b"content-length: ", 0, head) + 16
        end = self._received.find(b"\r", at, head + 2)
        whole = head + 4 + int(self._received[at:end])
        if len(self._received) < whole:
            return
        status, body = int(self._received[9:12]), self._received[head + 4 : whole]
        self._received, self._waits = b"", False
        self._driver.answered(self, self._number, self._due, status, body)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waits:
            self._waits = False
            self._driver.broken(self._number)
        else:
            self._driver.closed(self)


async def _connect(port: int, driver: _Driver, connections: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(driver), "127.0.0.1", port) for _ in range(connections)
    ]
    return [protocol for _, protocol in made]


async def _closed(port: int, requests: Sequence[bytes], connections: int, seconds: float, keep: bool) -> Load:
    driver = _Driver(requests, keep)
    driver.is_closed_loop = True
    linked = await _connect(port, driver, connections)
    started = perf_counter()
    driver.until = started + seconds
    for connection in linked:
        driver.free(connection)
    await asyncio.wait_for(driver.over.wait(), seconds + TIMEOUT)
    driver.load.seconds = perf_counter() - started
    return driver.load


async def _opened(port: int, requests: Sequence[bytes], connections: int, rate: float, keep: bool) -> Load:
    driver = _Driver(requests, keep)
    for connection in await _connect(port, driver, connections):
        driver.free(connection)
    driver.over.clear()
    started, numbers = perf_counter(), iter(range(len(requests)))
    sent = 0
    while sent < len(requests):
        due_by_now = min(len(requests), int((perf_counter() - started) * rate) + 1)
        for number in islice(numbers, due_by_now - sent):
            driver.enlist(number, started + number / rate)
        sent = due_by_now
        await asyncio.sleep(max(0.0, started + sent / rate - perf_counter()))
    while driver.under_way:
        driver.over.clear()
        await asyncio.wait_for(driver.over.wait(), TIMEOUT)
    driver.load.seconds = perf_counter() - started
    return driver.load
