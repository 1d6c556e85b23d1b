"""The served ensemble scores as its parts do, in batches of any size, and takes no part of another dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from riskdistill.bundle import Bundle, write_bundle
from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.dataset import Dataset
from riskdistill.errors import (
    BundleDamagedError,
    BundleIncompatibleError,
    RiskDistillError,
    TrainingError,
    UnreadableFileError,
)
from riskdistill.features import Encoded
from riskdistill.models import onnx_model
from riskdistill.models.boosted_trees import fit_trees
from riskdistill.models.calibration import Calibrator, prior_shift
from riskdistill.models.cross_fitting import CrossFittedTrees, cross_fit
from riskdistill.models.ensemble import Gate, load_gate
from riskdistill.models.ensemble_scorer import GATE, ONNX, TREES, EnsembleScorer, save_served
from riskdistill.models.training import score_logits

CALIBRATOR = Calibrator(slope=0.5, intercept=0.1)
SMALL = TreeCandidate(num_leaves=7, learning_rate=0.1, feature_fraction=0.5, min_data_in_leaf=5, rounds=5)


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> Encoded:
    return tiny_dataset.test.encoded


@pytest.fixture(scope="module")
def shift(tiny_dataset: Dataset) -> float:
    return prior_shift(tiny_dataset.prevalence, tiny_dataset.mixed_prevalence)


@pytest.fixture(scope="module")
def trees(tiny_dataset: Dataset) -> CrossFittedTrees:
    train = tiny_dataset.train_context, tiny_dataset.train_label
    validation = tiny_dataset.validation.encoded.context, tiny_dataset.validation.label
    chosen = fit_trees(train, validation, BoostedTreesConfig(candidates=(SMALL,)), seed=1)
    return cross_fit(train, chosen, seed=1, dataset=tiny_dataset.fingerprint)


@pytest.fixture(scope="module")
def gate(tiny_dataset: Dataset, tiny_run: tiny.TinyRun, trees: CrossFittedTrees, shift: float) -> Gate:
    """With weights by transaction, so that every part of it is served."""
    period = tiny_dataset.validation
    known = trees.score_logits(period.encoded.context), score_logits(tiny_run.teacher, period.encoded)[0] + shift
    fitted = Gate.fit(("boosted_trees", "teacher"), np.array(known), period.encoded, period.label)
    return fitted.model_copy(
        update={"by_transaction": ((0.1, -0.2, 0.3, 0.1), (-0.1, 0.2, 0.1, 0.2)), "reach": (1.0,) * 4}
    )


@pytest.fixture(scope="module")
def served(
    tiny_dataset: Dataset,
    tiny_run: tiny.TinyRun,
    trees: CrossFittedTrees,
    gate: Gate,
    shift: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    shutil.copy(tiny_run.onnx["teacher"], folder / ONNX)
    for number, member in enumerate(trees.members):
        member.save(folder / TREES.format(number), dataset=tiny_dataset.fingerprint)
    save_served(gate, shift, folder)
    return folder


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(served, tmp_path / "copied"))


@pytest.fixture(scope="module")
def scorer(served: Path, tiny_dataset: Dataset) -> EnsembleScorer:
    return EnsembleScorer(served, CALIBRATOR, dataset=tiny_dataset.fingerprint)


def test_the_served_ensemble_scores_as_its_parts_do(
    scorer: EnsembleScorer,
    tiny_run: tiny.TinyRun,
    trees: CrossFittedTrees,
    gate: Gate,
    shift: float,
    rows: Encoded,
) -> None:
    scored = scorer.score(rows)
    logits, typologies = score_logits(tiny_run.teacher, rows)
    expected = gate.combine(np.array([trees.score_logits(rows.context), logits + shift]), rows)
    np.testing.assert_allclose(scored.logit, expected, atol=1e-3)
    np.testing.assert_array_equal(scored.score, CALIBRATOR(scored.logit))
    powers = np.exp(typologies)
    np.testing.assert_allclose(scored.typology, powers / powers.sum(-1, keepdims=True), atol=1e-4)


def test_what_its_network_gave_somewhere_else_becomes_its_own_scores(
    scorer: EnsembleScorer, served: Path, rows: Encoded
) -> None:
    network = onnx_model.open_session(served / ONNX)
    logit, typology_logits = network.run(None, {"context": rows.context, "events": rows.events})
    finished, own = scorer.finish(rows, logit, typology_logits), scorer.score(rows)
    np.testing.assert_array_equal(finished.score, own.score)
    np.testing.assert_array_equal(finished.typology, own.typology)
    assert scorer.finish(rows, logit, typology_logits[:, :0]).typology.shape == (len(rows), 0)


def test_a_row_scores_alone_as_in_a_batch(scorer: EnsembleScorer, rows: Encoded) -> None:
    batch = rows.take(slice(0, 32))
    alone = [scorer.score(batch.take(slice(row, row + 1))).score[0] for row in range(32)]
    np.testing.assert_allclose(alone, scorer.score(batch).score, atol=1e-6)


def test_no_rows_have_no_scores(scorer: EnsembleScorer, rows: Encoded) -> None:
    empty = rows.take(slice(0, 0))
    for scored in (scorer.score(empty), scorer.score_all(empty)):
        assert scored.score.shape == scored.logit.shape == (0,)
        assert scored.typology.shape == (0, scorer.score(rows.take(slice(0, 1))).typology.shape[1])


def test_many_rows_score_as_in_one_batch(
    scorer: EnsembleScorer, rows: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scorer.score(rows)
    monkeypatch.setattr(onnx_model, "ROWS_AT_A_TIME", 100)
    parts = scorer.score_all(rows)
    np.testing.assert_allclose(parts.score, whole.score, atol=1e-6)
    assert parts.typology.shape == whole.typology.shape


def test_its_size_is_that_of_its_files(scorer: EnsembleScorer, served: Path) -> None:
    assert scorer.bytes == sum(file.stat().st_size for file in served.iterdir())


def test_parts_of_another_dataset_are_refused(copied: Path, trees: CrossFittedTrees, tiny_dataset: Dataset) -> None:
    with pytest.raises(BundleIncompatibleError, match="trained on dataset"):
        EnsembleScorer(copied, CALIBRATOR, dataset="another")
    trees.members[2].save(copied / TREES.format(2), dataset="another")
    with pytest.raises(BundleIncompatibleError, match="gate was fitted for other files"):
        EnsembleScorer(copied, CALIBRATOR, dataset=tiny_dataset.fingerprint)
    save_served(load_gate(copied / GATE), 0.0, copied)
    with pytest.raises(TrainingError, match="trees of a dataset another"):
        EnsembleScorer(copied, CALIBRATOR, dataset=tiny_dataset.fingerprint)


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        (GATE, UnreadableFileError),
        (ONNX, BundleDamagedError),
        (TREES.format("*"), BundleIncompatibleError),
        (TREES.format("3"), BundleIncompatibleError),
    ],
)
def test_a_missing_part_is_refused(
    copied: Path, tiny_dataset: Dataset, pattern: str, error: type[RiskDistillError]
) -> None:
    for file in copied.glob(pattern):
        file.unlink()
    with pytest.raises(error):
        EnsembleScorer(copied, CALIBRATOR, dataset=tiny_dataset.fingerprint)


def bundled(dataset: Dataset, run: tiny.TinyRun, parts: Path, folder: Path) -> Bundle:
    calibrators = {"student": Calibrator(), "teacher": CALIBRATOR}
    told = tiny.bundle_parts(dataset, calibrators, run.onnx["student"], folder)
    models = [run.onnx["student"], *sorted(parts.iterdir())]
    return write_bundle(folder / "bundle", told, models)


def test_a_bundle_serves_the_ensemble_as_its_teacher(
    scorer: EnsembleScorer,
    tiny_dataset: Dataset,
    tiny_run: tiny.TinyRun,
    served: Path,
    rows: Encoded,
    tmp_path: Path,
) -> None:
    loaded = Bundle.load(bundled(tiny_dataset, tiny_run, served, tmp_path).path)
    assert loaded.teacher is not None
    np.testing.assert_array_equal(loaded.teacher.score(rows).score, scorer.score(rows).score)


def test_the_provider_of_a_bundle_computes_the_ensemble_s_network(
    tiny_dataset: Dataset,
    tiny_run: tiny.TinyRun,
    served: Path,
    shift: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = bundled(tiny_dataset, tiny_run, served, tmp_path)
    asked: list[str] = []
    open_session = onnx_model.open_session

    def opened(path: Path, threads: int, provider: str, dataset: str) -> Any:
        asked.append(provider)
        return open_session(path, threads, dataset=dataset)

    monkeypatch.setattr(onnx_model, "open_session", opened)
    Bundle.load(made.path, provider="cuda")
    assert asked == ["cuda", "cuda"]


def test_a_bundle_with_trees_of_another_dataset_is_refused(
    tiny_dataset: Dataset, tiny_run: tiny.TinyRun, trees: CrossFittedTrees, copied: Path, tmp_path: Path
) -> None:
    trees.members[0].save(copied / TREES.format(0), dataset="another")
    with pytest.raises(BundleIncompatibleError, match="fitted for other files"):
        bundled(tiny_dataset, tiny_run, copied, tmp_path)
    save_served(load_gate(copied / GATE), 0.0, copied)
    with pytest.raises(BundleIncompatibleError, match="do not belong together"):
        bundled(tiny_dataset, tiny_run, copied, tmp_path)
