"""Shadow and canary: who decides for whom, and that the other one's score never stands in a decision's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fake_serving import FakeBundle, body, ready, running, settings_for, write_bundle
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.path.rollout import decides
from api.serving_bundle import Challenger
from riskdistill.errors import UnavailableError
from riskdistill.storage.releases import ReleaseLog, State
from riskdistill.storage.shadows import ShadowLog, ShadowScore

pytestmark = pytest.mark.anyio
A, B, C = "a" * 16, "b" * 16, "c" * 16
WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}
DECISIONS = "decisions.db"


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseLog:
    """Bundle A is champion, bundle B shadows it: its scores are 0.3 higher."""
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    champion = log.register(write_bundle(tmp_path / "a", A), A, **WHO)
    log.promote(champion.release_id, **WHO, evidence={})
    log.register(write_bundle(tmp_path / "b", B, shift=0.3), B, **WHO, shadow=True)
    return log


@pytest.fixture
def app(tmp_path: Path, releases: ReleaseLog) -> FastAPI:
    url = f"sqlite:///{tmp_path}/releases.db"
    return create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=3600))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client


async def decided(client: httpx.AsyncClient, tx_id: str, amount: float = 350, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/score", json=body(tx_id, amount, **changes))
    assert answer.status_code == 200, answer.text
    stored: dict[str, Any] = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
    return stored


def shadow_scores(tmp_path: Path, release: str = "r2") -> dict[str, ShadowScore]:
    log = ShadowLog(f"sqlite:///{tmp_path}/state/{DECISIONS}", create=False)
    found = {score.tx_id: score for score in log.read(release)}
    log.close()
    return found


async def test_a_shadow_scores_what_the_champion_decides_and_is_stored_apart(app: FastAPI, tmp_path: Path) -> None:
    async with running(app) as client:
        stored = await decided(client, "tx-1")
        assert (stored["bundle_version"], stored["student_score"], stored["action"]) == (A, 0.35, "allow")
        said = await ready(client)
        assert (said["challenger_release"], said["canary_share"]) == ("r2", 0.0)
        assert (
            f'riskdistill_bundle_info{{role="challenger",version="{B}"}} 1.0' in (await client.get("/metrics")).text
        )
    score = shadow_scores(tmp_path)["tx-1"]
    assert (score.decided_by, score.champion_version, score.challenger_version) == ("champion", A, B)
    assert (score.champion_score, score.challenger_score) == (pytest.approx(0.35), pytest.approx(0.65))
    assert (score.champion_alert, score.challenger_alert) == (False, True)
    assert score.champion_us is not None
    assert score.challenger_us is not None


async def test_a_canary_decides_for_its_accounts_always_the_same_and_the_champion_shadows_there(
    app: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    async with running(app) as client:
        releases.stage("r2", State.CANARY, **WHO, evidence={}, share=0.5)
        await app.state.service.bundles.follow()
        assert (await ready(client))["canary_share"] == 0.5
        by = {}
        for number in range(40):
            account = {"sender_account": f"account-{number % 20}"}
            stored = await decided(client, f"tx-{number}", 100, **account)
            by.setdefault(number % 20, set()).add(stored["bundle_version"])
            beside = stored["shadow"] and (stored["shadow"]["bundle_version"], stored["shadow"]["score"])
            champions = (A, pytest.approx(stored["student_score"] - 0.3))
            assert beside == (champions if stored["bundle_version"] == B else None), "there is no previous champion"
    assert all(len(versions) == 1 for versions in by.values())
    assert {version for versions in by.values() for version in versions} == {A, B}
    found = shadow_scores(tmp_path)
    assert len(found) == 40
    for number in range(40):
        score, version = found[f"tx-{number}"], next(iter(by[number % 20]))
        assert score.decided_by == ("challenger" if version == B else "champion")
        assert score.challenger_score - score.champion_score == pytest.approx(0.3)


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_the_accounts_of_a_smaller_one(account: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    bundle: Any = None
    assert decides(Challenger(bundle, "r7", small), account) <= decides(Challenger(bundle, "r7", large), account)


def test_a_share_is_met_and_another_release_gets_other_accounts() -> None:
    bundle: Any = None
    accounts = [f"{number:032x}" for number in range(20_000)]
    first, second = (
        {account for account in accounts if decides(Challenger(bundle, release, 0.1), account)}
        for release in ("r7", "r8")
    )
    assert 1_850 < len(first) < 2_150
    assert 120 < len(first & second) < 290


async def test_a_promoted_challenger_needs_no_loading_and_shadows_no_more(
    client: httpx.AsyncClient, app: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    (tmp_path / "b" / "fake.json").write_text("gone")
    releases.promote("r2", **WHO, evidence={})
    await app.state.service.bundles.follow()
    assert (await decided(client, "tx-1"))["bundle_version"] == B
    said = await ready(client)
    assert (said["previous_bundle_version"], said["challenger_release"]) == (A, None)


async def test_a_withdrawn_canary_decides_no_more(
    client: httpx.AsyncClient, app: FastAPI, releases: ReleaseLog
) -> None:
    releases.stage("r2", State.CANARY, **WHO, evidence={}, share=0.999)
    await app.state.service.bundles.follow()
    assert (await decided(client, "tx-1"))["bundle_version"] == B
    releases.withdraw("r2", **WHO, evidence={})
    await app.state.service.bundles.follow()
    assert (await decided(client, "tx-2"))["bundle_version"] == A


async def test_a_challenger_that_must_not_serve_is_left_out_once_and_the_champion_goes_on(
    client: httpx.AsyncClient, app: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    (write_bundle(tmp_path / "c", C) / "fake.json").write_text("{")
    releases.register(tmp_path / "c", C, **WHO, shadow=True)
    for _ in range(3):
        await app.state.service.bundles.follow()
    said = await ready(client)
    assert (said["bundle_version"], said["challenger_release"], said["refused_release"]) == (A, None, None)
    assert "riskdistill_refused_bundles_total 1.0" in (await client.get("/metrics")).text
    assert (await decided(client, "tx-1"))["bundle_version"] == A


@pytest.mark.parametrize("broken", ["challenger", "database"])
async def test_a_shadow_that_fails_is_counted_and_fails_no_decision(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> Any:
        raise UnavailableError("away")

    if broken == "challenger":
        student = app.state.service.bundles.warm.challenger.bundle.student
        monkeypatch.setattr(student, "score", lambda _: SimpleNamespace(score=[float("nan")]))
    else:
        monkeypatch.setattr(ShadowLog, "append", fail)
    assert (await decided(client, "tx-1"))["bundle_version"] == A
    async with asyncio.timeout(20):
        while 'shadow_scores_total{outcome="failed"} 1.0' not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)


async def test_every_release_that_is_followed_is_loaded_once(
    tmp_path: Path, releases: ReleaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = FakeBundle.load

    def counted(path: Path, **options: Any) -> FakeBundle:
        loaded.append(path.name)
        return load(path, **options)

    monkeypatch.setattr(FakeBundle, "load", counted)
    url = f"sqlite:///{tmp_path}/releases.db"
    app = create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=3600))
    async with running(app):
        for _ in range(3):
            await app.state.service.bundles.follow()
    assert loaded == ["a", "b"]
