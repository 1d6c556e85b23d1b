"""The main job: from labelled transactions to a checked bundle and a report. Reads top to bottom.

    ingest → dataset → teachers → student without teacher → student → evaluate → report → bundle

A job that is stopped resumes where it was when it is started again with the same `--out`: each network has a
checkpoint whose name says which data and settings it belongs to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.utils import logging as transformers_logging

from pipelines.datasets import prepare
from pipelines.evidence import write_evidence
from pipelines.make_bundle import make_bundle
from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.students import train_students
from pipelines.teachers import Teachers, fit_teachers
from riskdistill import __version__
from riskdistill.bundle import Bundle
from riskdistill.config import EvaluationConfig, ExperimentConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.evaluation.metrics import (
    STUDENT,
    TEACHER,
    TREES,
    DatasetFacts,
    MetricsReport,
    ModelFacts,
    PeriodFacts,
    ScoredPeriod,
    evaluate,
)
from riskdistill.evaluation.report import write_report
from riskdistill.features import Encoded
from riskdistill.models.boosted_trees import BoostedTrees
from riskdistill.models.calibration import Calibrator
from riskdistill.models.ensemble_scorer import EnsembleScorer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer, Scorer
from riskdistill.models.teacher import weights_fingerprint
from riskdistill.models.training import Training


@dataclass(frozen=True)
class RunResult:
    """What a run made, and where."""

    config: ExperimentConfig
    dataset: Dataset
    report: MetricsReport
    page: Path
    distillation: Path
    metrics: Path
    bundle: Bundle


def run(
    config: ExperimentConfig,
    source: Path,
    out: Path,
    steps: Steps,
    *,
    command: str = "riskdistill run",
    rows: Path | None = None,
) -> RunResult:
    """Do the whole job.

    Args:
        config: the experiment.
        source: what the configured reader reads; without a format, a folder of canonical tables.
        out: folder of everything that is made.
        steps: where progress is shown.
        command, rows: as for `datasets.prepare`.

    Raises:
        RiskDistillError: see the parts; what was finished before stays and is used by the next attempt.
    """
    out.mkdir(parents=True, exist_ok=True)
    transformers_logging.disable_progress_bar()
    prepared = prepare(config, source, out, steps, command=command, rows=rows)
    dataset = prepared.dataset
    for folder in ("models", "checkpoints", "onnx"):
        (out / folder).mkdir(exist_ok=True)
    workshop = Workshop(dataset, out, steps)
    teachers = fit_teachers(config, workshop)
    students = train_students(teachers, config, workshop)

    step = steps.step("evaluate and export")
    scorers, calibrators = _export(dataset, teachers, students, out)
    validation, test = (
        _scored(name, period, teachers.baseline, scorers, calibrators)
        for name, period in (("validation", dataset.validation), ("test", dataset.test))
    )
    facts = _facts(dataset, config, teachers, students, scorers, out)
    report = evaluate(validation, test, facts, _dataset_facts(dataset, config), config.evaluation, seed=config.seed)
    provenance = {
        "dataset": dataset.fingerprint,
        "features": dataset.spec.fingerprint,
        "teacher": teachers.ensemble.fingerprint,
        "student": weights_fingerprint(students[STUDENT].model),
        "riskdistill": __version__,
    }
    page = write_report(out, report, test, config, provenance)
    bundle = make_bundle(dataset, prepared.card, config, calibrators, validation, report, out)
    step.done(f"bundle {bundle.version}")
    distillation = write_evidence(dataset, test, teachers, students, scorers, config, out)
    metrics = out / "report" / "metrics.json"
    return RunResult(config, dataset, report, page, distillation, metrics, bundle)


def _export(
    dataset: Dataset, teachers: Teachers, students: Mapping[str, Training], out: Path
) -> tuple[dict[str, Scorer], dict[str, Calibrator]]:
    """All models as they are served, each network checked against PyTorch on real rows, and calibrated.

    All are calibrated on the same rows, the later half of validation, on which nothing was chosen.
    """
    folder, sample = out / "onnx", dataset.test.encoded.take(slice(0, 64))
    for name, trained in {TEACHER: teachers.event, **students}.items():
        export_onnx(trained.model, folder / f"{name}.onnx", sample)
    teachers.save(folder, dataset.fingerprint)
    _, fold = dataset.validation.halves()
    served: dict[str, Scorer] = {name: OnnxScorer(folder / f"{name}.onnx", Calibrator()) for name in students}
    served[TEACHER] = EnsembleScorer(folder, Calibrator(), dataset=dataset.fingerprint)
    calibrators = {}
    for name, scorer in served.items():
        shift = 0.0 if name == TEACHER else teachers.shift
        calibrators[name] = Calibrator.fit(scorer.score_all(fold.encoded).logit, fold.label, shift=shift)
        scorer.calibrator = calibrators[name]
    calibrators[TREES] = Calibrator.fit(teachers.baseline.score_logits(fold.encoded.context), fold.label)
    return served, calibrators


def _scored(
    name: str,
    period: Period,
    trees: BoostedTrees,
    scorers: Mapping[str, Scorer],
    calibrators: Mapping[str, Calibrator],
) -> ScoredPeriod:
    scores = {model: scorer.score_all(period.encoded).score for model, scorer in scorers.items()}
    scores[TREES] = calibrators[TREES](trees.score_logits(period.encoded.context))
    return ScoredPeriod(name, period.label, period.typology, scores)


def _facts(
    dataset: Dataset,
    config: ExperimentConfig,
    teachers: Teachers,
    students: Mapping[str, Training],
    scorers: Mapping[str, Scorer],
    out: Path,
) -> dict[str, ModelFacts]:
    """Size and speed: the same rows in the same batches, one after another, on one thread."""
    rows = dataset.test.encoded
    facts = {
        name: ModelFacts(
            parameters=students[name].model.parameter_count() if name in students else teachers.parameters,
            bytes=scorer.bytes,
            rows_per_second=measure_speed(rows, config.evaluation, scorer.score),
        )
        for name, scorer in scorers.items()
    }
    facts[TREES] = ModelFacts(
        parameters=teachers.baseline.parameters,
        bytes=(out / "models" / "boosted_trees.txt").stat().st_size,
        rows_per_second=measure_speed(
            rows, config.evaluation, lambda batch: teachers.baseline.score_logits(batch.context)
        ),
    )
    return facts


def measure_speed(rows: Encoded, config: EvaluationConfig, score: Callable[[Encoded], object]) -> float:
    """Rows per second of one model, batch after batch: the median over three passes, after one to warm up."""
    rows = rows.take(slice(0, config.timing_rows))
    starts = range(0, len(rows), config.batch_size)
    batches = [rows.take(slice(start, start + config.batch_size)) for start in starts]
    score(batches[0])
    speeds = []
    for _ in range(3):
        started = time.perf_counter()
        for batch in batches:
            score(batch)
        speeds.append(len(rows) / (time.perf_counter() - started))
    return float(np.median(speeds))


def period_facts(period: Period) -> PeriodFacts:
    """What a report tells of one part of the split."""
    return PeriodFacts(rows=len(period), laundering=int(period.label.sum()), start=period.start, end=period.end)


def _dataset_facts(dataset: Dataset, config: ExperimentConfig) -> DatasetFacts:
    start, end = dataset.train_span
    train = PeriodFacts(
        rows=len(dataset.train_label), laundering=int(dataset.train_label.sum()), start=start, end=end
    )
    return DatasetFacts(
        name=config.name,
        fingerprint=dataset.fingerprint,
        train=train,
        validation=period_facts(dataset.validation),
        test=period_facts(dataset.test),
        left_out=config.split.leave_out,
    )
