"""What each part of the distillation is worth: students with one thing changed, and students of other sizes.

OUT/study/report/distillation.html   both drawn, with intervals and every verdict, for people
OUT/study/report/distillation.json   the same for programs

What is chosen by it is chosen on validation's later half, on which runs calibrate: the test period stays unseen.
The teachers are those that `run` with the same `--out` would fit, and it takes them over, as it does every student
that an earlier, stopped study finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets import prepare
from pipelines.distillation_evidence import scheme_names
from pipelines.networks import Workshop
from pipelines.progress import Steps
from pipelines.recipes import FULL, NONE, recipes, ruled_out
from pipelines.students import School
from pipelines.teachers import fit_teachers
from pipelines.text_teacher import check_text_teacher
from riskdistill.config import AnswersFrom, ExperimentConfig, StudentConfig
from riskdistill.dataset import Period
from riskdistill.distillation.teacher_cache import TeacherCache, wanted_by
from riskdistill.evaluation.comparison import Resampled, resample
from riskdistill.evaluation.distillation import AblationLine, DistillationEvidence, RetentionPoint
from riskdistill.evaluation.distillation_report import write_distillation_report
from riskdistill.evaluation.metrics import TEACHER
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import Training, score_logits

COMPRESSION: Final = (5, 10, 20, 40, 80)  # times fewer parameters than the teachers
WIDTHS: Final = range(8, 136, 8)  # of the students among which those are looked for
PIECES: Final = (300, 2_400)  # fewest and most
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Students of the same teachers, rows and seeds that differ in one thing.

    Attributes:
        period: what they are judged on.
        seeds: of the students; every recipe has the same ones, so that they compare in pairs.
    """

    config: ExperimentConfig
    school: School
    period: Period
    seeds: tuple[int, ...]
    _answers: dict[tuple[Wanted, AnswersFrom], TeacherCache] = field(default_factory=dict)

    def taught(self, seed: int, config: ExperimentConfig | None = None, name: str = "student") -> Training:
        """A student of the teachers, by default as configured."""
        config = config or self.config
        training = config.student_training.model_copy(update={"seed": seed})
        answers = self.answers(config)
        return self.school.taught(f"{name}-{seed}", config.student, training, config.distillation, answers)

    def untaught(self, seed: int) -> Training:
        """The same student without a teacher."""
        training = self.config.student_training.model_copy(update={"seed": seed})
        return self.school.untaught(f"alone-{seed}", self.config.student, training)

    def answers(self, config: ExperimentConfig) -> TeacherCache:
        """What the teachers say of the rows of the mix to such a student; asked once."""
        size, distillation = config.student, config.distillation
        key = wanted_by(distillation, size.events_per_party), distillation.answers
        if key not in self._answers:
            self._answers[key] = self.school.answers(size, distillation)
        return self._answers[key]

    def ablation(self, changed: Mapping[str, ExperimentConfig]) -> tuple[AblationLine, ...]:
        """Every recipe against the configured one and against no teacher."""
        runs = {
            FULL: [self._scores(self.taught(seed)) for seed in self.seeds],
            NONE: [self._scores(self.untaught(seed)) for seed in self.seeds],
        }
        for number, (name, config) in enumerate(changed.items()):
            runs[name] = [self._scores(self.taught(seed, config, f"recipe_{number}")) for seed in self.seeds]
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
        teachers = self.school.teachers
        said = teachers.ensemble.answer(self.period.encoded, Wanted()).logit.astype(np.float64)
        runs, compression = {TEACHER: [said]}, {}
        for size in self._sizes():
            config = self.config.model_copy(update={"student": size})
            trained = [self.taught(seed, config, f"width_{size.width}") for seed in self.seeds]
            name = f"width {size.width}, context {size.context_width}"
            runs[name] = [self._scores(one) for one in trained]
            compression[name] = teachers.parameters / trained[0].model.parameter_count()
        found = self._resampled(runs)
        return tuple(
            RetentionPoint(
                compression=times, pr_auc=found.estimate(name), against_teacher=found.compare(name, TEACHER)
            )
            for name, times in compression.items()
        )

    def _sizes(self) -> list[StudentConfig]:
        """For each compression the student of the configured proportions that comes nearest, the largest first."""
        sizes = {width: self._sized(width) for width in WIDTHS}
        count = {width: self._parameters(size) for width, size in sizes.items() if size is not None}
        wanted = [np.log(self.school.teachers.parameters / times) for times in COMPRESSION]
        nearest = {min(count, key=lambda width: abs(np.log(count[width]) - size)) for size in wanted}
        return [size for width in sorted(nearest, reverse=True) if (size := sizes[width]) is not None]

    def _sized(self, width: int) -> StudentConfig | None:
        """The configured student so wide, and all else in proportion; None where its heads do not divide it."""
        student, heads = self.config.student, self.config.distillation.relation_heads
        if width % student.heads or width % heads:
            return None
        part = width / student.width
        pieces = int(np.clip(round(student.pieces * part), *PIECES))
        changes = {"width": width, "context_width": max(8, round(student.context_width * part)), "pieces": pieces}
        return student.model_copy(update=changes)

    def _parameters(self, size: StudentConfig) -> int:
        return self.school.workshop.untrained(size, self.school.bins(size), 0).parameter_count()

    def _scores(self, trained: Training) -> Scores:
        return score_logits(trained.model, self.period.encoded)[0]

    def _resampled(self, runs: dict[str, list[Scores]]) -> Resampled:
        return resample(self.period.label, scheme_names(self.period), runs, seed=self.config.seed)


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
    check_text_teacher(config)
    changed = recipes(config)
    dataset = prepare(config, source, out, steps, command=command, rows=rows).dataset
    for name in ("models", "checkpoints"):
        (out / name).mkdir(exist_ok=True)
    workshop = Workshop(dataset, out, steps)
    school = School(fit_teachers(config, workshop), workshop)
    first = config.student_training.seed
    _, period = dataset.validation.halves()
    asked = Study(config, school, period, tuple(range(first, first + seeds)))
    evidence = DistillationEvidence(
        name=f"{config.name}: a study",
        dataset=dataset.fingerprint,
        period="later half of the validation period",
        retention=asked.retention(),
        ablation=asked.ablation(changed),
        ruled_out=ruled_out(config),
    )
    return write_distillation_report(out / "study", evidence)
