"""One commit for many; a decision that the log has already holds nobody up; nothing is decided twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_serving import body, ready, running
from fastapi import FastAPI
from test_account_state import decided

from api.path.group_commit import GroupCommit
from api.scoring import TOGETHER
from riskdistill.data.transaction import Transaction
from riskdistill.errors import UnavailableError
from riskdistill.storage.decisions import Decision, DecisionLog

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(f"sqlite:///{tmp_path}/decisions.db")


def decision_on(tx_id: str, observed: int) -> Decision:
    return decided(Transaction.model_validate(body(tx_id)), observed)


async def test_a_transaction_that_the_log_has_keeps_its_decision_and_the_rest_is_committed(
    log: DecisionLog,
) -> None:
    theirs = decision_on("tx-1", 1)
    log.append([theirs])  # another writer came first
    ours = [decision_on("tx-0", 1), decision_on("tx-1", 2).model_copy(update={"decision_id": "ours"})]
    commit = GroupCommit(log)
    stored: list[Decision | UnavailableError] = []
    for decision in [*ours, decision_on("tx-2", 3)]:  # all in one group
        commit.store(decision, stored.append)
    commit.start()
    while len(stored) < 3:
        await asyncio.sleep(0)
    commit.check()
    assert [decision.decision_id for decision in stored if isinstance(decision, Decision)] == [
        "d-tx-0",
        theirs.decision_id,
        "d-tx-2",
    ]
    assert [entry.decision.tx_id for entry in log.read()] == ["tx-1", "tx-0", "tx-2"]
    await commit.close()


async def test_another_body_under_an_id_that_another_writer_stored_is_a_conflict(app: FastAPI) -> None:
    async with running(app) as client:
        log: DecisionLog = app.state.service.parts.log
        append = log.append

        def come_first(decisions: Sequence[Decision]) -> None:
            log.append = append  # type: ignore[method-assign]
            append([decision_on("tx-1", 9)])
            append(decisions)

        log.append = come_first  # type: ignore[method-assign]
        both = {"transactions": [body("tx-1", 200), body("tx-2")]}
        conflict, fine = (await client.post("/v1/score/batch", json=both)).json()["results"]
        assert "another body" in conflict["problem"]["detail"]
        assert fine["decision"]["tx_id"] == "tx-2"
        await ready(client)


async def test_a_request_sent_again_while_its_commit_is_tried_again_is_not_decided_twice(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))
    async with running(app) as client:
        log: DecisionLog = app.state.service.parts.log
        append, by_txs, may_write = log.append, log.by_txs, threading.Event()

        def fail(_: object) -> None:
            raise UnavailableError("disk full")

        def append_when_told(decisions: Sequence[Decision]) -> None:
            may_write.wait(20)
            append(decisions)

        def look_up_just_before_the_commit(tx_ids: Sequence[str]) -> dict[str, Decision]:
            found = by_txs(tx_ids)
            may_write.set()
            while not by_txs(["tx-1"]):
                pass
            return found

        monkeypatch.setattr(log, "append", fail)
        assert (await client.post("/v1/score", json=body("tx-1"))).status_code == 503
        monkeypatch.setattr(log, "append", append_when_told)
        monkeypatch.setattr(log, "by_txs", look_up_just_before_the_commit)
        again = await client.post("/v1/score", json=body("tx-1"))
        assert again.status_code == 503
        assert int(again.headers["retry-after"]) > 1  # the next try to commit comes first
        may_write.set()
        await ready(client)
        monkeypatch.setattr(log, "by_txs", by_txs)
        answer = await client.post("/v1/score", json=body("tx-1"))
        assert answer.json()["score"] == pytest.approx(0.1)
        assert [entry.decision.tx_id for entry in log.read()] == ["tx-1"]


async def test_who_cannot_be_told_keeps_nobody_else_waiting(log: DecisionLog) -> None:
    commit, told = GroupCommit(log), list[Decision | UnavailableError]()

    def fail(_outcome: object) -> None:
        raise RuntimeError("gone")

    commit.start()
    commit.store(decision_on("tx-0", 1), fail)
    commit.store(decision_on("tx-1", 2), told.append)
    while not told:
        await asyncio.sleep(0)
    commit.store(decision_on("tx-2", 3), told.append)  # and the next commit comes
    await commit.close()
    assert [entry.decision.tx_id for entry in log.read()] == ["tx-0", "tx-1", "tx-2"]
    assert len(told) == 2


async def test_what_comes_during_a_write_is_scored_and_written_together_after_it(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(app) as client:
        log, state = app.state.service.parts.log, app.state.service.parts.engine
        append, may_write, written = log.append, threading.Event(), list[int]()

        def append_when_told(decisions: Sequence[Decision]) -> None:
            may_write.wait(20)
            written.append(len(decisions))
            append(decisions)

        monkeypatch.setattr(log, "append", append_when_told)
        sent = [asyncio.create_task(client.post("/v1/score", json=body("tx-0")))]
        while not app.state.service.parts.commit.is_busy:
            await asyncio.sleep(0)
        observed = len(state)
        sent += [
            asyncio.create_task(
                client.post("/v1/score", json={**body(f"tx-{number}"), "sender_account": f"{number}"})
            )
            for number in range(1, 6)
        ]
        while len(app.state.service.parts.scorer) < 6:
            await asyncio.sleep(0)
        for _ in range(20):  # turns in which they could be scored
            await asyncio.sleep(0)
        assert len(state) == observed
        may_write.set()
        assert [answer.status_code for answer in await asyncio.gather(*sent)] == [200] * 6
        assert written == [1, 5]


async def test_a_full_group_waits_for_no_write(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(app) as client:
        log, state, may_write = app.state.service.parts.log, app.state.service.parts.engine, threading.Event()
        append = log.append

        def append_when_told(decisions: Sequence[Decision]) -> None:
            may_write.wait(20)
            append(decisions)

        monkeypatch.setattr(log, "append", append_when_told)
        first = asyncio.create_task(client.post("/v1/score", json=body("tx-0")))
        while not app.state.service.parts.commit.is_busy:
            await asyncio.sleep(0)
        rows = [{**body(f"tx-{number}"), "sender_account": f"{number}"} for number in range(1, TOGETHER + 2)]
        full = asyncio.create_task(client.post("/v1/score/batch", json={"transactions": rows}))
        while len(state) < TOGETHER:  # and one is left in line
            await asyncio.sleep(0)
        assert len(app.state.service.parts.scorer) == TOGETHER + 2
        may_write.set()
        assert [answer.status_code for answer in await asyncio.gather(first, full)] == [200, 200]


async def test_while_commits_fail_there_is_one_next_try_however_many_wait(log: DecisionLog) -> None:
    tries = 0

    def fail(_: object) -> None:
        nonlocal tries
        tries += 1
        raise UnavailableError("disk full")

    log.append = fail  # type: ignore[method-assign]
    commit, told = GroupCommit(log, retry_seconds=60), list[Decision | UnavailableError]()
    commit.start()
    for number in range(20):
        commit.store(decision_on(f"tx-{number}", number), told.append)
        while len(told) <= number:
            await asyncio.sleep(0)
    assert tries == 20
    for _ in range(3):
        await asyncio.sleep(0)
    loop: Any = asyncio.get_running_loop()
    assert sum(not timer.cancelled() for timer in loop._scheduled) == 1
    assert len(commit) == 20
    await commit.close()


async def test_what_waits_for_the_scorer_goes_with_the_next_commit_though_others_wait_for_that(
    log: DecisionLog,
) -> None:
    commit, sizes, append = GroupCommit(log), list[int](), log.append

    def note(decisions: Sequence[Decision]) -> None:
        sizes.append(len(decisions))
        append(decisions)

    log.append = note  # type: ignore[method-assign]
    told: list[Decision | UnavailableError] = []
    commit.on_free = lambda: None if sizes != [1] else commit.store(decision_on("scored", 3), told.append)
    commit.start()
    commit.store(decision_on("tx-1", 1), told.append)
    commit.begin()
    commit.store(decision_on("alert", 2), told.append)  # while that is written
    while len(told) < 3:
        await asyncio.sleep(0)
    assert sizes == [1, 2]
    await commit.close()


async def test_a_callback_that_fails_keeps_nobody_from_the_answer(log: DecisionLog) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no metrics")

    commit, told = GroupCommit(log), list[Decision | UnavailableError]()
    commit.on_commit = fail
    loop, failures = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
    commit.start()
    for number in range(2):
        commit.store(decision_on(f"tx-{number}", number), told.append)
        while len(told) <= number:
            await asyncio.sleep(0)
    await commit.close()
    assert {str(failure) for failure in failures} == {"no metrics"}
