"""The main job whole, on a tiny world: what it leaves, and that a stopped one goes on to the same result.

An export to ONNX takes seconds, so it is made once for equal weights; the rest of every run here is real.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score
from tiny_runs import Epochs, config_with, run_to

from pipelines import served
from pipelines.make_bundle import choose_thresholds
from pipelines.run import RunResult
from riskdistill.bundle import Bundle
from riskdistill.config import ServingConfig, ThresholdConfig
from riskdistill.dataset.card import DatasetCard
from riskdistill.errors import BundleIncompatibleError
from riskdistill.evaluation.metrics import MetricsReport
from riskdistill.features import Encoded
from riskdistill.models.boosted_trees import load_booster
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.training import score_logits
from riskdistill.simulator import Simulated

MODELS = {"boosted_trees", "student_scratch", "student", "teacher"}
MEASURES = {
    "pr_auc",
    "roc_auc",
    "f1",
    "precision_at_budget",
    "recall_at_budget",
    "recall_at_fpr",
    "ece",
    "recall_by_typology",
    "parameters",
    "bytes",
    "rows_per_second",
}
SPEEDS = {"rows_per_second", "speedup"}  # the clock's, and so never twice the same


def figures(result: RunResult) -> Any:
    """What `metrics.json` says, speeds aside."""
    return json.loads(
        result.metrics.read_text(),
        object_hook=lambda fields: {name: value for name, value in fields.items() if name not in SPEEDS},
    )


pytestmark = pytest.mark.usefixtures("one_export_of_equal_weights")


@pytest.fixture(scope="module")
def finished(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run that nothing interrupted."""
    return run_to(tmp_path_factory.mktemp("run"), simulated)


def test_metrics_have_the_promised_keys(finished: RunResult) -> None:
    told = json.loads(finished.metrics.read_text())
    assert told.keys() >= {"dataset", "models", "retention", "compression", "speedup"}
    assert told["models"].keys() == MODELS
    for model in told["models"].values():
        assert model.keys() == MEASURES | {"pr_auc_interval", "f1_threshold", "layers_saved"}
        assert model["precision_at_budget"].keys() == model["recall_at_budget"].keys() == {"0.001", "0.005", "0.01"}
    assert MetricsReport.model_validate(told) == finished.report
    assert finished.metrics == finished.page.parent / "metrics.json"


def test_the_page_shows_every_model_s_figures(finished: RunResult) -> None:
    page = finished.page.read_text()
    for model in finished.report.models.values():
        assert f"{model.pr_auc:.3f}" in page


def test_the_page_of_evidence_tells_whether_the_ensemble_beats_each_member(finished: RunResult) -> None:
    told = json.loads(finished.distillation.with_suffix(".json").read_text())["comparisons"]
    page, members = finished.distillation.read_text(), ("cross-fitted trees", "event transformer")
    assert {one["second"] for one in told if one["first"] == "teacher"} == {"boosted_trees", *members}
    for member in members:
        assert f"teacher against {member}: PR-AUC" in page


def test_the_bundle_scores_as_the_network_that_was_trained_and_judged(finished: RunResult) -> None:
    bundle = Bundle.load(finished.bundle.path)
    out, test = finished.bundle.path.parent, finished.dataset.test
    assert bundle.teacher is not None
    trained = EventTransformer.from_pretrained(out / "models" / "student")
    served = bundle.student.score_all(test.encoded)
    np.testing.assert_allclose(served.logit, score_logits(trained, test.encoded)[0], rtol=0, atol=1e-4)
    for role, scorer in (("student", bundle.student), ("teacher", bundle.teacher)):
        served = scorer.score_all(test.encoded)
        judged = finished.report.models[role]
        assert average_precision_score(test.label, served.score) == pytest.approx(judged.pr_auc, abs=1e-9)
        assert (bundle.manifest.parameters[role], scorer.bytes) == (judged.parameters, judged.bytes)


