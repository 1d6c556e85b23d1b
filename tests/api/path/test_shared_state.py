"""A service on shared state when Redis goes, comes back empty, or another worker left something undone."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import redis
from fake_serving import ready, running, settings_for
from ports import free_port
from service_process import until

from api.app import create_app
from api.path import shared_state
from api.service import Service
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.errors import ConfigError
from riskdistill.features.encoded import Encoded
from riskdistill.features.redis_once import OnceEngine
from riskdistill.models.onnx_model import Scored

pytestmark = pytest.mark.anyio
DEADLINE_MS = 4_000.0


@pytest.fixture(autouse=True)
def _fake_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is faked here; what takes seconds takes less."""
    monkeypatch.setattr(shared_state, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(shared_state, "_LOOK_SECONDS", 0.05)


class OwnRedis:
    """A Redis of this test, that keeps nothing when it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self._port), "--save", "", "--dir", str(self._folder), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        until(self._answers, 20)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server is installed")
    server = OwnRedis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def payments(tiny_tables: tuple[pa.Table, pa.Table]) -> list[Transaction]:
    return list(transactions_from(tiny_tables[0].slice(0, 60)))


@pytest.fixture
def serve(tmp_path: Path, tiny_bundle: Bundle, own_redis: OwnRedis) -> Callable[..., Any]:
    """Runs services that share state and log."""

    @asynccontextmanager
    async def served(wait: bool = True, **changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
        fields = {"bundle": tiny_bundle.path, "state": own_redis.url, "state_deadline_ms": DEADLINE_MS}
        app = create_app(settings_for(tmp_path / "state", **(fields | changes)))
        async with running(app, wait=wait) as client:
            yield client, app.state.service

    return served


async def send(client: httpx.AsyncClient, payments: list[Transaction]) -> list[dict[str, Any]]:
    answers = [await client.post("/v1/score", json=one.model_dump(mode="json")) for one in payments]
    assert {answer.status_code for answer in answers} == {200}, answers[-1].text
    return [answer.json() for answer in answers]


def replayed(bundle: Bundle, service: Service, count: int) -> None:
    """What is stored equals a serial replay in the stored order."""
    engine = bundle.engine()
    stored = list(service.parts.log.in_state_order())
    assert len(stored) == count
    assert len({decision.observed for decision in stored}) == count
    for decision in stored:
        score = bundle.student.score(engine.observe(decision.transaction)).score[0]
        assert decision.student_score == pytest.approx(score, abs=1e-6)


async def test_without_redis_requests_are_refused_in_time_and_answered_again_when_it_is_back_and_empty(
    serve: Callable[..., Any], own_redis: OwnRedis, payments: list[Transaction], tiny_bundle: Bundle
) -> None:
    own_redis.start()
    async with serve() as (client, service):
        await send(client, payments[:20])
        own_redis.stop()
        began = monotonic()
        refused = await asyncio.gather(
            *(client.post("/v1/score", json=one.model_dump(mode="json")) for one in payments[20:30])
        )
        assert monotonic() - began < DEADLINE_MS / 1e3  # a port that nobody listens on is told at once
        for answer in refused:
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert answer.headers["content-type"] == "application/problem+json"
            assert "account state" in answer.json()["detail"]
        assert "account state" in (await ready(client, status=503))["detail"]
        assert (await client.get("/livez")).status_code == 200
        own_redis.start()
        await ready(client)
        await send(client, payments[20:])
        replayed(tiny_bundle, service, len(payments))
        assert b"riskdistill_state_failures_total" in (await client.get("/metrics")).content


async def test_a_service_that_starts_before_redis_waits_for_it(
    serve: Callable[..., Any], own_redis: OwnRedis, payments: list[Transaction]
) -> None:
    async with serve(wait=False) as (client, _):
        await ready(client, status=503)
        own_redis.start()
        await ready(client)
        await send(client, payments[:3])


async def test_a_state_that_lacks_what_the_log_has_is_built_at_start(
    serve: Callable[..., Any], own_redis: OwnRedis, payments: list[Transaction], tiny_bundle: Bundle
) -> None:
    own_redis.start()
    async with serve() as (client, _):
        await send(client, payments[:30])
    own_redis.stop()
    own_redis.start()
    async with serve() as (client, service):
        await send(client, payments[30:])
        replayed(tiny_bundle, service, len(payments))


async def test_what_a_dead_worker_observed_is_decided_by_another(
    serve: Callable[..., Any],
    own_redis: OwnRedis,
    payments: list[Transaction],
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_state, "ORPHAN_SECONDS", -1.0)
    own_redis.start()
    async with serve() as (client, service):
        await send(client, payments[:10])
        dead = OnceEngine(own_redis.url, tiny_bundle.spec)
        hidden = [service.parts.scorer._pseudonyms.transaction(one) for one in payments[10:12]]
        dead.observe_once(hidden, lambda *_: None)
        dead.close()
        (asked,) = await send(client, payments[10:11])  # its client sends it again
        async with asyncio.timeout(20):
            while service.parts.log.by_tx(payments[11].tx_id) is None:  # of this one nobody asks
                await asyncio.sleep(0.01)
        assert service.parts.log.by_tx(payments[10].tx_id).decision_id == asked["decision_id"]
        await send(client, payments[12:])
        replayed(tiny_bundle, service, len(payments))


async def test_another_body_under_the_same_id_is_a_conflict_on_any_worker(
    serve: Callable[..., Any], own_redis: OwnRedis, payments: list[Transaction]
) -> None:
    own_redis.start()
    other = payments[0].model_copy(update={"amount_paid": 1.0}).model_dump(mode="json")
    async with serve() as (one, _), serve() as (two, _):
        answers = await asyncio.gather(
            one.post("/v1/score", json=payments[0].model_dump(mode="json")), two.post("/v1/score", json=other)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 422]


async def test_a_score_is_of_the_features_that_were_seen_first_though_another_worker_was_faster(
    serve: Callable[..., Any],
    own_redis: OwnRedis,
    payments: list[Transaction],
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own_redis.start()
    async with serve() as (client, service):
        await send(client, payments[:20])
        faster = OnceEngine(own_redis.url, tiny_bundle.spec)
        hidden = list(map(service.parts.scorer._pseudonyms.transaction, payments))
        apply = OnceEngine._apply

        def overtaken(*arguments: Any) -> Any:
            """Before this worker writes, another one writes the same, and more."""
            monkeypatch.setattr(OnceEngine, "_apply", apply)
            arguments[3](hidden[20:21], tiny_bundle.engine().observe(hidden[20]))  # it scores what is soon outdated
            faster.observe_once([*hidden[21:40], hidden[20]], lambda *_: None)
            return None

        monkeypatch.setattr(OnceEngine, "_apply", overtaken)
        await send(client, payments[20:])
        faster.close()
        replayed(tiny_bundle, service, len(payments))


async def test_what_got_no_probability_left_no_trace_in_the_shared_state(
    serve: Callable[..., Any],
    own_redis: OwnRedis,
    payments: list[Transaction],
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_number(_student: Any, rows: Encoded) -> Scored:
        nothing = np.full(len(rows), np.nan)
        return Scored(nothing, nothing, np.zeros((len(rows), len(tiny_bundle.typologies)), np.float32))

    own_redis.start()
    async with serve() as (client, service):
        with monkeypatch.context() as broken:
            broken.setattr(type(tiny_bundle.student), "score", no_number)
            answer = await client.post("/v1/score", json=payments[0].model_dump(mode="json"))
            assert (answer.status_code, "no probability" in answer.json()["detail"]) == (503, True)
        await send(client, payments[1:3])
        assert [decision.observed for decision in service.parts.log.in_state_order()] == [1, 2]
        replayed(tiny_bundle, service, 2)


async def test_a_worker_with_another_pseudonym_key_does_not_start(
    serve: Callable[..., Any], own_redis: OwnRedis
) -> None:
    own_redis.start()
    async with serve(), serve(wait=False, pseudonym_key="another-key-0123456789") as (_, second):
        while second.failure is None:
            await asyncio.sleep(0)
        assert isinstance(second.failure, ConfigError)
        assert "another pseudonym key" in str(second.failure)
