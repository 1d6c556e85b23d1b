"""What is served scores as what was trained, in batches of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError, BundleIncompatibleError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models import onnx_export, onnx_model
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.training import score_logits

ROLES = ("student", "teacher")


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> Encoded:
    return tiny_dataset.test.encoded


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("size", [0, 1, 5, 64])
def test_served_logits_are_the_trained_model_s(tiny_run: tiny.TinyRun, rows: Encoded, role: str, size: int) -> None:
    batch = rows.take(slice(0, size))
    scored = OnnxScorer(tiny_run.onnx[role], Calibrator()).score(batch)
    logits, typologies = score_logits(getattr(tiny_run, role), batch)
    assert scored.logit.shape == scored.score.shape == (size,)
    np.testing.assert_allclose(scored.logit, logits, atol=1e-4)
    assert scored.typology.shape == typologies.shape
    powers = np.exp(typologies)
    np.testing.assert_allclose(scored.typology, powers / powers.sum(-1, keepdims=True), atol=1e-4)


def test_a_row_scores_alone_as_in_a_batch(tiny_run: tiny.TinyRun, rows: Encoded, role: str) -> None:
    scorer = OnnxScorer(tiny_run.onnx[role], Calibrator())
    batch = rows.take(slice(0, 64))
    together = scorer.score(batch)
    alone = [scorer.score(batch.take(slice(row, row + 1))) for row in range(64)]
    np.testing.assert_allclose([one.score[0] for one in alone], together.score, atol=1e-6)
    np.testing.assert_allclose([one.typology[0] for one in alone], together.typology, atol=1e-6)
    backwards = scorer.score(batch.take(np.arange(63, -1, -1)))
    np.testing.assert_allclose(backwards.score[::-1], together.score, atol=1e-6)


def test_many_rows_score_as_in_one_batch(
    tiny_run: tiny.TinyRun, rows: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = OnnxScorer(tiny_run.onnx["student"], Calibrator(slope=2.0))
    whole = scorer.score(rows)
    monkeypatch.setattr(onnx_model, "ROWS_AT_A_TIME", 100)
    parts = scorer.score_all(rows)
    np.testing.assert_allclose(parts.score, whole.score, atol=1e-6)
    assert parts.typology.shape == whole.typology.shape
    assert len(scorer.score_all(rows.take(slice(0, 0))).score) == 0


def test_scores_are_the_calibrator_s_of_the_logits(tiny_run: tiny.TinyRun, rows: Encoded) -> None:
    calibrator = Calibrator(prior_shift=-2.0, slope=0.5, intercept=0.1)
    scored = OnnxScorer(tiny_run.onnx["student"], calibrator).score(rows)
    np.testing.assert_array_equal(scored.score, calibrator(scored.logit))


def test_an_export_that_differs_is_refused(
    tiny_run: tiny.TinyRun, rows: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differs from PyTorch"):
        onnx_export.export_onnx(tiny_run.student, tmp_path / "x.onnx", rows)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BundleDamagedError, match=r"x\.onnx"):
        OnnxScorer(tmp_path / "x.onnx", Calibrator())


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_refused(
    tiny_run: tiny.TinyRun, provider: onnx_model.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BundleIncompatibleError, match=r"no .*ExecutionProvider.*provider to cpu"):
        OnnxScorer(tiny_run.onnx["student"], Calibrator(), provider=provider)


def test_a_provider_that_cannot_start_is_refused(tiny_run: tiny.TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists what it was built with; without the GPU's libraries it falls back to the CPU."""
    everything = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    start = onnx_model.ort.InferenceSession
    monkeypatch.setattr(onnx_model.ort, "get_available_providers", lambda: everything)
    monkeypatch.setattr(
        onnx_model.ort, "InferenceSession", lambda path, options, providers: start(path, options, providers[-1:])
    )
    with pytest.raises(BundleIncompatibleError, match="CUDAExecutionProvider"):
        OnnxScorer(tiny_run.onnx["student"], Calibrator(), provider="cuda")
