"""Faults of the machine itself: a disk that is really full, and a clock that steps back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from typing import Any

import pytest
from fake_serving import body, ready, running
from fastapi import FastAPI
from sqlalchemy import event

from api import scoring
from api.path.group_commit import GroupCommit
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.anyio
ALL_OF_IT = 1 << 30  # pages


def small_disk(log: DecisionLog) -> Callable[[int], None]:
    """Sets how many pages SQLite's file may have, but not fewer than it has; over that, the disk is full to it."""
    most = ALL_OF_IT

    def limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}")

    def set_most(pages: int) -> None:
        nonlocal most
        most = pages

    event.listen(log.engine, "checkout", limit)  # of each use of a connection, the writer's included
    return set_most


async def test_a_full_disk_stops_decisions_until_there_is_room_and_loses_none(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))
    async with running(app) as client:
        log = app.state.service.parts.log
        allow_pages, acknowledged = small_disk(log), dict[str, str]()
        allow_pages(1)
        for number in count():
            answer = await client.post("/v1/score", json=body(f"tx-{number}"))
            if answer.status_code != 200:
                break
            acknowledged[f"tx-{number}"] = answer.json()["decision_id"]
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert "database or disk is full" in caplog.text
        assert (await client.post("/v1/score", json=body("tx-new"))).status_code == 503
        await ready(client, status=503)
        allow_pages(ALL_OF_IT)
        await ready(client)
        again = await client.post("/v1/score", json=body(f"tx-{number}"))
        acknowledged[f"tx-{number}"] = again.json()["decision_id"]
        assert {entry.decision.tx_id: entry.decision.decision_id for entry in log.read()} == acknowledged
        assert log.verify().entries == len(acknowledged)


async def test_a_clock_that_steps_back_holds_nothing_up_and_the_log_keeps_its_order(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SteppedBack(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> datetime:
            return datetime.now(UTC) - timedelta(hours=1)

    async with running(app) as client:
        await client.post("/v1/score", json=body("tx-0"))
        monkeypatch.setattr(scoring, "datetime", SteppedBack)
        assert (await client.post("/v1/score", json=body("tx-1"))).status_code == 200
        await ready(client)
        log = app.state.service.parts.log
        first, second = (entry.decision for entry in log.read())
        assert (first.tx_id, second.tx_id) == ("tx-0", "tx-1")
        assert second.decided_at < first.decided_at
        assert [decision.tx_id for decision in log.in_state_order()] == ["tx-0", "tx-1"]
        assert log.verify().entries == 2
