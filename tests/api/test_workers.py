"""Several workers on one state in Redis and one decision log: one decision a transaction, as in a serial replay."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pyarrow as pa
import pytest
import redis
from databases import ENGINES, new_url
from service_process import Running, serving, until

from api import workers
from api.workers import CANNOT_START, HELD_UP, _Crew
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import transactions_from
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.timeout(600)  # processes start slowly on a machine that is not ours alone
REDIS = "redis://127.0.0.1:6379/15"
PAYMENTS = 120


@pytest.fixture(autouse=True)
def _fake_bundles() -> None:
    """Nothing is faked here."""


@pytest.fixture
def prefix() -> Iterator[str]:
    server = redis.Redis.from_url(REDIS, socket_connect_timeout=1)
    try:
        server.ping()
    except redis.ConnectionError as error:
        pytest.skip(f"no Redis answers at {REDIS}: {error}")
    name = f"test-{uuid.uuid4().hex}"
    yield name
    if keys := list(server.scan_iter(f"{name}:*", count=1_000)):
        server.delete(*keys)
    server.close()


@pytest.fixture
def bodies(tiny_tables: tuple[pa.Table, pa.Table]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in transactions_from(tiny_tables[0].slice(0, PAYMENTS))]


def decide(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """Sends a transaction as a client should: again, where it is told to."""
    for _ in range(100):
        answer = client.post("/v1/score", json=body)
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            return dict(answer.json())
        assert answer.headers["retry-after"]
        time.sleep(0.05)
    raise AssertionError(f"it was refused for too long: {answer.text}")


def hammer(services: Sequence[Running], bodies: list[dict[str, Any]], clients: int) -> dict[str, set[str]]:
    """Lets some clients of each service send all of `bodies`, each in its own order; decisions by transaction."""

    def send(number: int) -> list[dict[str, Any]]:
        mine = list(bodies)
        for start in range(0, len(mine), 10):  # near each other, so that they meet
            part = mine[start : start + 10]
            random.Random(number + start).shuffle(part)
            mine[start : start + 10] = part
        with services[number % len(services)].client() as client:
            return [decide(client, body) for body in mine]

    found = defaultdict(set)
    with ThreadPoolExecutor(clients * len(services)) as pool:
        for answers in pool.map(send, range(clients * len(services))):
            for answer in answers:
                found[answer["tx_id"]].add(answer["decision_id"])
    return found


def check_equals_a_serial_replay(log: DecisionLog, bundle: Bundle, prefix: str) -> None:
    """The student's scores, and the records in Redis, are those of one engine that observes in the stored order."""
    engine = bundle.engine()
    for place, decision in enumerate(log.in_state_order(), start=1):
        assert decision.observed == place
        score = bundle.student.score(engine.observe(decision.transaction)).score[0]
        assert decision.student_score == pytest.approx(score, abs=1e-6)
    server = redis.Redis.from_url(REDIS)
    names = list(server.scan_iter(f"{prefix}:account:*", count=1_000))
    stored = {int(name.rpartition(b":")[2], 16): bytes(server.get(name))[8:] for name in names}
    server.close()
    assert stored == {int(record["key"]): record.tobytes() for record in engine.records}


@pytest.mark.parametrize("database", ENGINES)
def test_two_services_that_get_the_same_transactions_make_one_decision_on_each(
    database: str, tmp_path: Path, tiny_bundle: Bundle, prefix: str, bodies: list[dict[str, Any]]
) -> None:
    urls = new_url(database, tmp_path)
    url = next(urls)()
    DecisionLog(url).close()
    shared = {"state": REDIS, "state_prefix": prefix, "state_deadline_ms": 20_000, "database": url}
    with (
        serving(tmp_path / "one", tiny_bundle.path, **shared) as one,
        serving(tmp_path / "two", tiny_bundle.path, **shared) as two,
    ):
        found = hammer([one, two], bodies, clients=2)
    assert {tx_id: len(ids) for tx_id, ids in found.items()} == {body["tx_id"]: 1 for body in bodies}
    log = DecisionLog(url, create=False)
    assert log.verify().entries == PAYMENTS
    check_equals_a_serial_replay(log, tiny_bundle, prefix)
    log.close()
    next(urls, None)


def test_workers_behind_one_socket_add_up_their_metrics_and_survive_the_death_of_one(
    tmp_path: Path, tiny_bundle: Bundle, prefix: str, bodies: list[dict[str, Any]]
) -> None:
    settings = {"state": REDIS, "state_prefix": prefix, "state_deadline_ms": 20_000}
    with serving(tmp_path, tiny_bundle.path, "--workers", "2", "--log-format", "json", **settings) as service:
        until(lambda: service.metric("riskdistill_ready_workers") == 2)
        assert service.metric("riskdistill_workers") == 2
        half = len(bodies) // 2
        hammer([service], bodies[:half], clients=3)
        until(lambda: service.metric("riskdistill_decisions_total") == half)
        assert service.metric("riskdistill_stage_seconds_count") >= half
        os.kill(workers_of(service)[0], signal.SIGKILL)
        hammer_through_the_death(service, bodies[half:])
        until(lambda: service.metric("riskdistill_ready_workers") == 2)
        until(
            lambda: service.metric("riskdistill_decisions_total") == len(bodies)
        )  # none of the dead one's is lost
        assert "worker_died" in service.log.read_text()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
    log = DecisionLog(f"sqlite:///{tmp_path}/state/decisions.db", create=False)
    assert log.verify().entries == PAYMENTS
    check_equals_a_serial_replay(log, tiny_bundle, prefix)
    log.close()


def workers_of(service: Running) -> list[int]:
    """Process ids of the workers."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def hammer_through_the_death(service: Running, bodies: list[dict[str, Any]]) -> None:
    """Sends each transaction until it is decided, over a new connection where one broke."""
    for body in bodies:
        for _ in range(50):
            try:
                with service.client() as client:
                    decide(client, body)
                break
            except httpx.TransportError:
                continue


def test_a_worker_that_cannot_start_ends_all_of_them_and_says_why(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "no-bundle").mkdir()
    workers = ("--workers", "2")
    with (
        pytest.raises(AssertionError, match=r"cannot start"),
        serving(tmp_path, tmp_path / "no-bundle", *workers, state=REDIS, state_prefix=prefix),
    ):
        pass


@pytest.mark.parametrize(("code", "error"), [(HELD_UP, UnavailableError), (CANNOT_START, ConfigError)])
def test_the_supervisor_ends_as_the_worst_of_its_workers(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """It is told to stop while the one worker runs, which then ends with that code."""
    told, untold = os.pipe()
    os.close(untold)
    crew = _Crew(SimpleNamespace(workers=1), socket.socket())  # type: ignore[arg-type]

    def start(*_: object) -> SimpleNamespace:
        crew.stop(signal.SIGINT, None)
        return SimpleNamespace(pid=1, sentinel=told, exitcode=code)

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers, "mark_process_dead", lambda _pid: None)
    with crew._listener, pytest.raises(error):
        crew.run()
    os.close(told)
