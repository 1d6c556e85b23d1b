"""What each part of the distillation is worth: students with one thing changed, and students of other sizes.

OUT/study/report/distillation.html   both drawn, with intervals and every verdict, for people
OUT/study/report/distillation.json   the same for programs

The teachers are those that `run` with the same `--out` would fit, and it takes them over, as it does every student
that an earlier, stopped study finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets import prepare
from pipelines.evidence import scheme_names
from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.students import School
from pipelines.teachers import fit_teachers
from riskdistill.config import AnswersFrom, DistillationConfig, ExperimentConfig, StudentConfig
from riskdistill.distillation.teacher_cache import TeacherCache, wanted_by
from riskdistill.evaluation.comparison import Resampled, resample
from riskdistill.evaluation.distillation import AblationLine, DistillationEvidence, RetentionPoint
from riskdistill.evaluation.distillation_report import write_distillation_report
from riskdistill.evaluation.metrics import TEACHER
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import Training, score_logits

FULL: Final = "as configured"
NONE: Final = "no teacher"
LOGITS: Final = [{"name": "logits", "weight": 0.7}]
Scores = NDArray[np.float64]


def _with(name: str, weight: float, **more: Any) -> dict[str, Any]:
    return {"terms": [*LOGITS, {"name": name, "weight": weight, **more}]}


RECIPES: Final[dict[str, dict[str, Any]]] = {
    "logits alone": {"terms": LOGITS},
    "logits + attention relations": _with("attention_relations", 0.3),
    "logits + attention maps": _with("attention_maps", 0.3),
    "logits + hidden states": _with("hidden_states", 0.3),
    "logits + feature": _with("feature", 0.3),
    "logits + typology": _with("typology", 0.1),
    "logits + labels": _with("labels", 0.3),
    "logits + batch correlation": _with("batch_correlation", 0.3),
    "logits + ranking": _with("ranking", 0.3),
    "temperature 1": {"terms": LOGITS, "temperature": {"start": 1.0}},
    "temperature 5 to 8": {"terms": LOGITS, "temperature": {"schedule": "rising", "start": 5.0, "after_epoch": 3}},
    "temperature 5 to 1": {
        "terms": LOGITS,
        "temperature": {"schedule": "annealed", "start": 5.0, "end": 1.0, "after_epoch": 0},
    },
    "temperature learned": {"terms": LOGITS, "temperature": {"schedule": "learned", "start": 2.0}},
    "dynamic weights": {"preset": "logits_and_attention", "weights": "dynamic"},
    "gradient norms balanced": {"preset": "logits_and_attention", "weights": "gradient_norms"},
    "stages: feature, attention, logits": {
        "preset": "feature_attention_logits",
        "stages": "feature_attention_logits",
    },
    "answers of trees that have not seen the row": {"terms": LOGITS, "answers": "unseen_trees"},
    "surest half of each class": {"terms": LOGITS, "selection": {"confident": 0.5}},
    "MixUp": {"terms": LOGITS, "mixup": 0.2},
    "hard rows mined by disagreement": {"terms": LOGITS, "mining": {"share": 0.3, "by": "disagreement"}},
}
# (width, layers, context width, pieces): from large to small
SIZES: Final = ((64, 2, 96, 1_600), (48, 2, 48, 1_200), (32, 2, 24, 800), (16, 1, 16, 600), (8, 1, 8, 500))


@dataclass(frozen=True)
class Study:
    """Students of the same teachers, rows and seeds that differ in one thing.

    Attributes:
        teacher: float64 [rows of the test period], what the ensemble scores there.
        seeds: of the students; every recipe has the same ones, so that they compare in pairs.
    """

    config: ExperimentConfig
    school: School
    teacher: Scores
    seeds: tuple[int, ...]
    _answers: dict[tuple[Wanted, AnswersFrom], TeacherCache] = field(default_factory=dict)

    def taught(
        self,
        seed: int,
        size: StudentConfig | None = None,
        distillation: DistillationConfig | None = None,
        name: str = "student",
    ) -> Training:
        """A student of the teachers; by default of the configured size and loss."""
        size, distillation = size or self.config.student, distillation or self.config.distillation
        training = self.config.student_training.model_copy(update={"seed": seed})
        answers = self.answers(size, distillation)
        return self.school.taught(f"{name}-{seed}", size, training, distillation, answers)

    def answers(self, size: StudentConfig, distillation: DistillationConfig) -> TeacherCache:
        """What the teachers say of the rows of the mix; asked once."""
        key = wanted_by(distillation, size.events_per_party), distillation.answers
        if key not in self._answers:
            self._answers[key] = self.school.answers(size, distillation)
        return self._answers[key]

    def untaught(self, seed: int, size: StudentConfig | None = None) -> Training:
        """The same student without a teacher."""
        training = self.config.student_training.model_copy(update={"seed": seed})
        return self.school.untaught(f"alone-{seed}", size or self.config.student, training)

    def ablation(self) -> tuple[AblationLine, ...]:
        """Every recipe against the configured one and against no teacher."""
        runs = {
            FULL: [self._scores(self.taught(seed)) for seed in self.seeds],
            NONE: [self._scores(self.untaught(seed)) for seed in self.seeds],
        }
        for number, (name, changes) in enumerate(RECIPES.items()):
            changed = DistillationConfig.model_validate(changes)
            runs[name] = [
                self._scores(self.taught(seed, distillation=changed, name=f"recipe_{number}"))
                for seed in self.seeds
            ]
        found = self._resampled(runs)
        return tuple(
            AblationLine(
                recipe=name,
                pr_auc=found.estimate(name),
                against_full=found.compare(name, FULL),
                against_none=found.compare(name, NONE),
            )
            for name in runs
        )

    def retention(self) -> tuple[RetentionPoint, ...]:
        """What students of several sizes keep of the ensemble's PR-AUC."""
        runs, compression = {TEACHER: [self.teacher]}, {}
        for width, layers, context, pieces in SIZES:
            changes = {"width": width, "layers": layers, "context_width": context, "pieces": pieces}
            size = self.config.student.model_copy(update=changes)
            trained = [self.taught(seed, size, name=f"size_{width}_{context}") for seed in self.seeds]
            name = f"width {width}, {layers} layers, context {context}"
            runs[name] = [self._scores(one) for one in trained]
            compression[name] = self.school.teachers.parameters / trained[0].model.parameter_count()
        found = self._resampled(runs)
        return tuple(
            RetentionPoint(
                compression=times, pr_auc=found.estimate(name), against_teacher=found.compare(name, TEACHER)
            )
            for name, times in compression.items()
        )

    def _scores(self, trained: Training) -> Scores:
        return score_logits(trained.model, self.school.workshop.dataset.test.encoded)[0]

    def _resampled(self, runs: dict[str, list[Scores]]) -> Resampled:
        test = self.school.workshop.dataset.test
        return resample(test.label, scheme_names(test), runs, seed=self.config.seed)


def study(
    config: ExperimentConfig,
    source: Path,
    out: Path,
    steps: Steps,
    *,
    seeds: int,
    command: str,
    rows: Path | None = None,
) -> Path:
    """Train all students of the study and write its page, whose path is returned.

    Args:
        config, source, out, steps, command, rows: as for `run.run`.
        seeds: of each student, from the experiment's on.

    Raises:
        RiskDistillError: see the parts.
    """
    dataset = prepare(config, source, out, steps, command=command, rows=rows).dataset
    for name in ("models", "checkpoints"):
        (out / name).mkdir(exist_ok=True)
    workshop = Workshop(dataset, out, steps)
    teachers = fit_teachers(config, workshop)
    first = config.student_training.seed
    asked = Study(
        config,
        School(teachers, workshop),
        teachers.ensemble.answer(dataset.test.encoded, Wanted()).logit.astype(np.float64),
        tuple(range(first, first + seeds)),
    )
    evidence = DistillationEvidence(
        name=f"{config.name}: a study",
        dataset=dataset.fingerprint,
        retention=asked.retention(),
        ablation=asked.ablation(),
    )
    return write_distillation_report(out / "study", evidence)
