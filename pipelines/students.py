"""The students of a run: one that learns from labels alone, for comparison, and the one that the teachers teach."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipelines.networks import Workshop
from pipelines.teachers import Teachers
from pipelines.text_teacher import wanted_of_text
from riskdistill.config import DistillationConfig, StudentConfig, TrainingConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache
from riskdistill.models.bins import Bins
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import Training, TrainingRows


@dataclass(frozen=True)
class School:
    """Where students of any size learn: teachers, and a workshop with the rows that they answer."""

    teachers: Teachers
    workshop: Workshop

    @property
    def rows(self) -> TrainingRows:
        """What a taught student learns from: the mix, and the rows that only its teachers tell it about."""
        rows = self.workshop.dataset.train
        return replace(rows, draw=np.concatenate([rows.draw, rows.unlabelled]))

    def answers(self, size: StudentConfig, distillation: DistillationConfig) -> TeacherCache:
        """What the ensemble says of the rows of the mix.

        What only a network knows comes from the event transformer, and on the rows that a text teacher was asked
        about from that too.
        """
        cache = self.workshop.answers(EventTeacher(self.teachers.event, self.teachers.shift), size, distillation)
        # logits are the ensemble's: to whoever checks, these are no longer one member's answers
        taught = self.teachers.taught[distillation.answers]
        said = hashlib.sha256(taught.tobytes()).hexdigest()[:16]
        text, wanted = self.teachers.text, wanted_of_text(distillation, size)
        heard = text.heard(self.workshop, wanted) if text is not None and wanted.inside else None
        also = "" if heard is None else f"{heard.answers.teacher}{heard.answers.rows}"
        return replace(cache, logit=taught, teacher=f"{cache.teacher}{said}{also}", heard=heard)

    def untaught(self, name: str, size: StudentConfig, training: TrainingConfig) -> Training:
        """A student that has labels and typologies where the other has a teacher's answers.

        Labels are smoothed and weighed as the taught student's are, and numbers cut alike. It has no curriculum:
        how hard a row is, only a teacher knows.
        """
        training = training.model_copy(update={"curriculum": "none"})
        objective = LabelObjective(
            self.workshop.dataset.train,
            label_smoothing=training.label_smoothing,
            scheme_power=training.scheme_power,
        )
        return self.workshop.train(name, size, training, objective, self.bins(size))

    def taught(
        self,
        name: str,
        size: StudentConfig,
        training: TrainingConfig,
        distillation: DistillationConfig,
        answers: TeacherCache,
    ) -> Training:
        """A student that learns from the teachers' answers."""
        objective = self.objective(size, training, distillation, answers)
        rows = self.rows
        if training.curriculum == "easy_first":
            rows = replace(rows, difficulty=objective.difficulty())
        key = f"{answers.teacher}{distillation.model_dump_json()}"
        return self.workshop.train(name, size, training, objective, self.bins(size), key, rows)

    def objective(
        self,
        size: StudentConfig,
        training: TrainingConfig,
        distillation: DistillationConfig,
        answers: TeacherCache,
    ) -> DistillationObjective:
        """What a student that learns from the teachers' answers is trained towards."""
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)  # adapters begin alike, whatever was trained or resumed before
            return DistillationObjective(
                self.rows,
                answers,
                distillation,
                epochs=training.epochs,
                label_smoothing=training.label_smoothing,
                prior_shift=self.teachers.shift,
                student_width=size.width,
                scheme_power=training.scheme_power,
            )

    def bins(self, size: StudentConfig) -> Bins:
        """Where a student of this size cuts the numbers that it reads: at the trees' thresholds."""
        return Bins.of_thresholds(
            self.workshop.dataset.train_context, self.teachers.trees.thresholds(), size.pieces
        )
