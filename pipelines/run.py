"""The main job: from labelled transactions to a checked bundle and a report. Reads top to bottom.

    ingest → dataset → boosted trees → teacher → student without teacher → student → evaluate → report → bundle

A job that is stopped resumes where it was when it is started again with the same `--out`: each network has a
checkpoint whose name says which data and settings it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from pipelines.datasets import prepare
from pipelines.make_bundle import make_bundle
from pipelines.progress import Steps
from riskdistill import __version__
from riskdistill.bundle import Bundle
from riskdistill.config import EvaluationConfig, ExperimentConfig, ModelConfig, TrainingConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import ask_teacher, weights_fingerprint
from riskdistill.evaluation.metrics import (
    SCRATCH,
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
from riskdistill.models.bins import Bins
from riskdistill.models.boosted_trees import BoostedTrees, fit_trees
from riskdistill.models.calibration import Calibrator, prior_shift
from riskdistill.models.event_transformer import untrained
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.training import LabelObjective, Objective, Trainer, Training, score_logits

STOPPING_ROWS = 40_000  # validation rows that early stopping looks at: all laundering, and normal rows up to this
NETWORKS = (TEACHER, SCRATCH, STUDENT)


@dataclass(frozen=True)
class RunResult:
    """What a run made, and where."""

    config: ExperimentConfig
    dataset: Dataset
    report: MetricsReport
    page: Path
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
    trees = _trees(dataset, config, out, steps)
    networks = _networks(dataset, trees, config, out, steps)

    step = steps.step("evaluate and export")
    calibrators = _calibrators(dataset, trees, networks)
    scorers = _export(dataset, networks, calibrators, out)
    validation, test = (
        _scored(name, period, trees, scorers, calibrators)
        for name, period in (("validation", dataset.validation), ("test", dataset.test))
    )
    facts = _facts(dataset, config, trees, networks, scorers, out)
    report = evaluate(validation, test, facts, _dataset_facts(dataset, config), config.evaluation, seed=config.seed)
    provenance = {
        "dataset": dataset.fingerprint,
        "features": dataset.spec.fingerprint,
        "teacher": weights_fingerprint(networks[TEACHER].model),
        "student": weights_fingerprint(networks[STUDENT].model),
        "riskdistill": __version__,
    }
    page = write_report(out, report, test, config, provenance)
    bundle = make_bundle(dataset, prepared.card, config, calibrators, validation, report, out)
    step.done(f"bundle {bundle.version}")
    return RunResult(config, dataset, report, page, out / "report" / "metrics.json", bundle)


def _trees(dataset: Dataset, config: ExperimentConfig, out: Path, steps: Steps) -> BoostedTrees:
    step = steps.step("boosted trees")
    trees = fit_trees(
        (dataset.train_context, dataset.train_label),
        (dataset.validation.encoded.context, dataset.validation.label),
        config.boosted_trees,
        seed=config.seed,
        progress=step.at,
    )
    (out / "models").mkdir(exist_ok=True)
    trees.save(out / "models" / "boosted_trees.txt", dataset=dataset.fingerprint)
    step.done(f"validation PR-AUC {trees.validation_pr_auc:.3f}")
    return trees


def _networks(
    dataset: Dataset, trees: BoostedTrees, config: ExperimentConfig, out: Path, steps: Steps
) -> dict[str, Training]:
    """Train the teacher, the student without a teacher, and the student."""
    smoothing = config.student_training.label_smoothing
    teacher_labels = LabelObjective(
        dataset.train,
        label_smoothing=config.training.label_smoothing,
        mixup=config.training.mixup,
        adversarial=config.training.adversarial,
    )
    student_labels = LabelObjective(dataset.train, label_smoothing=smoothing)
    trained = {
        TEACHER: _train(TEACHER, config.teacher, config.training, teacher_labels, dataset, trees, out, steps),
        SCRATCH: _train(
            SCRATCH, config.student, config.student_training, student_labels, dataset, trees, out, steps
        ),
    }
    step = steps.step("teacher's answers")
    cache = ask_teacher(
        trained[TEACHER].model,
        dataset.train.encoded,
        relation_heads=config.distillation.relation_heads,
        student_events=config.student.events_per_party,
        progress=step.at,
    )
    step.done()
    shift = prior_shift(dataset.prevalence, dataset.mixed_prevalence)
    odds = trees.score_logits(dataset.train.encoded.context) - shift  # as if learned from the mix
    cache = cache.blended(odds, config.distillation.trees_share)
    objective = DistillationObjective(
        dataset.train,
        cache,
        config.distillation,
        epochs=config.student_training.epochs,
        label_smoothing=smoothing,
    )
    key = f"{cache.teacher}{config.distillation.model_dump_json()}{config.boosted_trees.model_dump_json()}"
    trained[STUDENT] = _train(
        STUDENT, config.student, config.student_training, objective, dataset, trees, out, steps, key
    )
    return trained


def _train(
    name: str,
    size: ModelConfig,
    training: TrainingConfig,
    objective: Objective,
    dataset: Dataset,
    trees: BoostedTrees,
    out: Path,
    steps: Steps,
    key: str = "",
) -> Training:
    """Train one network, or take it from its checkpoint; `key` is what its objective depends on besides."""
    model = untrained(
        size,
        Bins.of_thresholds(dataset.train_context, trees.thresholds(), size.pieces),
        dataset.spec,
        dataset.train.encoded.events,
        typologies=dataset.typologies,
        dataset_fingerprint=dataset.fingerprint,
        seed=training.seed,
    )
    identity = f"{dataset.fingerprint}{size.model_dump_json()}{training.model_dump_json()}{key}{__version__}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    (out / "checkpoints").mkdir(exist_ok=True)
    step = steps.step(name.replace("_", " "))

    def show(stage: str, done: int, total: int, best: float) -> None:
        step.at(done, total, f"best validation PR-AUC {best:.3f}" if best >= 0 else "first epoch")

    trained = Trainer(
        name,
        model,
        dataset.train,
        _stopping_rows(dataset.validation, training.seed),
        training,
        checkpoint=out / "checkpoints" / f"{name}-{digest}.pt",
        progress=show,
    ).run(objective)
    step.done(f"validation PR-AUC {trained.best_score:.3f} in epoch {trained.best_epoch + 1}")
    folder = out / "models" / name
    trained.model.save_pretrained(folder)
    log = [vars(epoch) for epoch in trained.epochs]
    (folder / "training.json").write_text(json.dumps(log, indent=1))
    return trained


def _stopping_rows(validation: Period, seed: int) -> tuple[Encoded, NDArray[np.bool_]]:
    """Validation rows for early stopping: every laundering row, and normal rows up to `STOPPING_ROWS`."""
    normal = np.flatnonzero(~validation.label)
    count = min(len(normal), STOPPING_ROWS)
    kept = validation.label.copy()
    kept[np.random.default_rng(seed).choice(normal, count, replace=False)] = True
    return validation.encoded.take(kept), validation.label[kept]


def _calibrators(dataset: Dataset, trees: BoostedTrees, networks: Mapping[str, Training]) -> dict[str, Calibrator]:
    """Every model calibrated on the validation period, which none of them was fitted on."""
    period = dataset.validation
    shift = prior_shift(dataset.prevalence, dataset.mixed_prevalence)
    fitted = {
        name: Calibrator.fit(score_logits(trained.model, period.encoded)[0], period.label, shift=shift)
        for name, trained in networks.items()
    }
    fitted[TREES] = Calibrator.fit(trees.score_logits(period.encoded.context), period.label)
    return fitted


def _export(
    dataset: Dataset, networks: Mapping[str, Training], calibrators: Mapping[str, Calibrator], out: Path
) -> dict[str, OnnxScorer]:
    """All networks as ONNX, each checked against PyTorch on real rows."""
    sample = dataset.test.encoded.take(slice(0, 64))
    (out / "onnx").mkdir(exist_ok=True)
    scorers = {}
    for name, trained in networks.items():
        path = out / "onnx" / f"{name}.onnx"
        export_onnx(trained.model, path, sample)
        scorers[name] = OnnxScorer(path, calibrators[name])
    return scorers


def _scored(
    name: str,
    period: Period,
    trees: BoostedTrees,
    scorers: Mapping[str, OnnxScorer],
    calibrators: Mapping[str, Calibrator],
) -> ScoredPeriod:
    scores = {model: scorer.score_all(period.encoded).score for model, scorer in scorers.items()}
    scores[TREES] = calibrators[TREES](trees.score_logits(period.encoded.context))
    return ScoredPeriod(name, period.label, period.typology, scores)


def _facts(
    dataset: Dataset,
    config: ExperimentConfig,
    trees: BoostedTrees,
    networks: Mapping[str, Training],
    scorers: Mapping[str, OnnxScorer],
    out: Path,
) -> dict[str, ModelFacts]:
    """Size and speed: the same rows in the same batches, one after another, on one thread."""
    rows = dataset.test.encoded
    facts = {
        name: ModelFacts(
            parameters=networks[name].model.parameter_count(),
            bytes=scorer.bytes,
            rows_per_second=measure_speed(rows, config.evaluation, scorer.score),
        )
        for name, scorer in scorers.items()
    }
    facts[TREES] = ModelFacts(
        parameters=trees.parameters,
        bytes=(out / "models" / "boosted_trees.txt").stat().st_size,
        rows_per_second=measure_speed(rows, config.evaluation, lambda batch: trees.score_logits(batch.context)),
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
