"""The students of a run: one that learns from labels alone, for comparison, and the one that the teachers teach."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from pipelines.networks import Workshop
from pipelines.teachers import Teachers
from riskdistill.config import DistillationConfig, ExperimentConfig, StudentConfig, TrainingConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.evaluation.metrics import SCRATCH, STUDENT
from riskdistill.models.bins import Bins
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import LabelObjective, Training


def train_students(teachers: Teachers, config: ExperimentConfig, workshop: Workshop) -> dict[str, Training]:
    """Train both, alike in size, rows and epochs."""
    training, size = config.student_training, config.student
    scratch = untaught(SCRATCH, size, training, teachers, workshop)
    answers = teachers_answers(teachers, size, config.distillation, workshop)
    return {
        SCRATCH: scratch,
        STUDENT: taught(STUDENT, size, training, config.distillation, teachers, answers, workshop),
    }


def teachers_answers(
    teachers: Teachers, size: StudentConfig, distillation: DistillationConfig, workshop: Workshop
) -> TeacherCache:
    """What the ensemble says of the rows of the mix; what only the event transformer knows comes from it."""
    step = workshop.steps.step("teacher's answers")
    cache = ask(
        EventTeacher(teachers.event.model, teachers.shift),
        workshop.dataset.train.encoded,
        wanted_by(distillation, size.events_per_party),
        folder=workshop.out / "checkpoints" / "answers",
        spec=workshop.dataset.spec.fingerprint,
        progress=step.at,
    )
    step.done()
    return replace(cache, logit=teachers.taught)


def untaught(
    name: str, size: StudentConfig, training: TrainingConfig, teachers: Teachers, workshop: Workshop
) -> Training:
    """A student that learns from labels and typologies alone; its numbers are cut as the other's are.

    It has no curriculum: how hard a row is, only a teacher knows.
    """
    training = training.model_copy(update={"curriculum": "none"})
    rows = workshop.dataset.train
    objective = LabelObjective(rows, label_smoothing=training.label_smoothing, scheme_power=training.scheme_power)
    return workshop.train(name, size, training, objective, student_bins(size, teachers, workshop))


def taught(
    name: str,
    size: StudentConfig,
    training: TrainingConfig,
    distillation: DistillationConfig,
    teachers: Teachers,
    answers: TeacherCache,
    workshop: Workshop,
) -> Training:
    """A student that learns from the teachers' answers."""
    objective = teaching(size, training, distillation, teachers, answers, workshop)
    said = hashlib.sha256(teachers.taught.tobytes()).hexdigest()
    key = f"{answers.teacher}{said}{distillation.model_dump_json()}"
    rows = workshop.dataset.train
    if training.curriculum == "easy_first":
        rows = replace(rows, difficulty=objective.difficulty())
    return workshop.train(name, size, training, objective, student_bins(size, teachers, workshop), key, rows)


def teaching(
    size: StudentConfig,
    training: TrainingConfig,
    distillation: DistillationConfig,
    teachers: Teachers,
    answers: TeacherCache,
    workshop: Workshop,
) -> DistillationObjective:
    """What a student that learns from the teachers' answers is trained towards."""
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)  # adapters begin alike, whatever was trained or resumed before
        return DistillationObjective(
            workshop.dataset.train,
            answers,
            distillation,
            epochs=training.epochs,
            label_smoothing=training.label_smoothing,
            prior_shift=teachers.shift,
            student_width=size.width,
        )


def student_bins(size: StudentConfig, teachers: Teachers, workshop: Workshop) -> Bins:
    """Where a student of this size cuts the numbers that it reads: at the trees' thresholds."""
    return Bins.of_thresholds(workshop.dataset.train_context, teachers.trees.thresholds(), size.pieces)
