"""Nothing is answered that is not stored, and a restart changes no score."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_serving import FakeModel, LateTeacher, body, ready, running, settings_for, write_bundle
from fastapi import FastAPI

from api.app import create_app
from api.bypass import TeacherBypass
from api.bypass.policies import Policies
from api.path.alert_reasons import AlertReasons
from api.path.group_commit import GroupCommit
from api.path.triage import Triager
from riskdistill.data.transaction import Transaction, to_table
from riskdistill.errors import BundleDamagedError, UnavailableError
from riskdistill.models.onnx_model import Scored
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.anyio


async def score(client: httpx.AsyncClient, *args: Any, **changes: Any) -> float:
    answer = await client.post("/v1/score", json=body(*args, **changes))
    assert answer.status_code == 200, answer.text
    return float(answer.json()["score"])


def traffic(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Transactions of a few accounts, so that scores depend on what came before."""
    rng = random.Random(seed)
    return [
        body(f"tx-{number}", rng.uniform(1, 990), sender_account=f"account-{rng.randrange(4)}")
        for number in range(count)
    ]


async def send(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[float]:
    answers = [await client.post("/v1/score", json=content) for content in bodies]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["score"] for answer in answers]


async def test_scores_after_a_restart_are_those_without_one(tmp_path: Path, bundle: Path) -> None:
    bodies = traffic(60)
    async with running(create_app(settings_for(tmp_path / "one", bundle=bundle))) as client:
        without = await send(client, bodies)
    with_restarts: list[float] = []
    for part in (bodies[:25], bodies[25:26], bodies[26:]):
        async with running(create_app(settings_for(tmp_path / "two", bundle=bundle))) as client:
            with_restarts += await send(client, part)
    assert with_restarts == without


async def test_state_order_survives_a_restart_where_the_log_order_differs(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "late", teacher="late")
    settings = settings_for(tmp_path / "state", bundle=bundle, teacher_deadline_ms=20_000)
    others = {"sender_account": "another", "receiver_account": "a third"}
    async with running(create_app(settings)) as client:
        log = DecisionLog(settings.database_url)
        both = {"transactions": [body("tx-slow", 950), body("tx-quick", 100, **others)]}
        answer = asyncio.create_task(client.post("/v1/score/batch", json=both))
        while log.by_tx("tx-quick") is None:
            await asyncio.sleep(0)
        LateTeacher.may_answer.set()
        slow, quick = (item["decision"] for item in (await answer).json()["results"])
        assert (slow["route"], quick["route"]) == ("teacher", "student")
    assert [entry.decision.tx_id for entry in log.read()] == ["tx-quick", "tx-slow"]
    assert [decision.tx_id for decision in log.in_state_order()] == ["tx-slow", "tx-quick"]
    log.close()
    async with running(create_app(settings)) as client:
        assert await score(client, "tx-next", 100) == pytest.approx(0.11)


@pytest.mark.parametrize(
    "shared",
    [
        {},  # the same sender and receiver
        {"receiver_account": "a third"},
        {"sender_account": "another"},
        {"sender_account": "FR-receiver", "sender_bank": "BANK2", "receiver_account": "a third"},
    ],
)
async def test_a_decision_is_not_stored_before_one_on_the_same_account_that_it_rests_on(
    tmp_path: Path, shared: dict[str, str]
) -> None:
    bundle = write_bundle(tmp_path / "late", teacher="late")
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, teacher_deadline_ms=20_000))
    async with running(app) as client:
        held = {"transactions": [body("tx-slow", 950), body("tx-later", 100, **shared)]}
        answer = asyncio.create_task(client.post("/v1/score/batch", json=held))
        log: DecisionLog = app.state.service.parts.log
        scorer = app.state.service.parts.scorer
        while scorer._next_place < 3:  # both are observed
            await asyncio.sleep(0)
        same_bank_other_account = {"sender_account": "another one", "receiver_account": "yet another"}
        for number in range(3):
            await score(client, f"tx-{number}", 100, **same_bank_other_account)
        assert not answer.done()
        assert log.by_txs(["tx-slow", "tx-later"]) == {}
        LateTeacher.may_answer.set()
        assert (await answer).status_code == 200
        order = [entry.decision.tx_id for entry in log.read()]
        assert order == ["tx-0", "tx-1", "tx-2", "tx-slow", "tx-later"]
        assert scorer._order._newest == {}


async def test_history_is_part_of_the_state_from_the_start(tmp_path: Path, bundle: Path) -> None:
    past = [Transaction.model_validate(body(f"old-{number}")) for number in range(5)]
    pq.write_table(to_table(past[:3]), tmp_path / "transactions-1.parquet")
    pq.write_table(to_table(past[3:]), tmp_path / "transactions-2.parquet")
    settings = settings_for(tmp_path / "state", bundle=bundle, history=tmp_path)
    async with running(create_app(settings)) as client:
        assert await score(client, "tx-1", 100) == pytest.approx(0.15)


