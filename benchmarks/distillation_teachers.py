"""What a larger event teacher, or one trained in phases, is worth: alone, in the ensemble, and to its student.

Each differs from the configured one in one thing and is fitted as in a run, with two seeds; the trees beside it are
the same. Which one teaches the student is chosen on the later half of validation.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from distillation_quality import BASELINE
from distillation_world import Scores, World, difference
from feature_data import SETS, Measurement
from sklearn.metrics import average_precision_score

from pipelines.recipes import FULL
from pipelines.students import School
from pipelines.study import Study
from pipelines.teachers import Teachers, fit_teachers
from riskdistill.config import ExperimentConfig, PhasesConfig
from riskdistill.dataset import Period
from riskdistill.models.teacher import Wanted
from riskdistill.models.training import score_logits

LARGER: Final = {"width": 128, "layers": 4}
# No fewer steps on labels than without phases, which takes 336 on AMLworld, and twice as many before them
PHASES: Final = PhasesConfig(steps=1_500, general=0.6, domain=0.3, alignment=0.1)


def sizes(world: World) -> list[Measurement]:
    """Trained numbers of every model: the ensemble is the student's teacher, not the least that ranks as well."""
    teachers, size = world.teachers, world.config.student
    student = world.workshop.untrained(size, world.school.bins(size), 0).parameter_count()
    counts = {
        "ensemble": teachers.parameters,
        "its event transformer alone": teachers.event.parameter_count(),
        "its five tree models alone": teachers.trees.parameters,
        BASELINE: teachers.baseline.parameters,
    }
    return [
        Measurement(
            f"{SETS[world.name]}: {name} / student",
            count / student,
            "x numbers",
            20 if name == "ensemble" else None,
            detail=f"{count:,} / {student:,}",
        )
        for name, count in counts.items()
    ]


def teachers(world: World) -> list[Measurement]:
    """PR-AUC on the test period of each teacher and its ensemble, and of students of the best and the first."""
    fitted = {
        name: [fit_teachers(_seeded(config, seed), world.workshop) for seed in world.short_study.seeds]
        for name, config in _variants(world.config).items()
    }
    chosen_by = {name: _on_validation(world, members) for name, members in fitted.items()}
    runs = _runs(world, fitted, max(chosen_by, key=lambda name: chosen_by[name]))
    found, rows = world.resampled(runs), []
    for form, name in [(form, name) for form in (_alone, _together, _student) for name in fitted]:
        run = form(name)
        if run not in runs:  # not every teacher has taught
            continue
        estimate = found.estimate(run)
        told = [f"95 % {estimate.interval[0]:.3f} to {estimate.interval[1]:.3f}"]
        if form is _alone:
            told.append(f"{fitted[name][0].event.parameter_count():,} numbers")
        told.append(f"- {BASELINE}: {difference(found.compare(run, BASELINE))}")
        if name != FULL:
            told.append(f"- {FULL}: {difference(found.compare(run, form(FULL)))}")
        if form is _together:
            told.append(f"later half of validation {chosen_by[name]:.4f}")
        rows.append(Measurement(f"{SETS[world.name]}: {run}", estimate.value, "PR-AUC", detail="; ".join(told)))
    return rows


def _runs(world: World, fitted: dict[str, list[Teachers]], best: str) -> dict[str, list[Scores]]:
    """What all of them score on the test period, by name; students of the `best` and of the configured one."""
    test = world.dataset.test
    runs: dict[str, list[Scores]] = {BASELINE: [world.teachers.baseline.score_logits(test.encoded.context)]}
    for name, members in fitted.items():
        runs[_alone(name)] = [score_logits(one.event, test.encoded)[0] for one in members]
        runs[_together(name)] = [_ensemble(one, test) for one in members]
    for name in dict.fromkeys((FULL, best)):
        by_seed = zip(fitted[name], world.short_study.seeds, strict=True)
        runs[_student(name)] = [_taught(world, one, seed) for one, seed in by_seed]
    return runs


def _variants(config: ExperimentConfig) -> dict[str, ExperimentConfig]:
    """The configured teacher, and others that differ from it in one thing."""
    larger = config.teacher.model_copy(update=LARGER)
    return {
        FULL: config,
        f"{LARGER['width']} wide, {LARGER['layers']} layers": config.model_copy(update={"teacher": larger}),
        "trained in three phases": config.model_copy(update={"phases": PHASES}),
    }


def _seeded(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    """With this seed of the event teacher; the trees keep theirs."""
    return config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})


def _ensemble(fitted: Teachers, period: Period) -> Scores:
    return fitted.ensemble.answer(period.encoded, Wanted()).logit.astype(np.float64)


def _on_validation(world: World, fitted: list[Teachers]) -> float:
    """PR-AUC of the ensemble on the later half of validation, the mean over seeds."""
    later = world.later
    return float(np.mean([average_precision_score(later.label, _ensemble(one, later)) for one in fitted]))


def _taught(world: World, fitted: Teachers, seed: int) -> Scores:
    study = Study(world.config, School(fitted, world.workshop), world.dataset.test, (seed,))
    return world.of_network(study.taught(seed))


def _alone(name: str) -> str:
    return f"event teacher {name}"


def _together(name: str) -> str:
    return f"ensemble, its event teacher {name}"


def _student(name: str) -> str:
    return f"student, its event teacher {name}"
