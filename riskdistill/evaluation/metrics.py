"""Measures the models side by side on the test period; `MetricsReport` is the content of `metrics.json`.

What was chosen by looking at labels (the F1 threshold) was chosen on the validation period. Every model is
measured on the same rows at their natural prevalence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, computed_field
from sklearn.metrics import average_precision_score, roc_auc_score

from riskdistill.config.schema import EvaluationConfig
from riskdistill.errors import DataError
from riskdistill.evaluation import ranking
from riskdistill.evaluation.ranking import Floats, Labels

STUDENT: Final = "student"
TEACHER: Final = "teacher"
SCRATCH: Final = "student_scratch"
TREES: Final = "boosted_trees"
MODELS: Final = (TREES, SCRATCH, STUDENT, TEACHER)

Interval = tuple[float, float]  # the middle 95 % of the bootstrap


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(_Record):
    """What a model costs; rows per second at the same batch size, in the same run, on one thread."""

    parameters: int
    bytes: int
    rows_per_second: float
    layers_saved: float | None = None  # share of layer evaluations that early exits spare on the test period


class PeriodFacts(_Record):
    """One part of the split."""

    model_config = ConfigDict(extra="ignore")  # `prevalence` is written, and computed again when read

    rows: int
    laundering: int
    start: AwareDatetime
    end: AwareDatetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def prevalence(self) -> float:
        """Share of the rows that is laundering."""
        return self.laundering / self.rows if self.rows else 0.0


class DatasetFacts(_Record):
    """What the figures are measured on."""

    name: str
    fingerprint: str
    train: PeriodFacts
    validation: PeriodFacts
    test: PeriodFacts
    left_out: tuple[str, ...] = ()  # typologies that only the test period has


class ModelMetrics(ModelFacts):
    """One model on the test period; objects "at budget" are keyed by the share of traffic, as text."""

    pr_auc: float
    pr_auc_interval: Interval
    roc_auc: float
    f1: float
    f1_threshold: float
    precision_at_budget: dict[str, float]
    recall_at_budget: dict[str, float]
    recall_at_fpr: float
    ece: float
    recall_by_typology: dict[str, float]


class MetricsReport(_Record):
    """Everything measured; the first three ratios compare the student with the teacher."""

    dataset: DatasetFacts
    models: dict[str, ModelMetrics]
    retention: float  # PR-AUC, student / teacher
    retention_interval: Interval
    compression: float  # parameters, teacher / student
    speedup: float  # rows per second, student / teacher
    distillation_gain: float | None  # PR-AUC, student - student without teacher
    distillation_gain_interval: Interval | None
    trees_ratio: float | None  # PR-AUC, student / boosted trees
    trees_ratio_interval: Interval | None
    fpr: float
    typology_budget: float
    typology_counts: dict[str, int]  # laundering transactions of each typology in the test period


@dataclass(frozen=True)
class ScoredPeriod:
    """One period's truth and every model's calibrated scores, row for row.

    Args:
        name: `validation` or `test`, for error messages.
        labels: bool[n], what is laundering.
        typologies: n names, read where `labels` is true.
        scores: for each model, float64[n] in 0..1.

    Raises:
        DataError: nothing to measure, or scores that cannot be ranked and read as probabilities.
    """

    name: str
    labels: Labels
    typologies: NDArray[Any] | Sequence[str]
    scores: Mapping[str, Floats]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
            raise DataError("labels are not one true or false for each row", where=self.name)
        object.__setattr__(self, "labels", labels.astype(np.bool_))
        object.__setattr__(self, "typologies", np.asarray(self.typologies, dtype=object))
        if len(self.typologies) != len(labels):
            raise DataError(f"{len(self.typologies)} typologies for {len(labels)} labels", where=self.name)
        if self.labels.all() or not self.labels.any():
            kind = "normal" if len(labels) and self.labels.all() else "laundering"
            raise DataError(
                f"no {kind} transaction among {len(labels)} rows",
                where=f"{self.name} period",
                mend="choose a longer period, or check that the labels were joined",
            )
        checked = {model: self._checked(model, values) for model, values in self.scores.items()}
        object.__setattr__(self, "scores", checked)

    def _checked(self, model: str, values: Floats) -> Floats:
        where = f"{self.name} scores of {model}"
        scores = np.asarray(values, dtype=np.float64)
        if scores.shape != self.labels.shape:
            raise DataError(f"shape {scores.shape} for {len(self.labels)} labels", where=where)
        bad = ~((scores >= 0) & (scores <= 1))  # NaN compares false
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{int(bad.sum())} not within 0..1, the first is {scores[row]} in row {row}",
                where=where,
                mend="pass calibrated scores",
            )
        return scores


def evaluate(
    validation: ScoredPeriod,
    test: ScoredPeriod,
    facts: Mapping[str, ModelFacts],
    dataset: DatasetFacts,
    config: EvaluationConfig,
    seed: int = 7,
) -> MetricsReport:
    """Measures every model that `test` has scores of; student and teacher must be among them.

    Raises:
        DataError: a model lacks its facts or its validation scores, or student or teacher is missing.
    """
    for model in {*test.scores, STUDENT, TEACHER}:
        if not (model in test.scores and model in validation.scores and model in facts):
            raise DataError("needs validation scores, test scores and facts", where=f"model {model}")
    draws = ranking.bootstrap_pr_auc(test.labels, test.scores, seed=seed)
    models = {
        model: _measured(model, validation, test, facts[model], config, draws[model]) for model in test.scores
    }
    student, teacher = models[STUDENT], models[TEACHER]
    scratch, trees = models.get(SCRATCH), models.get(TREES)
    return MetricsReport(
        dataset=dataset,
        models=models,
        retention=student.pr_auc / teacher.pr_auc,
        retention_interval=_interval(draws[STUDENT] / draws[TEACHER]),
        compression=teacher.parameters / student.parameters,
        speedup=student.rows_per_second / teacher.rows_per_second,
        distillation_gain=student.pr_auc - scratch.pr_auc if scratch else None,
        distillation_gain_interval=_interval(draws[STUDENT] - draws[SCRATCH]) if scratch else None,
        trees_ratio=student.pr_auc / trees.pr_auc if trees else None,
        trees_ratio_interval=_interval(draws[STUDENT] / draws[TREES]) if trees else None,
        fpr=config.fpr,
        typology_budget=config.typology_budget,
        typology_counts=_typology_counts(test),
    )


def _measured(
    model: str,
    validation: ScoredPeriod,
    test: ScoredPeriod,
    facts: ModelFacts,
    config: EvaluationConfig,
    draws: Floats,
) -> ModelMetrics:
    labels, scores = test.labels, test.scores[model]
    threshold = ranking.best_f1_threshold(validation.labels, validation.scores[model])
    caught, precision = {}, {}
    for budget in config.budgets:
        alerts = ranking.alerts_within(budget, len(labels))
        caught[f"{budget:g}"] = float(ranking.alert_probability(scores, alerts)[labels].sum())
        precision[f"{budget:g}"] = caught[f"{budget:g}"] / alerts
    return ModelMetrics(
        **facts.model_dump(),
        pr_auc=float(average_precision_score(labels, scores)),
        pr_auc_interval=_interval(draws),
        roc_auc=float(roc_auc_score(labels, scores)),
        f1=ranking.f1_at(labels, scores, threshold),
        f1_threshold=threshold,
        precision_at_budget=precision,
        recall_at_budget={budget: number / int(labels.sum()) for budget, number in caught.items()},
        recall_at_fpr=ranking.recall_at_fpr(labels, scores, config.fpr),
        ece=ranking.calibration_error(labels, scores),
        recall_by_typology=_recall_by_typology(test, scores, config.typology_budget),
    )


def _typology_counts(period: ScoredPeriod) -> dict[str, int]:
    names, counts = np.unique(np.asarray(period.typologies)[period.labels].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _recall_by_typology(period: ScoredPeriod, scores: Floats, budget: float) -> dict[str, float]:
    alerted = ranking.alert_probability(scores, ranking.alerts_within(budget, len(scores)))[period.labels]
    names, of = np.unique(np.asarray(period.typologies)[period.labels].astype(str), return_inverse=True)
    recall = np.bincount(of, weights=alerted) / np.bincount(of)
    return {str(name): float(value) for name, value in zip(names, recall, strict=True)}


def _interval(draws: Floats) -> Interval:
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return float(low), float(high)
