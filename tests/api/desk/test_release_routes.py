"""Releases over HTTP: what is changed, by whom, what is refused, and what the logs keep of it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body, ready, running, settings_for, write_bundle
from fastapi import FastAPI
from test_problem_documents import check

from api.app import create_app
from api.security.key_file import KeyFile
from riskdistill import tracking
from riskdistill.errors import UnavailableError
from riskdistill.storage.releases import ReleaseLog, State

pytestmark = pytest.mark.anyio
A, B, C = "a" * 16, "b" * 16, "c" * 16
WHY = {"reason": "report of 3 May"}
_NOW = 3600  # seconds between two looks: a worker that serves another release has not waited for one


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ReleaseLog]:
    """r1 is champion; r2 and r3 are registered."""
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    for version in (A, B, C):
        log.register(write_bundle(tmp_path / version[:1], version), version, actor="ann", reason="trained")
    log.promote("r1", actor="ann", reason="the first", evidence={})
    yield log
    log.close()


def service(tmp_path: Path, **changes: Any) -> FastAPI:
    """A service whose keys `boss` and `chief` may change releases, and `desk` may see them."""
    keys = KeyFile()
    secrets = {}
    for name, scopes in (("boss", ("admin", "operate")), ("chief", ("admin",)), ("desk", ("operate",))):
        keys, _, secrets[name] = keys.create(name, scopes, by="ann", expires=None, rate=None)
    keys.write(tmp_path / "keys.json")
    url = f"sqlite:///{tmp_path}/releases.db"
    source = {} if "bundle" in changes else {"releases": url}
    app = create_app(
        settings_for(tmp_path / "state", keys=tmp_path / "keys.json", follow_seconds=_NOW, **source, **changes)
    )
    app.state.secrets = secrets
    return app


class Callers:
    """Sends as the key of that name."""

    def __init__(self, client: httpx.AsyncClient, app: FastAPI) -> None:
        self._client, self._secrets, self.app = client, app.state.secrets, app

    async def get(self, path: str, name: str = "desk") -> httpx.Response:
        return await self._client.get(path, headers={"X-API-Key": self._secrets[name]})

    async def post(self, path: str, sent: Any = WHY, name: str = "boss") -> httpx.Response:
        return await self._client.post(path, json=sent, headers={"X-API-Key": self._secrets[name]})

    async def acts(self) -> list[tuple[str, str, str, str, str]]:
        told = (await self.get("/v1/acts", "boss")).json()
        return [
            (one["actor"], one["act"], one["subject"], one["details"]["after"], one["details"]["reason"])
            for one in told
        ]

    async def serves(self) -> dict[str, Any]:
        return await ready(self._client)


@pytest.fixture
async def callers(tmp_path: Path, log: ReleaseLog) -> AsyncIterator[Callers]:
    app = service(tmp_path)
    async with running(app) as client:
        yield Callers(client, app)


async def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_releases_and_their_history_are_shown(callers: Callers) -> None:
    listed = (await callers.get("/v1/releases")).json()
    assert [(one["release_id"], one["state"]) for one in listed] == [
        ("r1", "champion"),
        ("r2", "registered"),
        ("r3", "registered"),
    ]
    one = await done(await callers.get("/v1/releases/r1"))
    assert (one["bundle_version"], [entry["after"] for entry in one["history"]]) == (A, ["registered", "champion"])
    page = (await callers.get("/v1/releases/history?after=1&limit=2")).json()
    assert [(entry["sequence"], entry["release_id"]) for entry in page] == [(2, "r2"), (3, "r3")]
    check(await callers.get("/v1/releases/r9"), 404, "there is no release 'r9'")


async def test_a_promotion_serves_at_once_and_a_rollback_undoes_it(callers: Callers, log: ReleaseLog) -> None:
    assert (await done(await callers.post("/v1/releases/r2/promote")))["state"] == "champion"
    assert (await callers.serves())["bundle_version"] == B
    back = await done(await callers.post("/v1/releases/rollback", {"reason": "too many alerts"}))
    assert (back["release_id"], back["state"]) == ("r1", "champion")
    assert (await callers.serves())["bundle_version"] == A
    assert [(step.actor, step.reason, step.after) for step in log.history()[-4:]] == [
        ("boss", "report of 3 May", "previous"),
        ("boss", "report of 3 May", "champion"),
        ("boss", "too many alerts", "rolled_back"),
        ("boss", "too many alerts", "champion"),
    ]


async def test_a_release_goes_through_shadow_and_canary(callers: Callers) -> None:
    assert (await done(await callers.post("/v1/releases/r2/shadow")))["state"] == "shadow"
    assert (await callers.serves())["challenger_release"] == "r2"
    staged = await done(await callers.post("/v1/releases/r2/canary", WHY | {"share": 0.05}))
    assert (staged["state"], staged["share"]) == ("canary", 0.05)
    assert (await callers.serves())["canary_share"] == 0.05
    withdrawn = await done(await callers.post("/v1/releases/rollback", WHY | {"canary": True}))
    assert (withdrawn["release_id"], withdrawn["state"]) == ("r2", "rolled_back")
    assert (await callers.serves())["challenger_release"] is None
    assert (await done(await callers.post("/v1/releases/r3/retire")))["state"] == "retired"


async def test_every_act_is_in_the_act_log_under_the_name_of_the_key(callers: Callers) -> None:
    await done(await callers.post("/v1/releases/r2/approve", name="chief"))
    await done(await callers.post("/v1/releases/r2/promote"))
    await done(await callers.post("/v1/releases/rollback"))
    why = WHY["reason"]
    assert await callers.acts() == [
        ("chief", "release.approved", "r2", "registered", why),
        ("boss", "release.changed", "r1", "previous", why),
        ("boss", "release.changed", "r2", "champion", why),
        ("boss", "release.changed", "r2", "rolled_back", why),
        ("boss", "release.changed", "r1", "champion", why),
    ]


async def test_a_hold_is_kept_with_who_and_why_until_somebody_resumes(callers: Callers, log: ReleaseLog) -> None:
    assert (await callers.get("/v1/releases/hold")).json() is None
    check(await callers.post("/v1/releases/resume"), 409, "no hold stands")
    assert (await done(await callers.post("/v1/releases/hold", name="chief")))["release_id"] == "r1"
    told = await done(await callers.get("/v1/releases/hold"))
    assert (told["kind"], told["actor"], told["reason"]) == ("hold", "chief", WHY["reason"])
    check(await callers.post("/v1/releases/hold"), 409, "chief holds all action already")
    await done(await callers.post("/v1/releases/resume"))
    assert log.held() is None
    assert [(actor, act) for actor, act, *_ in await callers.acts()] == [
        ("chief", "release.held"),
        ("boss", "release.resumed"),
    ]


@pytest.mark.parametrize(
    "path", ["r2/promote", "r2/shadow", "r2/approve", "r2/retire", "rollback", "hold", "resume"]
)
async def test_nobody_signs_for_another_or_without_a_reason(callers: Callers, log: ReleaseLog, path: str) -> None:
    before = log.history()
    for sent in ({}, {"reason": " "}, {"reason": "x" * 2_001}, WHY | {"actor": "ann"}):
        check(await callers.post(f"/v1/releases/{path}", sent), 422)
    check(await callers.post(f"/v1/releases/{path}", name="desk"), 403, "desk does not have the scope admin")
    assert log.history() == before
    assert await callers.acts() == []


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, "NaN", None])
async def test_a_share_that_is_none_is_refused(callers: Callers, share: Any) -> None:
    check(await callers.post("/v1/releases/r2/canary", WHY | {"share": share}), 422)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("r9/promote", 404, "there is no release 'r9'"),
        ("r9/shadow", 404, "there is no release 'r9'"),
        ("r9/approve", 404, "there is no release 'r9'"),
        ("r9/retire", 404, "there is no release 'r9'"),
        ("r1/promote", 409, "r1 is champion and cannot become champion"),
        ("r1/retire", 409, "r1 is champion and cannot become retired"),
        ("rollback", 409, "there is no previous champion"),
    ],
)
async def test_what_the_life_cycle_forbids_is_refused_and_leaves_no_trace(
    callers: Callers, log: ReleaseLog, path: str, status: int, said: str
) -> None:
    before = log.history()
    check(await callers.post(f"/v1/releases/{path}"), status, said)
    assert log.history() == before
    assert await callers.acts() == []


async def test_no_canary_can_be_withdrawn_where_there_is_none(callers: Callers) -> None:
    await done(await callers.post("/v1/releases/r2/shadow"))
    check(await callers.post("/v1/releases/rollback", WHY | {"canary": True}), 409, "no release is canary")


@pytest.mark.parametrize(("path", "more"), [("promote", {}), ("shadow", {}), ("canary", {"share": 0.1})])
@pytest.mark.parametrize("damage", ["a file is damaged", f"bundle {C} is there now, not {B}"])
async def test_a_bundle_that_does_not_verify_is_refused_and_the_one_in_service_stays(
    callers: Callers, log: ReleaseLog, tmp_path: Path, path: str, more: dict[str, Any], damage: str
) -> None:
    content = (tmp_path / "c" / "fake.json").read_text() if C in damage else "{"
    (tmp_path / "b" / "fake.json").write_text(content)
    check(await callers.post(f"/v1/releases/r2/{path}", WHY | more), 409, damage)
    assert log.get("r2").state is State.REGISTERED
    assert await callers.acts() == []
    assert (await callers.serves())["bundle_version"] == A


async def test_where_approvals_are_needed_those_of_others_count(tmp_path: Path, log: ReleaseLog) -> None:
    app = service(tmp_path, release_approvals=1)
    async with running(app) as client:
        callers = Callers(client, app)
        await done(await callers.post("/v1/releases/r2/approve"))
        check(await callers.post("/v1/releases/r2/approve"), 409, "boss has approved r2 already")
        for path, sent in (("promote", WHY), ("canary", WHY | {"share": 0.1})):
            check(await callers.post(f"/v1/releases/r2/{path}", sent), 409, "0 of 1 approvals by others than boss")
        assert (await done(await callers.post("/v1/releases/r2/approve", name="chief")))["approved_by"] == [
            "boss",
            "chief",
        ]
        await done(await callers.post("/v1/releases/r2/promote"))
    assert log.history()[-1].evidence == {"approvals_needed": 1, "approved_by": ["boss", "chief"]}


async def test_the_first_release_is_promoted_while_the_service_waits_for_one(tmp_path: Path) -> None:
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    log.register(write_bundle(tmp_path / "a", A), A, actor="ann", reason="trained")
    log.close()
    app = service(tmp_path)
    async with running(app, wait=False) as client:
        callers = Callers(client, app)
        while (answer := await callers.post("/v1/releases/r1/promote")).status_code == 503:
            assert "the release log is not open" in answer.text
        await done(answer)
        assert app.state.service.bundles.warm.bundle.version == A


async def test_where_one_fixed_bundle_is_served_there_are_no_releases(tmp_path: Path, bundle: Path) -> None:
    app = service(tmp_path, bundle=bundle)
    async with running(app) as client:
        callers = Callers(client, app)
        for answer in (await callers.get("/v1/releases"), await callers.post("/v1/releases/rollback")):
            check(answer, 404, "serves one fixed bundle and has no releases (mend: serve a release log instead")


async def test_a_change_that_cannot_be_entered_into_the_act_log_does_not_happen(
    callers: Callers, log: ReleaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> None:
        raise UnavailableError("the act log cannot be used", where="act log")

    monkeypatch.setattr(callers.app.state.service.parts.acts, "append", away)
    check(await callers.post("/v1/releases/r2/promote"), 503, "the act log cannot be used")
    assert log.get("r2").state is State.REGISTERED


async def test_a_change_stands_though_this_worker_cannot_follow_it_now(
    callers: Callers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away() -> None:
        raise OSError("gone")

    monkeypatch.setattr(callers.app.state.service.bundles, "follow", away)
    assert (await done(await callers.post("/v1/releases/r2/promote")))["state"] == "champion"
    assert "the release log cannot be followed now" in caplog.text


async def test_mlflow_follows_and_nobody_waits_for_it(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    followed, may_answer = threading.Event(), threading.Event()

    def slow(log: ReleaseLog) -> None:
        may_answer.wait(20)
        assert log.get("r2").state is State.CHAMPION
        followed.set()

    monkeypatch.setattr(tracking, "follow", slow)
    await done(await callers.post("/v1/releases/r2/promote"))
    assert not followed.is_set()
    may_answer.set()
    assert followed.wait(20)


async def test_requests_are_counted_by_the_route_and_not_by_the_release(callers: Callers) -> None:
    await done(await callers.get("/v1/releases/r1"))
    await done(await callers.post("/v1/releases/r2/shadow"))
    text = (await callers.get("/metrics")).text
    for route in ("/v1/releases/{release_id}", "/v1/releases/{release_id}/shadow"):
        assert f'riskdistill_requests_total{{route="{route}",status="200"}} 1.0' in text


async def test_payments_are_decided_while_releases_change(tmp_path: Path, log: ReleaseLog) -> None:
    app = service(tmp_path)
    async with running(app) as client:
        callers = Callers(client, app)
        served = []
        for number, change in enumerate((None, "r2/promote", "rollback")):
            if change is not None:
                await done(await callers.post(f"/v1/releases/{change}"))
            answer = await client.post("/v1/score", json=body(f"tx-{number}"), headers={"X-API-Key": KEY})
            served.append((await done(answer))["bundle_version"])
    assert served == [A, B, A]
