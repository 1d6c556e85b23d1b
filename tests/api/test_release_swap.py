"""The service follows the release log without a restart and without failing a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fake_serving import FakeBundle, body, ready, running, settings_for, write_bundle
from fastapi import FastAPI

from api.app import create_app
from riskdistill.storage.releases import ReleaseLog

pytestmark = pytest.mark.anyio
A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseLog:
    """Bundle A is champion; nothing before it."""
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    promote(log, write_bundle(tmp_path / "a", A), A)
    return log


def promote(log: ReleaseLog, path: Path, version: str) -> str:
    release = log.register(path, version, actor="ann", reason="a test")
    log.promote(release.release_id, actor="ann", reason="a test", evidence={})
    return release.release_id


@pytest.fixture
def following(tmp_path: Path, releases: ReleaseLog) -> FastAPI:
    # an hour: the tests call `follow` themselves, at the moment that they want
    url = f"sqlite:///{tmp_path}/releases.db"
    return create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=3600))


@pytest.fixture
async def client(following: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(following) as client:
        yield client


async def version_of(client: httpx.AsyncClient, tx_id: str) -> str:
    answer = await client.post("/v1/score", json=body(tx_id))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["bundle_version"])


async def test_every_release_is_loaded_for_the_configured_provider(
    tmp_path: Path, releases: ReleaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.serving_bundle.require_provider", lambda provider: None)
    asked: list[str] = []
    load = FakeBundle.load

    def loaded(path: Path, *, teacher: bool, provider: str) -> FakeBundle:
        asked.append(provider)
        return load(path, teacher=teacher, provider=provider)

    monkeypatch.setattr(FakeBundle, "load", loaded)
    promote(releases, write_bundle(tmp_path / "b", B), B)
    url = f"sqlite:///{tmp_path}/releases.db"
    async with running(create_app(settings_for(tmp_path / "state", releases=url, provider="cuda"))):
        assert asked == ["cuda", "cuda"]  # the champion, and the one before it


async def test_a_promotion_and_a_rollback_are_followed_without_a_failed_request(
    client: httpx.AsyncClient, following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    bundles = following.state.service.bundles
    seen: list[str] = []
    stop = asyncio.Event()

    async def keep_sending(name: str) -> None:
        number = 0
        while not stop.is_set():
            seen.append(await version_of(client, f"{name}-{number}"))
            number += 1

    senders = [asyncio.create_task(keep_sending(f"sender-{number}")) for number in range(3)]
    promote(releases, write_bundle(tmp_path / "b", B), B)
    await bundles.follow()
    assert await version_of(client, "after-promotion") == B
    champion = releases.champion()
    assert champion is not None
    releases.rollback(actor="monitor", reason="harm", evidence={"p": 0.001})
    await bundles.follow()
    assert await version_of(client, "after-rollback") == A
    stop.set()
    await asyncio.gather(*senders)
    assert A in seen
    assert following.state.service.parts.log.verify().entries == len(seen) + 2


async def test_a_rollback_needs_no_loading(
    client: httpx.AsyncClient, following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    promote(releases, write_bundle(tmp_path / "b", B), B)
    await following.state.service.bundles.follow()
    (tmp_path / "a" / "fake.json").write_text("gone")
    releases.rollback(actor="monitor", reason="harm", evidence={})
    await following.state.service.bundles.follow()
    assert await version_of(client, "tx-1") == A


async def test_the_previous_bundle_shadows_the_champion_on_the_same_features(
    client: httpx.AsyncClient, following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    promote(releases, write_bundle(tmp_path / "b", B, shift=0.3), B)
    await following.state.service.bundles.follow()
    answer = await client.post("/v1/score", json=body("tx-1", 350))
    stored = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
    assert stored["student_score"] == pytest.approx(0.65)
    assert stored["shadow"] == {"bundle_version": A, "score": pytest.approx(0.35), "action": "allow"}
    assert (await ready(client))["previous_bundle_version"] == A


@pytest.mark.parametrize("wrong", [float("nan"), None])
async def test_a_shadow_that_fails_does_not_fail_the_decision(
    client: httpx.AsyncClient,
    following: FastAPI,
    releases: ReleaseLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: float | None,
) -> None:
    promote(releases, write_bundle(tmp_path / "b", B), B)
    await following.state.service.bundles.follow()
    shadow = following.state.service.bundles.warm.previous.student
    monkeypatch.setattr(shadow, "score", lambda _: SimpleNamespace(score=[wrong]))
    answer = await client.post("/v1/score", json=body("tx-1"))
    stored = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
    assert stored["shadow"] is None


@pytest.mark.parametrize(
    ("written", "fingerprint", "says"),
    [(None, "f1", "damaged"), (B, "f2", "other features"), (C, "f1", "not the released")],
)
async def test_a_bundle_that_must_not_serve_is_refused_once_and_the_old_one_stays(
    client: httpx.AsyncClient,
    following: FastAPI,
    releases: ReleaseLog,
    tmp_path: Path,
    written: str | None,
    fingerprint: str,
    says: str,
) -> None:
    path = tmp_path / "b"
    write_bundle(path, written or B, fingerprint=fingerprint)
    if written is None:
        (path / "fake.json").write_text("{")
    release_id = promote(releases, path, B)
    for _ in range(3):
        await following.state.service.bundles.follow()
    assert await version_of(client, "tx-1") == A
    said = await ready(client)
    assert said["bundle_version"] == A
    assert said["refused_release"] == release_id
    assert says in said["refused_reason"]
    assert "riskdistill_refused_bundles_total 1.0" in (await client.get("/metrics")).text
    promote(releases, write_bundle(tmp_path / "c", C), C)
    await following.state.service.bundles.follow()
    assert (await ready(client))["refused_release"] is None
    assert await version_of(client, "tx-2") == C


async def test_after_a_refused_release_the_bundle_that_served_shadows_the_next_one(
    client: httpx.AsyncClient, following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    bundles = following.state.service.bundles
    (write_bundle(tmp_path / "b", B) / "fake.json").write_text("{")
    promote(releases, tmp_path / "b", B)
    await bundles.follow()
    promote(releases, write_bundle(tmp_path / "c", C), C)
    await bundles.follow()
    said = await ready(client)
    assert (said["bundle_version"], said["previous_bundle_version"]) == (C, A)


async def test_a_refused_release_that_is_withdrawn_is_not_shown_any_more(
    client: httpx.AsyncClient, following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    bundles = following.state.service.bundles
    (write_bundle(tmp_path / "b", B) / "fake.json").write_text("{")
    promote(releases, tmp_path / "b", B)
    await bundles.follow()
    assert (await ready(client))["refused_release"] is not None
    releases.rollback(actor="monitor", reason="harm", evidence={})
    await bundles.follow()
    said = await ready(client)
    assert (said["bundle_version"], said["refused_release"], said["refused_reason"]) == (A, None, None)


async def test_after_a_restart_a_damaged_champion_leaves_the_previous_one_serving(
    following: FastAPI, releases: ReleaseLog, tmp_path: Path
) -> None:
    promote(releases, write_bundle(tmp_path / "b", B), B)
    (tmp_path / "b" / "fake.json").unlink()
    async with running(following) as client:
        said = await ready(client)
        assert said["bundle_version"] == A
        assert "damaged" in said["refused_reason"]


def bundles_served(app: FastAPI) -> tuple[str, str]:
    """The version that decides and the one that is kept warm."""
    warm = app.state.service.bundles.warm
    return warm.bundle.version, warm.previous.version


async def test_the_release_log_is_followed_in_the_background(tmp_path: Path, releases: ReleaseLog) -> None:
    url = f"sqlite:///{tmp_path}/releases.db"
    app = create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=0.001))
    async with running(app) as client:
        promote(releases, write_bundle(tmp_path / "b", B), B)
        async with asyncio.timeout(20):
            while (await ready(client))["bundle_version"] != B:
                await asyncio.sleep(0)
        assert bundles_served(app) == (B, A)


async def test_a_release_log_that_fails_for_a_while_is_asked_again(
    following: FastAPI, tmp_path: Path, releases: ReleaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/releases.db"
    app = create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=0.001))
    async with running(app) as client:
        bundles = app.state.service.bundles
        follow, failures = bundles.follow, iter(range(3))

        async def fail_at_first() -> None:
            if next(failures, None) is not None:
                raise OSError("gone")
            await follow()

        monkeypatch.setattr(bundles, "follow", fail_at_first)
        promote(releases, write_bundle(tmp_path / "b", B), B)
        async with asyncio.timeout(20):
            while (await ready(client))["bundle_version"] != B:
                await asyncio.sleep(0)
        assert bundles_served(app) == (B, A)
