"""The real service while what it rests on fails: a few clients go on sending, the fault comes, stays and ends.

Held to what docs/operation.md promises: each answer is a decision, or a problem document that says when to send it
again; none comes later than stated; once the fault is over all is as before, without a restart. In the end every
transaction is sent again, and the decision log is laid beside what was acknowledged.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import httpx
from feature_data import ROOT, Measurement
from serving_breakable import AbsentError, Line, PostgresServer, RedisServer, Teacher, small_disk
from serving_clock import Clock
from serving_process import PROGRAM, ServerProcess, Service, driving
from serving_speed import Bench

from riskdistill.storage.decisions import DecisionLog

CLIENTS: Final = 4
PAUSE: Final = 0.02  # seconds that a client waits between an answer and its next request
CALM: Final = 1.0  # seconds before the fault, and after its effects are over
LASTS: Final = 10.0  # seconds of a fault: longer than any deadline
QUICK_LASTS: Final = 6.0
PATIENCE: Final = 60.0  # seconds after which an answer, or the end of a fault's effects, is not waited for any more
SLACK: Final = 0.5  # seconds that service and clients, on cores that they share with others, may add to a deadline
TEACHER, STATE, ANSWER = 0.1, 0.5, 5.0  # the service's deadlines, seconds: its defaults
SHOWN: Final = 3  # of what is amiss
BREAKER: Final = 5.0  # seconds that the circuit breaker leaves a teacher alone


@dataclass(frozen=True)
class Fault:
    """What is done to the service, and what it promises.

    Attributes:
        strike, mend: begin and end it.
        deadline: seconds within which each request is answered all the same.
        recovers: seconds after its end within which all is as before.
        settings: variables of the service.
    """

    strike: Callable[[], object]
    mend: Callable[[], object]
    deadline: float
    recovers: float
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """A request and its answer; no answer where the connection broke or PATIENCE was over."""

    body: Mapping[str, Any]
    at: float
    seconds: float
    answer: httpx.Response | None

    @property
    def is_whole(self) -> bool:
        """Whether it was decided on with everything that the service has."""
        return self.status == 200 and self.decision["route"] != "student_degraded"

    @property
    def is_defined(self) -> bool:
        """Whether it is a decision, or says why there is none and when to send it again."""
        answer = self.answer
        return self.status == 200 or (
            answer is not None
            and answer.status_code == 503
            and answer.headers["content-type"] == "application/problem+json"
            and answer.headers.get("retry-after", "").isdigit()
        )

    @property
    def status(self) -> int:
        """HTTP's; 0 without an answer."""
        return 0 if self.answer is None else self.answer.status_code

    @property
    def decision(self) -> Any:
        """What is acknowledged."""
        assert self.answer is not None
        return self.answer.json()


