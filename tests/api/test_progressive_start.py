"""The student serves before the teacher is there, and says so; a teacher that never comes stops nobody."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fake_serving import FakeBundle, body, ready, running, settings_for, write_bundle

from api.app import create_app
from api.serving_bundle import ServingBundle, Warm
from riskdistill.errors import BundleIncompatibleError
from riskdistill.features.encoded import Encoded
from riskdistill.storage.releases import ReleaseLog

pytestmark = pytest.mark.anyio
HIGH = 950.0


@pytest.fixture
def may_load(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Teachers load only when this is set."""
    event, load = threading.Event(), FakeBundle.load_teacher

    def waiting(bundle: FakeBundle, first: Encoded | None = None) -> None:
        event.wait(timeout=20)
        load(bundle, first)

    monkeypatch.setattr(FakeBundle, "load_teacher", waiting)
    return event


async def test_the_student_decides_until_the_teacher_is_loaded(
    tmp_path: Path, bundle: Path, may_load: threading.Event
) -> None:
    async with running(create_app(settings_for(tmp_path / "state", bundle=bundle)), wait=False) as client:
        while (answer := await client.get("/readyz")).status_code != 200:
            pass
        assert (answer.json()["teacher"], answer.json()["teacher_state"]) == (False, "loading")
        early = (await client.post("/v1/score", json=body("tx-1", HIGH))).json()
        assert early["route"] == "student_degraded"
        stored = (await client.get(f"/v1/decisions/{early['decision_id']}")).json()
        assert stored["route_reason"] == "teacher_not_loaded"
        assert "riskdistill_teacher_loaded 0.0" in (await client.get("/metrics")).text
        may_load.set()
        said = await ready(client)
        assert (said["teacher"], said["teacher_state"]) == (True, "loaded")
        assert (await client.post("/v1/score", json=body("tx-2", HIGH))).json()["route"] == "teacher"
        assert "riskdistill_teacher_loaded 1.0" in (await client.get("/metrics")).text


async def test_a_teacher_that_cannot_be_loaded_leaves_the_student_and_is_told(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise BundleIncompatibleError("its teacher's parts do not belong together")

    monkeypatch.setattr(FakeBundle, "load_teacher", fail)
    async with running(create_app(settings_for(tmp_path / "state", bundle=bundle))) as client:
        assert (await ready(client))["teacher_state"] == "failed"
        assert (await client.post("/v1/score", json=body("tx-1", HIGH))).json()["route"] == "student_degraded"


async def test_a_bundle_without_a_teacher_says_none(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "alone", teacher="none")
    async with running(create_app(settings_for(tmp_path / "state", bundle=bundle))) as client:
        assert (await ready(client))["teacher_state"] == "none"


async def test_a_later_release_takes_over_with_its_teacher_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    had_teacher: list[bool] = []
    swap = ServingBundle._swap

    def noting(self: ServingBundle, warm: Warm) -> None:
        had_teacher.append(warm.bundle.teacher is not None)
        swap(self, warm)

    monkeypatch.setattr(ServingBundle, "_swap", noting)
    url = f"sqlite:///{tmp_path}/releases.db"
    releases = ReleaseLog(url)
    promote(releases, tmp_path, "a" * 16)
    async with running(create_app(settings_for(tmp_path / "state", releases=url, follow_seconds=0.01))) as client:
        promote(releases, tmp_path, "b" * 16)
        while (await ready(client))["bundle_version"] != "b" * 16:
            pass
    assert had_teacher == [False, True]
    releases.close()


def promote(releases: ReleaseLog, folder: Path, version: str) -> None:
    release = releases.register(write_bundle(folder / version, version), version, actor="ann", reason="a test")
    releases.promote(release.release_id, actor="ann", reason="a test", evidence={})
