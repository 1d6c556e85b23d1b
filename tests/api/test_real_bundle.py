"""With a real, small bundle: what HTTP answers is what the same bundle scores offline."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from fake_serving import running, settings_for

from api.app import create_app
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import transactions_from

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _fake_bundles() -> None:
    """Nothing is faked here."""


@pytest.fixture
async def client(tmp_path: Path, tiny_bundle: Bundle) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(tmp_path / "state", bundle=tiny_bundle.path, teacher_deadline_ms=20_000)
    async with running(create_app(settings)) as client:
        yield client


async def test_scores_over_http_are_the_bundle_s_own(
    client: httpx.AsyncClient, tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table]
) -> None:
    traffic = tiny_tables[0].slice(0, 240)
    bodies = [transaction.model_dump(mode="json") for transaction in transactions_from(traffic)]
    answers = [(await client.post("/v1/score", json=one)).json() for one in bodies[:40]]
    batch = await client.post("/v1/score/batch", json={"transactions": bodies[40:]})
    answers += [item["decision"] for item in batch.json()["results"]]
    rows = tiny_bundle.engine().encode(traffic)
    assert tiny_bundle.teacher is not None
    expected = {"student": tiny_bundle.student.score(rows).score, "teacher": tiny_bundle.teacher.score(rows).score}
    assert {answer["route"] for answer in answers} == {"student", "teacher"}
    for row, answer in enumerate(answers):
        assert answer["score"] == pytest.approx(expected[answer["route"]][row], abs=1e-6)
        stored = (await client.get(f"/v1/decisions/{answer['decision_id']}")).json()
        assert stored["student_score"] == pytest.approx(expected["student"][row], abs=1e-6)
        assert (answer["action"] == "allow") == (stored["typology"] is None)
        assert stored["typology"] != "normal"
        assert answer["action"] != "allow" or answer["reasons"] == []
    assert any(answer["reasons"] for answer in answers)


async def test_a_bundle_with_a_changed_byte_keeps_the_service_down_and_is_named(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    damaged = Path(shutil.copytree(tiny_bundle.path, tmp_path / "damaged"))
    content = bytearray((damaged / "student.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "student.onnx").write_bytes(content)
    app = create_app(settings_for(tmp_path / "state", bundle=damaged))
    async with running(app, wait=False) as client:
        while app.state.service.failure is None:
            await asyncio.sleep(0)
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "student.onnx" in answer.json()["detail"]