class Clients:
    """Threads that each send one transaction after another, and do not repeat any."""

    def __init__(self, server: ServerProcess, service: Service, bodies: Sequence[Mapping[str, Any]]) -> None:
        self.sent: list[Sent] = []
        self._link = {"base_url": server.url, "headers": {"X-API-Key": service.key}, "timeout": PATIENCE}
        self._over = Event()
        self._threads = [Thread(target=self._send, args=(bodies[one::CLIENTS],)) for one in range(CLIENTS)]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """They send inside the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def again(self) -> list[Sent]:
        """Every transaction that was sent, sent until there is a decision, or PATIENCE is over."""
        until = time.perf_counter() + PATIENCE
        with httpx.Client(**self._link) as client:
            return [_until_decided(client, one.body, until) for one in self.sent]

    def _send(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        with httpx.Client(**self._link) as client:
            for body in bodies:
                self.sent.append(_sent(client, body))
                if self._over.wait(PAUSE):
                    return


def _sent(client: httpx.Client, body: Mapping[str, Any]) -> Sent:
    at = time.perf_counter()
    try:
        answer = client.post("/v1/score", json=body)
    except httpx.TransportError:
        return Sent(body, at, time.perf_counter() - at, None)
    return Sent(body, at, time.perf_counter() - at, answer)


def _until_decided(client: httpx.Client, body: Mapping[str, Any], until: float) -> Sent:
    while (sent := _sent(client, body)).status != 200 and time.perf_counter() < until:
        time.sleep(PAUSE)
    return sent


@contextmanager
def _teacher(folder: Path, strike: Callable[[Teacher], None]) -> Iterator[Fault]:
    teacher, told = Teacher(), folder / "bypass.yaml"
    told.write_text(
        "policies: {amount_usd: 0.001}\n"
        f"teacher: {{open_inference: {{url: '{teacher.url}'}}, calls_at_once: {CLIENTS}}}\n"
    )
    settings = {"RISKDISTILL_BYPASS": str(told)}
    try:
        yield Fault(lambda: strike(teacher), teacher.answer, TEACHER, BREAKER + SLACK, settings)
    finally:
        teacher.close()


@contextmanager
def _redis(
    folder: Path, strike: Callable[[RedisServer], None], mend: Callable[[RedisServer], None], recovers: float
) -> Iterator[Fault]:
    server = RedisServer(folder / "redis")
    try:
        settings = {"RISKDISTILL_STATE": server.url}
        yield Fault(lambda: strike(server), lambda: mend(server), STATE, recovers, settings)
    finally:
        server.go_on()
        server.close()


@contextmanager
def _postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def _postgres_killed(_folder: Path) -> Iterator[Fault]:
    with _postgres() as server:
        yield Fault(server.kill, server.start, ANSWER, 5.0, {"RISKDISTILL_DATABASE": server.url()})


@contextmanager
def _postgres_line(
    folder: Path, strike: Callable[[Line], None], mend: Callable[[Line], None], shared: bool = False
) -> Iterator[Fault]:
    with _postgres() as server:
        line = Line(server.port)
        settings = {"RISKDISTILL_DATABASE": server.url(line.port)}
        state = RedisServer(folder / "redis") if shared else None
        if state is not None:
            settings["RISKDISTILL_STATE"] = state.url
        try:
            yield Fault(lambda: strike(line), lambda: mend(line), ANSWER, 5.0, settings)
        finally:
            line.close()
            if state is not None:
                state.close()


@contextmanager
def _disk(folder: Path) -> Iterator[Fault]:
    with small_disk(folder / "disk", megabytes=24) as (fill, make_room):
        settings = {"RISKDISTILL_DATABASE": f"sqlite:///{folder}/disk/decisions.db"}
        yield Fault(fill, make_room, ANSWER, 5.0, settings)


@contextmanager
def _clock(folder: Path) -> Iterator[Fault]:
    clock = Clock(folder)
    yield Fault(lambda: clock.step(-3_600), lambda: clock.step(0), ANSWER, CALM, clock.environment)


FAULTS: Final[dict[str, Callable[[Path], AbstractContextManager[Fault]]]] = {
    "teacher hangs": lambda folder: _teacher(folder, Teacher.hang),
    "teacher answers 500": lambda folder: _teacher(folder, Teacher.err),
    "Redis killed, back with its data": lambda at: _redis(at, RedisServer.kill, RedisServer.start, 3.0),
    "Redis killed, back empty": lambda at: _redis(at, RedisServer.kill, RedisServer.start_empty, 10.0),
    "Redis hangs": lambda folder: _redis(folder, RedisServer.hang, RedisServer.go_on, 3.0),
    "PostgreSQL killed, started again": _postgres_killed,
    "line to PostgreSQL cut": lambda folder: _postgres_line(folder, Line.cut, Line.join),
    "line to PostgreSQL silent": lambda folder: _postgres_line(folder, Line.go_silent, Line.flow),
    "the same, state in Redis": lambda folder: _postgres_line(folder, Line.go_silent, Line.flow, shared=True),
    "disk of the log full": _disk,
    "clock an hour back": _clock,
}


def faults(bench: Bench) -> list[Measurement]:
    """All of them, one after another, each on a service of its own."""
    return [row for name, make in FAULTS.items() for row in _suffered(bench, name, make)]


def _suffered(bench: Bench, name: str, make: Callable[[Path], AbstractContextManager[Fault]]) -> list[Measurement]:
    lasts = QUICK_LASTS if bench.quick else LASTS
    try:
        with make(bench.new_folder()) as fault:
            service = bench.service(**fault.settings)
            bodies = bench.world.bodies(int(CLIENTS * (lasts + PATIENCE + 2 * CALM) / PAUSE))
            with service.running() as server, driving():
                clients = Clients(server, service, bodies)
                with clients.sending():
                    time.sleep(CALM)
                    struck = time.perf_counter()
                    fault.strike()
                    time.sleep(lasts)
                    fault.mend()
                    mended = time.perf_counter()
                    _wait_until_whole(clients, mended)
                again = clients.again()
            during = [one for one in clients.sent if one.at + one.seconds > struck]
            wrong = _wrong(clients.sent, again) + _unlike_log(service, clients.sent)
            return _rows(name, fault, during, mended, wrong)
    except AbsentError as error:
        return [Measurement(name, 0, "", detail=f"not tried: {error}")]


def _wait_until_whole(clients: Clients, mended: float) -> None:
    """Returns CALM seconds after the first request that was sent since and got a whole answer."""
    while time.perf_counter() < _recovered(list(clients.sent), mended):
        time.sleep(PAUSE)
    time.sleep(CALM)


def _recovered(sent: Sequence[Sent], mended: float) -> float:
    """When the first request since `mended` got a whole answer; PATIENCE after it if none did."""
    whole = (one.at + one.seconds for one in sent if one.at > mended and one.is_whole)
    return min(whole, default=mended + PATIENCE)


def _rows(
    name: str, fault: Fault, during: Sequence[Sent], mended: float, wrong: Sequence[str]
) -> list[Measurement]:
    statuses = Counter(_said(one) for one in during if one.at < mended)
    said = ", ".join(f"{count:,} x {what}" for what, count in sorted(statuses.items()))
    slowest = max(one.seconds for one in during)
    recovered = _recovered(during, mended)
    later = [one for one in during if one.at > recovered]
    degraded = f"then {sum(not one.is_whole for one in later)} of {len(later)} answers degraded"
    promised = f"deadline {fault.deadline:g} s"
    amiss = "; ".join([f"of {len(during):,} answers", *wrong[:SHOWN]])
    return [
        Measurement(
            f"{name}: slowest answer", slowest, "s", fault.deadline + SLACK, "lower", f"{promised}; {said}"
        ),
        Measurement(f"{name}: whole again after", recovered - mended, "s", fault.recovers, "lower", degraded),
        Measurement(f"{name}: undefined, lost, doubled", len(wrong), "", 0, "lower", amiss),
    ]


def _said(one: Sent) -> str:
    return f"{one.status} {one.decision['route']}" if one.status == 200 else f"{one.status}"


def _wrong(sent: Sequence[Sent], again: Sequence[Sent]) -> list[str]:
    """Answers that are none, transactions that stay undecided, and those with two decisions."""
    found = [f"{one.status} after {one.seconds:.1f} s" for one in sent if not one.is_defined]
    for first, second in zip(sent, again, strict=True):
        if second.status != 200:
            found.append(f"{second.body['tx_id']} stays undecided")
        elif first.status == 200 and first.decision["decision_id"] != second.decision["decision_id"]:
            found.append(f"{second.body['tx_id']} has two decisions")
    return found


def _unlike_log(service: Service, sent: Sequence[Sent]) -> list[str]:
    """Acknowledged decisions that the log lacks, and entries that are too many; `audit verify` must hold."""
    found = []
    command = [*PROGRAM, "audit", "verify", "--decisions", service.log_url]
    verified = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if verified.returncode:
        found.append(f"audit verify: {verified.stderr.strip()}")
    log = DecisionLog(service.log_url, create=False)
    stored = [entry.decision for entry in log.read()]
    log.close()
    ids = {decision.decision_id for decision in stored}
    found += [
        f"{one.body['tx_id']} is lost"
        for one in sent
        if one.status == 200 and one.decision["decision_id"] not in ids
    ]
    if len(stored) != len(sent):
        found.append(f"{len(stored)} entries for {len(sent)} transactions")
    return found
