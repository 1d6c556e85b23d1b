"""What happens to a taught student before it is served, where the configuration's `compression` asks for it.

taught → pruned → won back → rounded to 8 bits → won back
                          ↘ early exits
"""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.networks import stopping_rows
from pipelines.students import School
from riskdistill.config import DistillationConfig, ExperimentConfig, PruningConfig, TrainingConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.quantisation import quantise
from riskdistill.models.teacher import weights_fingerprint
from riskdistill.models.training import validation_pr_auc
from riskdistill.student.exit_scorer import ExitRule
from riskdistill.student.exits import ExitGain, ExitingStudent, choose_rule, fit_exits
from riskdistill.student.pruning import importance, prune

PRUNED: Final = "student_pruned"  # folders below `models`
INT8: Final = "student_int8"
# Rows of the mix: on which a smaller student wins back what it lost, and exits are fitted
_RECOVERY_ROWS: Final = 40_000
_RANGE_ROWS: Final = 1_024  # from which the ranges of activations are taken
_IMPORTANCE_BATCHES: Final = 20
_IMPORTANCE_BATCH: Final = 256
# One epoch that moves little; no curriculum, as the student has met all rows
_GENTLE: Final = {
    "epochs": 1,
    "learning_rate": 3e-4,
    "rows_per_epoch": _RECOVERY_ROWS,
    "average_decay": 0.98,
    "curriculum": "none",
}


class Exits(NamedTuple):
    """Early exits of a student, the rule by which rows leave, and what it saved where it was chosen."""

    student: ExitingStudent
    rule: ExitRule
    gain: ExitGain


@dataclass(frozen=True)
class Student:
    """A student as it is to be served.

    Attributes:
        exits: with the same network inside; None: every row goes through all of it.
    """

    model: EventTransformer
    exits: Exits | None = None

    @property
    def parameters(self) -> int:
        """Trained numbers, those of the exits included."""
        return self.model.parameter_count() if self.exits is None else self.exits.student.parameter_count()

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all weights, with exits theirs and the rule too."""
        if self.exits is None:
            return weights_fingerprint(self.model)
        told = f"{weights_fingerprint(self.exits.student)}{self.exits.rule.model_dump_json()}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Compression:
    """Makes a taught student smaller or faster, with the teachers' answers that it learned from."""

    school: School
    config: ExperimentConfig
    answers: TeacherCache

    def compressed(self, model: EventTransformer) -> Student:
        """The student as the configuration wants it served."""
        chosen = self.config.compression
        if chosen.prunes:
            model = self.recovered(PRUNED, self.pruned(model, chosen.pruning))
        if chosen.int8:
            model = self.in_8_bits(model)
        return Student(model, self.exits(model) if chosen.early_exits else None)

    def pruned(self, model: EventTransformer, keep: PruningConfig) -> EventTransformer:
        """Without the heads and hidden units that matter least to what it learned."""
        step = self.school.workshop.steps.step("pruning")
        rows = self._of_the_mix(_IMPORTANCE_BATCHES * _IMPORTANCE_BATCH)
        batches = np.array_split(rows, math.ceil(len(rows) / _IMPORTANCE_BATCH))
        with torch.random.fork_rng():
            torch.manual_seed(self._training.seed)  # an objective may draw; a resumed run must draw the same
            smaller = prune(model, importance(model, self._objective(), batches), keep)
        step.done(f"{smaller.parameter_count():,} of {model.parameter_count():,} parameters left")
        return smaller

    def in_8_bits(self, model: EventTransformer) -> EventTransformer:
        """The network that rounds; where that ranks the earlier half of validation worse, a gentle epoch teaches it
        to. `models/student_int8` holds what is given back."""
        rounding = self.rounded(model)
        if self._judge(rounding) < self._judge(model):
            return self.recovered(INT8, rounding)
        rounding.save_pretrained(self.school.workshop.out / "models" / INT8)
        return rounding

    def rounded(self, model: EventTransformer) -> EventTransformer:
        """A copy that rounds to 8 bits, with the ranges that suit the earlier half of validation better."""
        dataset = self.school.workshop.dataset
        step = self.school.workshop.steps.step("ranges for 8 bits")
        rounding = quantise(model, dataset.train.encoded.take(self._of_the_mix(_RANGE_ROWS)), self._judge)
        step.done()
        return rounding

    def recovered(self, name: str, model: EventTransformer) -> EventTransformer:
        """The same after one gentle epoch of distillation, or as it was where that ranks the earlier half of
        validation better; `models/NAME` holds what is given back. It trains `model` itself."""
        workshop = self.school.workshop
        score, before = self._judge(model), copy.deepcopy(model)
        key = f"{self.answers.teacher}{self._distillation.model_dump_json()}"
        trained = workshop.train_on(name, model, self.config.student, self._training, self._objective(), key)
        if trained.best_score >= score:
            return trained.model
        step = workshop.steps.step(f"{name.replace('_', ' ')}, kept as it was")
        before.save_pretrained(workshop.out / "models" / name)
        step.done(f"validation PR-AUC {score:.3f} without the epoch")
        return before

    def _judge(self, model: EventTransformer) -> float:
        """What early stopping looks at, of any network."""
        tuning, _ = self.school.workshop.dataset.validation.halves()
        return validation_pr_auc(stopping_rows(tuning, self._training.seed), model)

    def exits(self, model: EventTransformer) -> Exits:
        """Early exits that foretell the network on rows of the mix, their rule chosen on the earlier half of
        validation; the later half calibrates what is served, as it does every model."""
        dataset = self.school.workshop.dataset
        step = self.school.workshop.steps.step("early exits")
        exiting = fit_exits(model, dataset.train.encoded.take(self._of_the_mix(_RECOVERY_ROWS)))
        tuning, _ = dataset.validation.halves()
        rule, gain = choose_rule(exiting, tuning.encoded, tuning.label, shift=self.school.teachers.shift)
        scores = f"validation PR-AUC {gain.pr_auc:.3f}, of the whole network {gain.full_pr_auc:.3f}"
        step.done(f"{gain.saved:.0%} of the layers saved, {scores}")
        return Exits(exiting, rule, gain)

    @property
    def _training(self) -> TrainingConfig:
        return self.config.student_training.model_copy(update=_GENTLE)

    @property
    def _distillation(self) -> DistillationConfig:
        return self.config.distillation.settled()

    def _objective(self) -> DistillationObjective:
        return self.school.objective(self.config.student, self._training, self._distillation, self.answers)

    def _of_the_mix(self, count: int) -> NDArray[np.int64]:
        """So many training rows, drawn as an epoch draws them: rows in their order would be the oldest."""
        draw = self.school.workshop.dataset.train.draw
        return np.random.default_rng(self._training.seed).permutation(draw)[:count]