def test_every_model_names_the_dataset_it_was_trained_on(finished: RunResult) -> None:
    out, fingerprint = finished.bundle.path.parent, finished.dataset.fingerprint
    card = DatasetCard.model_validate_json((out / "dataset" / "card.json").read_text())
    assert card.fingerprint == finished.bundle.manifest.dataset_fingerprint == fingerprint
    for network in MODELS - {"boosted_trees"}:
        loaded = EventTransformer.from_pretrained(out / "models" / network)
        assert loaded.config.dataset_fingerprint == fingerprint
    load_booster(out / "models" / "boosted_trees.txt", dataset=fingerprint)
    for role in ("student", "teacher"):
        with pytest.raises(BundleIncompatibleError, match=fingerprint):
            OnnxScorer(finished.bundle.path / f"{role}.onnx", Calibrator(), dataset="another")
    model_card = (finished.bundle.path / "model_card.md").read_text()
    assert fingerprint in model_card
    assert all(limit in model_card for limit in card.limits)


def test_the_model_card_answers_a_reviewer_with_the_figures_of_the_run(finished: RunResult) -> None:
    card = (finished.bundle.path / "model_card.md").read_text()
    sections = dict(re.findall(r"## (.*)\n\n((?:(?!## ).*\n)*)", card))
    assert list(sections) == [
        "Purpose",
        "Data",
        "Performance",
        "Performance by typology",
        "Performance by part of the traffic",
        "Calibration",
        "Thresholds",
        "Limits",
        "Monitoring and fallback",
        "Human oversight",
        "Changes",
    ]
    assert all(text.strip() for text in sections.values())
    test, review = finished.dataset.test, finished.bundle.thresholds.review
    alert = finished.bundle.student.score_all(test.encoded).score >= review
    caught = (alert & test.label).sum() / test.label.sum()
    whole = re.search(r"\| all \| (.*) \|", sections["Performance by part of the traffic"])
    assert whole is not None
    rows, laundering, alerts, _, recall = whole[1].split(" | ")
    assert (rows, laundering) == (f"{len(test):,}", f"{test.label.sum():,}")
    assert (alerts, recall.split(" ")[0]) == (f"{alert.sum():,}", f"{caught:.1%}")
    typologies = re.findall(r"\| ([a-z_]+) \| [\d,]+ \| ([\d,]+) \|", sections["Performance by typology"])
    assert {name: int(count) for name, count in typologies} == finished.report.typology_counts
    assert "no statement that any rule is met" in " ".join(card.split())
    assert "compliant" not in card


def test_periods_follow_one_another_and_split_what_was_ingested(finished: RunResult) -> None:
    parts = finished.report.dataset
    rows = json.loads((finished.bundle.path.parent / "canonical" / "ingest.json").read_text())["rows_read"]
    assert (parts.train.rows, parts.test.rows) == pytest.approx((0.6 * rows, 0.2 * rows), rel=0.01)
    assert parts.train.end < parts.validation.start <= parts.validation.end < parts.test.start


def test_a_run_is_judged_by_the_truth(finished: RunResult, tiny_world: Simulated) -> None:
    test = finished.dataset.test
    true, recorded = (
        table["is_laundering"].to_numpy()[-len(test) :] for table in (tiny_world.truth, tiny_world.labels)
    )
    assert finished.report.dataset.test.laundering == true.sum() != recorded.sum()
    np.testing.assert_array_equal(test.label, true)
    assert finished.report.dataset.train.laundering <= tiny_world.labels["is_laundering"].to_numpy().sum()


