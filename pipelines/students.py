"""The students of a run: one that learns from labels alone, for comparison, and the one that the teachers teach."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.teachers import Teachers
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import ask, wanted_by
from riskdistill.evaluation.metrics import SCRATCH, STUDENT
from riskdistill.models.bins import Bins
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import LabelObjective, Training


def train_students(
    dataset: Dataset, teachers: Teachers, config: ExperimentConfig, workshop: Workshop, steps: Steps
) -> dict[str, Training]:
    """Train both, alike in size, rows and epochs."""
    training, size = config.student_training, config.student
    bins = Bins.of_thresholds(dataset.train_context, teachers.trees.thresholds(), size.pieces)
    labels = LabelObjective(dataset.train, label_smoothing=training.label_smoothing)
    scratch = workshop.train(SCRATCH, size, training, labels, bins)

    step = steps.step("teacher's answers")
    cache = ask(
        EventTeacher(teachers.event.model, teachers.shift),
        dataset.train.encoded,
        wanted_by(config.distillation, size.events_per_party),
        folder=workshop.out / "checkpoints" / "answers",
        spec=dataset.spec.fingerprint,
        progress=step.at,
    )
    cache = replace(cache, logit=teachers.taught)
    step.done()
    objective = DistillationObjective(
        dataset.train,
        cache,
        config.distillation,
        epochs=training.epochs,
        label_smoothing=training.label_smoothing,
        prior_shift=teachers.shift,
        student_width=size.width,
    )
    taught = hashlib.sha256(teachers.taught.tobytes()).hexdigest()
    key = f"{cache.teacher}{taught}{config.distillation.model_dump_json()}"
    return {SCRATCH: scratch, STUDENT: workshop.train(STUDENT, size, training, objective, bins, key)}
