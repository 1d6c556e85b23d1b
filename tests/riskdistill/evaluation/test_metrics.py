"""The report's figures, its keys, and the inputs that cannot be measured."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from riskdistill.config import EvaluationConfig
from riskdistill.errors import DataError
from riskdistill.evaluation.metrics import (
    MODELS,
    DatasetFacts,
    MetricsReport,
    ModelFacts,
    PeriodFacts,
    ScoredPeriod,
    evaluate,
)

DAY = PeriodFacts(
    rows=2_000,
    laundering=100,
    start=datetime(2026, 1, 1, tzinfo=UTC),
    end=datetime(2026, 1, 2, tzinfo=UTC),
)
DATASET = DatasetFacts(name="made up", fingerprint="f" * 16, train=DAY, validation=DAY, test=DAY)
FACTS = {
    name: ModelFacts(parameters=parameters, bytes=4 * parameters, rows_per_second=speed)
    for name, parameters, speed in zip(MODELS, (2_000, 5_000, 5_000, 100_000), (9e4, 2e4, 2e4, 1e3), strict=True)
}


def period(name: str, seed: int, rows: int = 2_000) -> ScoredPeriod:
    random = np.random.default_rng(seed)
    labels = random.random(rows) < 0.05
    strength = dict(zip(MODELS, (2.0, 1.8, 2.4, 2.5), strict=True))
    shared = random.normal(size=rows)
    scores = {
        model: 1 / (1 + np.exp(-(shared + 0.3 * random.normal(size=rows) + gap * labels - 3)))
        for model, gap in strength.items()
    }
    typologies = np.where(random.random(rows) < 0.5, "fan_in", "cycle")
    return ScoredPeriod(name=name, labels=labels, typologies=typologies, scores=scores)


@pytest.fixture(scope="module")
def report() -> MetricsReport:
    return evaluate(period("validation", 1), period("test", 2), FACTS, DATASET, EvaluationConfig())


def test_report_has_the_promised_keys(report: MetricsReport) -> None:
    content = json.loads(report.model_dump_json())
    assert {"dataset", "models", "retention", "compression", "speedup"} <= set(content)
    assert set(content["models"]) == set(MODELS)
    for model in content["models"].values():
        assert {
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
        } <= set(model)
        assert list(model["recall_at_budget"]) == ["0.001", "0.005", "0.01"]
        assert set(model["recall_by_typology"]) == {"cycle", "fan_in"}
    assert content["dataset"]["test"]["prevalence"] == 0.05


def test_ratios_compare_student_with_teacher(report: MetricsReport) -> None:
    student, teacher = report.models["student"], report.models["teacher"]
    assert report.retention == student.pr_auc / teacher.pr_auc
    assert report.retention_interval[0] < report.retention < report.retention_interval[1]
    assert (report.compression, report.speedup) == (20.0, 20.0)
    assert report.distillation_gain is not None
    assert report.distillation_gain_interval is not None
    low, high = report.distillation_gain_interval
    assert low < report.distillation_gain < high
    assert report.trees_ratio == student.pr_auc / report.models["boosted_trees"].pr_auc


def test_budget_figures_agree_with_one_another(report: MetricsReport) -> None:
    test = period("test", 2)
    laundering = int(test.labels.sum())
    for model in report.models.values():
        for budget in ("0.001", "0.005", "0.01"):
            caught = model.precision_at_budget[budget] * round(float(budget) * 2_000)
            assert caught == pytest.approx(model.recall_at_budget[budget] * laundering)
        by_typology = sum(
            recall * report.typology_counts[name] for name, recall in model.recall_by_typology.items()
        )
        assert by_typology == pytest.approx(model.recall_at_budget["0.005"] * laundering)


def test_report_survives_json(report: MetricsReport) -> None:
    assert MetricsReport.model_validate_json(report.model_dump_json()) == report


def test_baselines_may_be_left_out() -> None:
    pair = {name: FACTS[name] for name in ("student", "teacher")}

    def without_baselines(whole: ScoredPeriod) -> ScoredPeriod:
        return ScoredPeriod(
            name=whole.name,
            labels=whole.labels,
            typologies=whole.typologies,
            scores={name: whole.scores[name] for name in pair},
        )

    report = evaluate(
        without_baselines(period("validation", 1)),
        without_baselines(period("test", 2)),
        pair,
        DATASET,
        EvaluationConfig(),
    )
    assert report.distillation_gain is None
    assert report.trees_ratio_interval is None


@pytest.mark.parametrize(
    ("labels", "scores", "complaint"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "no laundering transaction among 3 rows"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "no normal transaction among 3 rows"),
        ([], [], "no laundering transaction among 0 rows"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "not one true or false"),
        ([0, 1, 0], [0.1, float("nan"), 0.3], "the first is nan in row 1"),
        ([0, 1, 0], [0.1, 0.2, 1.5], "the first is 1.5 in row 2"),
        ([0, 1, 0], [0.1, 0.2], r"shape \(2,\) for 3 labels"),
        ([0, 1, 0], [[0.1], [0.2], [0.3]], r"shape \(3, 1\) for 3 labels"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels: list[int], scores: list[float], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        ScoredPeriod(
            name="test",
            labels=np.array(labels),
            typologies=["normal"] * len(labels),
            scores={"student": np.array(scores)},
        )


def test_typologies_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="1 typologies for 2 labels"):
        ScoredPeriod(name="test", labels=np.array([True, False]), typologies=["cycle"], scores={})


def test_model_without_facts_is_refused() -> None:
    facts = {name: FACTS[name] for name in FACTS if name != "teacher"}
    with pytest.raises(DataError, match="model teacher: needs"):
        evaluate(period("validation", 1), period("test", 2), facts, DATASET, EvaluationConfig())
