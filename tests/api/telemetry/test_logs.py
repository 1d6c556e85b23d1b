"""Log lines are whole, name their request, and tell nothing of anybody."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body, ready, running, settings_for, write_bundle

from api.app import create_app
from api.path.group_commit import GroupCommit
from api.telemetry import logs
from riskdistill.errors import TransactionError, UnavailableError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.schema import LINES

pytestmark = pytest.mark.anyio


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_when_how_grave_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.to_stderr("json"):
        logs.logger("api.x").warning("two\nlines", extra=logs.fields("thing_happened", seconds=0.5))
    (line,) = told(capsys)
    assert line["time"].endswith("Z")
    assert (line["level"], line["event"], line["message"]) == ("warning", "thing_happened", "two\nlines")
    assert line["seconds"] == 0.5


def test_text_lines_tell_the_same_to_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.to_stderr("text"):
        logs.logger("api.x").warning("it happened", extra=logs.fields("thing_happened", seconds=0.5))
    assert capsys.readouterr().err.endswith("warning it happened seconds=0.5\n")


def test_the_tables_of_a_new_log_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with logs.to_stderr("json"):
        DecisionLog(f"sqlite:///{tmp_path}/decisions.db").close()
        DecisionLog(f"sqlite:///{tmp_path}/decisions.db").close()  # they are there already
    (line,) = told(capsys)
    assert line["message"] == f"the decisions log: tables of version {LINES['decisions'].newest} (before: none)"


def test_an_unexpected_exception_is_told_without_its_text_and_one_of_ours_with_it() -> None:
    def lines(error: Exception) -> str:
        try:
            raise error
        except Exception:
            record = logging.LogRecord("x", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())
        return str(json.loads(logs.JsonLines().format(record))["error"])

    assert "DE0212" not in lines(ValueError("no account DE0212"))
    assert "builtins.ValueError" in lines(ValueError("x"))
    assert "test_logs.py" in lines(ValueError("x"))
    assert "mend it" in lines(TransactionError("wrong", mend="mend it"))


JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def logging_service(
    folder: Path, bundle: Path, **changes: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A client of a service that logs JSON lines, and the service."""
    with logs.to_stderr("json"):
        app = create_app(settings_for(folder / "state", bundle=bundle, **changes))
        async with running(app) as client:
            yield client, app.state.service


async def test_logs_of_scored_traffic_hold_no_account_no_body_and_no_key(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))
    who = {"sender_account": "ACCOUNT-SENDER", "receiver_account": "ACCOUNT-RECEIVER"}
    async with logging_service(tmp_path, bundle) as (client, service):
        for number, amount in enumerate((10.0, 450.0, 700.0, 950.0)):  # every route and band
            await client.post("/v1/score", json=body(f"tx-secret-{number}", amount, **who))
        await client.post("/v1/score", json=body("tx-secret-0", 11.0, **who))  # a conflict
        await client.post("/v1/score", json=body("tx-secret-9", -5.0, **who))  # not valid
        await client.post("/v1/score", content=b"ACCOUNT-SENDER is no JSON", headers=JSON)
        await client.post("/v1/score", json=body(**who), headers={"X-API-Key": "a-wrong-key-ACCOUNT"})
        parts = service.parts

        def fail(*_: object) -> None:
            raise UnavailableError("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(parts.log, "append", fail)
            await client.post("/v1/score", json=body("tx-secret-10", **who))

        def crash(_: object) -> None:
            raise RuntimeError(f"cannot score {who}")

        with monkeypatch.context() as broken:
            broken.setattr(service.bundles.warm.bundle.student, "score", crash)
            await ready(client)
            assert (await client.post("/v1/score", json=body("tx-secret-11", **who))).status_code == 500
    text = capsys.readouterr().err
    assert "request_failed" in text
    assert "the decision log cannot be written: disk full" in text
    pseudonyms = parts.scorer._pseudonyms
    for secret in (*who.values(), *map(pseudonyms.of, who.values()), "tx-secret", KEY, "a-wrong-key", "450.0"):
        assert secret not in text


async def test_what_fails_in_the_background_is_told_without_its_text(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.service.GroupCommit", lambda log, **options: GroupCommit(log, 0.01, **options))

    def crash(*_: object) -> None:
        raise RuntimeError("ACCOUNT-SENDER")

    text = ""
    async with logging_service(tmp_path, bundle, follow_seconds=0.001) as (client, service):
        parts = service.parts
        with monkeypatch.context() as broken:
            broken.setattr(parts.log, "append", crash)
            assert (await client.post("/v1/score", json=body())).status_code == 503
        await ready(client)
        monkeypatch.setattr(parts.desk.suppressions, "refresh", crash)
        while "suppressions as they were" not in text:
            await asyncio.sleep(0)
            text += capsys.readouterr().err
        monkeypatch.setattr("api.telemetry.anchoring.write_anchor", crash)  # the last one is made at the end
    text += capsys.readouterr().err
    assert "the decision log cannot be written: RuntimeError" in text
    assert "suppressions as they were before: RuntimeError" in text
    assert "the decision log could not be anchored: RuntimeError" in text
    assert "ACCOUNT-SENDER" not in text


async def test_a_failed_request_is_named_alike_in_the_log_and_in_its_answer(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with logging_service(tmp_path, bundle) as (client, service):
        service.draining = True
        named = await client.post("/v1/score", json=body(), headers={"X-Request-ID": "mine-1"})
        assert named.headers["x-request-id"] == "mine-1"
        forged = await client.get("/readyz", headers={"X-Request-ID": 'a" b\tc'})
        assert len(forged.headers["x-request-id"]) == 16
        fine = await client.get("/livez", headers={"X-Request-ID": "mine-2"})
        assert "x-request-id" not in fine.headers
    (failed,) = [line for line in told(capsys) if line["event"] == "request_failed"]
    assert failed["request_id"] == "mine-1"


async def test_a_failure_that_repeats_is_told_once_a_second(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.telemetry.watch._QUIET_SECONDS", 60.0)  # twenty requests may take more than one
    async with logging_service(tmp_path, bundle) as (client, service):
        service.draining = True
        for _ in range(20):
            await client.post("/v1/score", json=body())
    assert len([line for line in told(capsys) if line["event"] == "request_failed"]) == 1


async def test_a_teacher_that_fails_is_told_without_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "failing", teacher="failing")
    async with logging_service(tmp_path, bundle) as (client, _):
        answer = await client.post("/v1/score", json=body("tx", 950.0))
    assert answer.json()["route"] == "student_degraded"
    lines = [line for line in told(capsys) if "error" in line]
    assert any("RuntimeError" in line["error"] for line in lines)
    assert all("lost its weights" not in json.dumps(line) for line in lines)
