"""With a real, small bundle: what HTTP answers is what the same bundle scores offline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fake_serving import body, running, settings_for

from api.app import create_app
from riskdistill.bundle import Bundle, BundleParts, Thresholds, write_bundle
from riskdistill.data.transaction import Transaction, to_table
from riskdistill.features import FeatureEngine
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer

pytestmark = pytest.mark.anyio
TYPOLOGIES = ("normal", "fan_in", "unlisted")


def traffic(count: int) -> list[dict[str, Any]]:
    rng = random.Random(5)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        body(
            f"tx-{number}",
            round(rng.lognormvariate(6, 2), 2),
            timestamp=(start + timedelta(minutes=7.3 * number)).isoformat(),
            sender_account=f"account-{rng.randrange(8)}",
            receiver_account=f"account-{rng.randrange(8)}",
        )
        for number in range(count)
    ]


BODIES = traffic(80)


@pytest.fixture(autouse=True)
def _fake_bundles() -> None:
    """Nothing is faked here."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An untrained student and teacher, with thresholds at quantiles of the student's own scores."""
    folder = tmp_path_factory.mktemp("bundle")
    engine = FeatureEngine()
    rows = engine.replay(to_table(Transaction.model_validate(one) for one in BODIES))
    models: dict[str, Path] = {}
    for role, width in (("student", 8), ("teacher", 16)):
        torch.manual_seed(width)
        config = EventTransformerConfig(
            features=rows.context.shape[1],
            events_per_party=engine.spec.events_per_party,
            width=width,
            layers=1,
            heads=2,
            bins=4,
            context_width=16,
            typologies=TYPOLOGIES,
            feature_fingerprint=engine.spec.fingerprint,
        )
        models[role] = folder / f"{role}.onnx"
        export_onnx(EventTransformer(config), models[role], rows)
    student_scores = OnnxScorer(models["student"], Calibrator()).score(rows).score
    review, low, high, hold, risk = (float(q) for q in np.quantile(student_scores, [0.4, 0.5, 0.7, 0.8, 0.9]))
    parts = BundleParts(
        name="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        dataset_fingerprint="d",
        spec=engine.spec,
        typologies=TYPOLOGIES,
        thresholds=Thresholds(review=review, hold=hold, uncertain_low=low, uncertain_high=high, high_risk=risk),
        calibrators={"student": Calibrator(), "teacher": Calibrator()},
        typical=np.median(np.nan_to_num(rows.context), axis=0),
        spread=np.ones(rows.context.shape[1], np.float32),
        profile={},
        reference=None,
        model_card="# test",
    )
    return write_bundle(folder / "bundle", parts, models)


@pytest.fixture
async def client(tmp_path: Path, bundle: Bundle) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(tmp_path / "state", bundle=bundle.path, teacher_deadline_ms=20_000)
    async with running(create_app(settings)) as client:
        yield client


async def test_scores_over_http_are_the_bundle_s_own(client: httpx.AsyncClient, bundle: Bundle) -> None:
    answers = [(await client.post("/v1/score", json=one)).json() for one in BODIES[:40]]
    batch = await client.post("/v1/score/batch", json={"transactions": BODIES[40:]})
    answers += [item["decision"] for item in batch.json()["results"]]
    rows = bundle.engine().replay(to_table(Transaction.model_validate(one) for one in BODIES))
    assert bundle.teacher is not None
    expected = {"student": bundle.student.score(rows).score, "teacher": bundle.teacher.score(rows).score}
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
    tmp_path: Path, bundle: Bundle
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in bundle.path.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
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