async def test_a_history_that_cannot_be_read_keeps_the_service_down_and_says_why(
    tmp_path: Path, bundle: Path
) -> None:
    (tmp_path / "transactions.parquet").write_bytes(b"PAR1 and no more")
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, history=tmp_path))
    async with running(app, wait=False) as client:
        while app.state.service.failure is None:
            await asyncio.sleep(0)
        assert "transactions.parquet" in (await ready(client, status=503))["detail"]


async def test_while_the_log_cannot_be_written_nothing_is_answered_and_nothing_is_lost_after(
    app: FastAPI, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))
    async with running(app) as client:
        log: DecisionLog = app.state.service.parts.log
        append = log.append
        await score(client, "tx-0", 100)

        def fail(_: object) -> None:
            raise UnavailableError("disk full")

        monkeypatch.setattr(log, "append", fail)
        for _ in range(2):  # the first touches state, the second is refused before it does
            refused = await client.post("/v1/score", json=body("tx-1"))
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
        await ready(client, status=503)
        monkeypatch.setattr(log, "append", append)
        await ready(client)
        assert await score(client, "tx-1", 100) == pytest.approx(0.11)  # as first seen
        assert await score(client, "tx-2", 100) == pytest.approx(0.12)
        assert [entry.decision.tx_id for entry in log.read()] == ["tx-0", "tx-1", "tx-2"]
        assert log.verify().entries == 3


async def test_a_second_service_on_the_same_state_does_not_start(
    tmp_path: Path, bundle: Path, app: FastAPI
) -> None:
    async with running(app):
        second = create_app(settings_for(tmp_path / "state", bundle=bundle))
        async with running(second, wait=False):
            while second.state.service.failure is None:
                await asyncio.sleep(0)
            assert "another service" in str(second.state.service.failure)


async def test_a_lost_pseudonym_key_is_not_replaced_silently(tmp_path: Path, bundle: Path) -> None:
    settings = settings_for(tmp_path / "state", bundle=bundle, pseudonym_key=None)
    async with running(create_app(settings)) as client:
        await score(client)
    key = tmp_path / "state" / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    app = create_app(settings)
    async with running(app, wait=False):
        while app.state.service.failure is None:
            await asyncio.sleep(0)
        assert "pseudonym key" in str(app.state.service.failure)


async def test_a_transaction_that_could_not_be_scored_leaves_no_trace(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise BundleDamagedError("the student gave no number")

    await score(client, "tx-0")
    student = app.state.service.bundles.warm.bundle.student
    with monkeypatch.context() as patched:
        patched.setattr(student, "score", fail)
        assert (await client.post("/v1/score", json=body("tx-1"))).status_code == 503
    assert await score(client, "tx-1") == pytest.approx(0.11)
    assert [decision.observed for decision in app.state.service.parts.log.in_state_order()] == [1, 2]


def break_once(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The first call of a step that comes after the observation fails."""
    owner, name = {
        "policies": (Policies, "wanted"),
        "teacher": (TeacherBypass, "settle"),
        "reasons": (AlertReasons, "find"),
        "triage": (Triager, "settle"),
    }[step]
    works = getattr(owner, name)

    def fails(*_args: Any) -> Any:
        monkeypatch.setattr(owner, name, works)
        raise RuntimeError("an unexpected failure")

    monkeypatch.setattr(owner, name, fails)


@pytest.mark.parametrize(
    ("step", "amount", "outcome"),
    [
        ("policies", 550, ("review", "step_failed")),
        ("teacher", 550, ("review", "step_failed")),
        ("reasons", 850, ("hold", "none")),
        ("triage", 850, ("hold", "none")),
        ("triage", 100, ("allow", "none")),
    ],
)
async def test_what_state_has_seen_is_decided_and_stored_whatever_fails_then(
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    amount: float,
    outcome: tuple[str, str],
) -> None:
    settings = settings_for(tmp_path / "state", bundle=bundle)
    app = create_app(settings)
    async with running(app) as client:
        break_once(monkeypatch, step)
        said = (await client.post("/v1/score", json=body("tx-1", amount))).json()
        stored = app.state.service.parts.log.get(said["decision_id"])
        assert (said["action"], stored.route_reason) == outcome
        assert stored.student_score == pytest.approx(amount / 1000)
        assert (await client.post("/v1/score", json=body("tx-1", amount))).json() == said
        assert await score(client, "tx-2", 100) == pytest.approx(0.11)
    async with running(create_app(settings)) as client:
        assert await score(client, "tx-3", 100) == pytest.approx(0.12)


async def test_what_got_no_probability_left_no_trace_in_state(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        nothing = Scored(np.array([np.nan]), np.array([0.0]), np.zeros((1, 3), np.float32))
        broken.setattr(FakeModel, "score", lambda _model, _rows: nothing)
        assert (await client.post("/v1/score", json=body("tx-1", 100))).status_code == 503
    assert await score(client, "tx-2", 100) == pytest.approx(0.1)
    assert await score(client, "tx-1", 100) == pytest.approx(0.11)
