"""The header Idempotency-Key: one answer for one key, whatever the transactions' own ids say."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fake_serving import LateTeacher, body, running, settings_for, write_bundle
from fastapi import FastAPI
from starlette.datastructures import Headers

from api.app import create_app
from api.path import idempotency
from api.security.key_file import KeyFile
from riskdistill.errors import UnavailableError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.idempotency import claim

pytestmark = pytest.mark.anyio
HEADERS = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


async def post(
    client: httpx.AsyncClient, *args: object, route: str = "/v1/score", **headers: str
) -> httpx.Response:
    content = body(*args)  # type: ignore[arg-type]
    sent = content if route == "/v1/score" else {"transactions": [content]}
    return await client.post(route, json=sent, headers=HEADERS | headers)


async def test_the_same_key_with_the_same_body_gets_the_same_answer(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    first = await post(client, "tx-1")
    assert first.status_code == 200
    assert (await post(client, "tx-1")).json() == first.json()
    bare = HEADERS["Idempotency-Key"].strip('"')
    assert (await post(client, "tx-1", **{"Idempotency-Key": bare})).json() == first.json()
    assert app.state.service.parts.log.verify().entries == 1


@pytest.mark.parametrize(("tx_id", "amount"), [("tx-1", 101), ("tx-2", 100)])
async def test_the_same_key_with_another_body_is_refused_and_nothing_is_decided(
    client: httpx.AsyncClient, app: FastAPI, tx_id: str, amount: float
) -> None:
    await post(client, "tx-1", 100)
    answer = await post(client, tx_id, amount)
    assert answer.status_code == 422
    assert answer.json()["title"] == "Idempotency key was used with another body"
    assert app.state.service.parts.log.verify().entries == 1


async def test_a_key_holds_for_one_route_and_one_caller(client: httpx.AsyncClient) -> None:
    paths, callers = ("/v1/score", "/v1/score/batch"), ("one", "two")
    known = {idempotency.key_of(Headers(HEADERS), path, caller) for caller in callers for path in paths}
    assert len(known) == 4
    await post(client, "tx-1")
    assert (await post(client, "tx-2", route="/v1/score/batch")).status_code == 200


async def test_a_key_holds_while_its_callers_secret_is_rotated(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.security.key_ring.LOOK_SECONDS", 0.0)
    path, never = tmp_path / "keys.json", {"by": "ann", "expires": None}
    keys, _, old = KeyFile().create("payments", ("score",), rate=None, **never)
    keys, _, other = keys.create("cards", ("score",), rate=None, **never)
    keys.write(path)
    async with running(create_app(settings_for(tmp_path / "state", bundle=bundle, keys=path))) as client:
        first = await post(client, "tx-1", **{"X-API-Key": old})
        keys, _, new = keys.rotate("payments", overlap=timedelta(0), **never)
        keys.write(path)
        assert (await post(client, "tx-1", **{"X-API-Key": old})).status_code == 401
        assert (await post(client, "tx-2", **{"X-API-Key": new})).status_code == 422
        del client.headers["X-API-Key"]
        again = await post(client, "tx-1", Authorization=f"Bearer {new}")
        assert again.json() == first.json()
        assert (await post(client, "tx-2", **{"X-API-Key": other})).status_code == 200


async def test_a_key_holds_after_a_restart(tmp_path: Path, bundle: Path) -> None:
    settings = settings_for(tmp_path / "state", bundle=bundle)
    async with running(create_app(settings)) as client:
        first = await post(client, "tx-1")
    async with running(create_app(settings)) as client:
        assert (await post(client, "tx-1")).json() == first.json()
        assert (await post(client, "tx-2")).status_code == 422


async def test_while_the_first_is_under_way_the_second_is_told_so(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "late", teacher="late")
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, teacher_deadline_ms=20_000))
    async with running(app) as client:
        first = asyncio.create_task(post(client, "tx-1", 950))
        scorer = app.state.service.parts.scorer
        while scorer._next_place < 2:  # it waits for the teacher
            await asyncio.sleep(0)
        second, other = await post(client, "tx-1", 950), await post(client, "tx-2", 950)
        LateTeacher.may_answer.set()
        assert (second.status_code, other.status_code) == (409, 422)
        assert second.json()["title"] == "Request is under way"
        assert (await first).status_code == 200
        assert (await post(client, "tx-1", 950)).json() == (await first).json()


@pytest.mark.parametrize("key", ["", '""', "two words", "k" * 256])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await post(client, "tx-1", **{"Idempotency-Key": key})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_without_the_header_nothing_is_claimed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "claim", None)
    assert (await client.post("/v1/score", json=body())).status_code == 200


async def test_a_claim_that_cannot_be_stored_decides_nothing_and_can_be_tried_again(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "claim", fail)
        assert (await post(client, "tx-1")).status_code == 503
    assert app.state.service.parts.log.verify().entries == 0
    assert (await post(client, "tx-1")).status_code == 200


async def test_claims_that_wait_together_share_a_commit(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(log: DecisionLog, wanted: dict[str, str], kept: timedelta) -> dict[str, str]:
        sizes.append(len(wanted))
        return claim(log, wanted, kept)

    monkeypatch.setattr(idempotency, "claim", counted)
    keys = [{"Idempotency-Key": f"key-{number}"} for number in range(50)]
    answers = await asyncio.gather(*(post(client, f"tx-{number}", **key) for number, key in enumerate(keys)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(sizes) == 50
    assert len(sizes) < 50


def test_old_keys_are_forgotten(tmp_path: Path) -> None:
    log = DecisionLog(f"sqlite:///{tmp_path}/decisions.db")
    assert claim(log, {"k": "one"}, timedelta(days=1)) == {"k": "one"}
    assert claim(log, {"k": "two"}, timedelta(days=1)) == {"k": "one"}
    assert claim(log, {"k": "two"}, timedelta(0)) == {"k": "two"}
    log.close()
