"""The main job: from labelled transactions to a checked bundle and a report. Reads top to bottom.

    ingest → dataset → teachers → student without teacher → student → evaluate → report → bundle

A job that is stopped resumes where it was when it is started again with the same `--out`: each network has a
checkpoint whose name says which data and settings it belongs to.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as transformers_logging

from pipelines.compression import INT8, PRUNED, Compression, Student
from pipelines.datasets import Prepared, prepare
from pipelines.distillation_evidence import write_evidence
from pipelines.make_bundle import make_bundle
from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.served import Served, serve
from pipelines.students import School
from pipelines.teachers import Teachers, fit_teachers, teacher_names
from pipelines.text_teacher import NAME as TEXT
from pipelines.text_teacher import check_text_teacher
from riskdistill import __version__
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.evaluation.metrics import (
    SCRATCH,
    STUDENT,
    TEACHER,
    DatasetFacts,
    MetricsReport,
    PeriodFacts,
    ScoredPeriod,
    evaluate,
)
from riskdistill.evaluation.report import write_report
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.provenance import Provenance


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
    check_text_teacher(config)
    prepared = prepare(config, source, out, steps, command=command, rows=rows)
    dataset = prepared.dataset
    workshop = furnished(out, config, dataset, steps)
    teachers = fit_teachers(config, workshop)
    students = _students(teachers, config, workshop)
    provenance = Provenance.of(config, dataset)
    judged = judge_and_bundle(config, prepared, workshop, teachers, students, provenance)
    distillation = write_evidence(dataset, judged.test, judged.served, config, out)
    metrics = out / "report" / "metrics.json"
    return RunResult(config, dataset, judged.report, judged.page, distillation, metrics, judged.bundle)


@dataclass(frozen=True)
class Judged:
    """Models as they are served, what they scored, and the bundle of them."""

    served: Served
    test: ScoredPeriod
    report: MetricsReport
    page: Path
    bundle: Bundle


def judge_and_bundle(
    config: ExperimentConfig,
    prepared: Prepared,
    workshop: Workshop,
    teachers: Teachers,
    students: dict[str, Student],
    provenance: Provenance,
) -> Judged:
    """Export and calibrate the models, judge them on the test period, write the report and the bundle.

    Args:
        students: by name; the one called `student` is served.
    """
    dataset, out = prepared.dataset, workshop.out
    step = workshop.steps.step("evaluate and export")
    served = serve(dataset, teachers, students, out / "onnx")
    validation, test = (
        served.score(name, period) for name, period in (("validation", dataset.validation), ("test", dataset.test))
    )
    facts = served.facts(dataset.test.encoded, config.evaluation, out / "models" / "boosted_trees.txt")
    report = evaluate(validation, test, facts, _dataset_facts(dataset, config), config.evaluation, seed=config.seed)
    made_of = {
        "dataset": dataset.fingerprint,
        "features": dataset.spec.fingerprint,
        "teacher": teachers.ensemble.fingerprint,
        "student": students[STUDENT].fingerprint,
        "riskdistill": __version__,
    }
    page = write_report(out, report, test, config, made_of)
    bundle = make_bundle(prepared, config, served, validation, test, report, out, provenance)
    step.done(f"bundle {bundle.version}")
    return Judged(served, test, report, page, bundle)


def furnished(
    out: Path,
    config: ExperimentConfig,
    dataset: Dataset,
    steps: Steps,
    beginnings: Mapping[str, EventTransformer] | None = None,
) -> Workshop:
    """A workshop in `out`, without what an earlier run left of networks that this one does not make."""
    transformers_logging.disable_progress_bar()
    for folder in ("models", "checkpoints", "onnx"):
        (out / folder).mkdir(exist_ok=True)
    _remove_stale(out / "models", config)
    return Workshop(dataset, out, steps, beginnings or {})


def _students(teachers: Teachers, config: ExperimentConfig, workshop: Workshop) -> dict[str, Student]:
    """Two students, alike in size, rows and epochs: one from labels alone, one taught and then compressed."""
    school, size = School(teachers, workshop), config.student
    scratch = school.untaught(SCRATCH, size, config.student_training)
    return {SCRATCH: Student(scratch.model), STUDENT: taught_student(teachers, config, workshop)}


def taught_student(teachers: Teachers, config: ExperimentConfig, workshop: Workshop) -> Student:
    """The student that the teachers teach, compressed as configured."""
    school = School(teachers, workshop)
    answers = school.answers(config.student, config.distillation)
    student = school.taught(STUDENT, config.student, config.student_training, config.distillation, answers)
    return Compression(school, config, answers).compressed(student.model)


def _remove_stale(models: Path, config: ExperimentConfig) -> None:
    """Remove what an earlier run left of networks that this one does not make; what it makes, it replaces."""
    compression = config.compression
    made = {PRUNED: compression.prunes, INT8: compression.int8, TEXT: config.text_teacher is not None}
    made |= {path.name: False for path in models.glob(f"{TEACHER}_*")}
    made |= dict.fromkeys(teacher_names(config.teacher.members), True)
    for name, wanted in made.items():
        if not wanted:
            shutil.rmtree(models / name, ignore_errors=True)


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
