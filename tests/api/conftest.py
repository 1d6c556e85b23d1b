"""Fixture strategy: the whole application with a small fake bundle, in-process over ASGI.

Tests are coroutines on asyncio. `app` serves one fixed bundle; tests that need another teacher, releases or a
restart make their own with `create_app`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fake_serving
import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _fake_bundles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in ("api.serving_bundle", "riskdistill.releasing"):
        monkeypatch.setattr(f"{module}.Bundle", fake_serving.FakeBundle)
    monkeypatch.setattr("api.serving_bundle.explain", fake_serving.fake_explain)
    monkeypatch.setattr("api.path.alert_reasons.explain", fake_serving.fake_explain)
    monkeypatch.setattr("api.desk.explanation.explain", fake_serving.fake_explain)
    fake_serving.LateTeacher.may_answer.clear()
    yield
    fake_serving.LateTeacher.may_answer.set()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fake_serving.write_bundle(tmp_path / "bundle")


@pytest.fixture
def app(tmp_path: Path, bundle: Path) -> FastAPI:
    return create_app(fake_serving.settings_for(tmp_path / "state", bundle=bundle))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with fake_serving.running(app) as client:
        yield client