def test_the_same_command_again_trains_nothing_and_tells_the_same(
    finished: RunResult, simulated: Path, tmp_path: Path, epochs: Epochs, done: Callable[..., str]
) -> None:
    before, out = figures(finished), finished.bundle.path.parent
    config = tmp_path / "tiny.yaml"
    config.write_text(config_with().model_dump_json(exclude_unset=True))  # JSON is YAML
    told = done("run", config, "--input", simulated, "--out", out)
    assert epochs.trained == []
    assert figures(finished) == before
    for name, model in finished.report.models.items():
        assert f"{name.replace('_', ' ')} {model.pr_auc:.3f}" in told
    made = f"report {finished.page} distillation {finished.distillation} metrics {finished.metrics}"
    assert f"{made} bundle {finished.bundle.path}" in told


def test_an_interrupted_run_goes_on_to_the_same_result(
    finished: RunResult, simulated: Path, tmp_path: Path, epochs: Epochs
) -> None:
    epochs.stop_at = "student_scratch", 1
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path, simulated)
    assert epochs.trained == [("teacher", 0), ("teacher", 1), ("student_scratch", 0)]
    assert not (tmp_path / "bundle").exists()
    epochs.stop_at, epochs.trained = None, []
    resumed = run_to(tmp_path, simulated)
    assert epochs.trained == [("student_scratch", 1), ("student", 0), ("student", 1)]
    assert figures(resumed) == figures(finished)


@pytest.mark.parametrize(
    ("changes", "network"),
    [
        ({"mix": {"max_rows": 900}}, "teacher"),
        ({"split": {"leave_out": ["structuring"]}}, "teacher"),
        ({"training": {"learning_rate": 5e-4}}, "teacher"),
        ({"teacher": {"pieces": 500}}, "teacher"),
        ({"student_training": {"learning_rate": 5e-4}}, "student_scratch"),
        ({"student": {"pieces": 2_000}}, "student_scratch"),
        ({"distillation": {"temperature": {"start": 4.0}}}, "student"),
    ],
    ids=["rows", "split", "teacher-training", "teacher-size", "student-training", "student-size", "distillation"],
)
def test_a_checkpoint_of_other_settings_is_not_used(
    finished: RunResult,
    simulated: Path,
    tmp_path: Path,
    epochs: Epochs,
    changes: Mapping[str, Any],
    network: str,
) -> None:
    shutil.copytree(finished.bundle.path.parent / "checkpoints", tmp_path / "checkpoints")
    epochs.stop_at = network, 0
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path, simulated, config_with(changes))
    assert epochs.trained == []  # those before it are as they were, and came from their checkpoints


@given(
    scores=arrays(np.float64, st.tuples(st.just(2), st.integers(1, 200)), elements=st.floats(0, 1)),
    review=st.floats(0.001, 0.2),
    width=st.floats(0, 1),
)
def test_thresholds_keep_the_alert_budgets_of_the_routed_service(
    scores: np.typing.NDArray[np.float64], review: float, width: float
) -> None:
    student, teacher = scores
    serving = ServingConfig(review=ThresholdConfig(budget=review), hold_budget=review / 4, uncertain_width=width)
    label = np.zeros(len(student), bool)
    thresholds = choose_thresholds(student, teacher, label, 1.0, serving)  # it refuses a wrong order by itself
    asked = [thresholds.bypass(score) is not None for score in student]
    decided = np.where(asked, teacher, student)
    assert (decided > thresholds.review).sum() <= math.ceil(review * len(decided))
    assert (decided > thresholds.hold).sum() <= math.ceil(review / 4 * len(decided))


def test_speed_is_of_whole_batches_in_order() -> None:
    rows = Encoded(np.arange(10, dtype=np.float32)[:, None], np.zeros((10, 2, 1), np.float32))
    seen: list[list[float]] = []
    config = config_with({"evaluation": {"timing_rows": 7, "batch_size": 3}}).evaluation
    speed = served.measure_speed(rows, config, lambda batch: seen.append(batch.context[:, 0].tolist()))
    assert seen == [[0, 1, 2]] + 3 * [[0, 1, 2], [3, 4, 5], [6]]
    assert speed > 0
