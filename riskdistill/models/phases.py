"""The recipe of a teacher's training: general (no labels) → domain (labels) → alignment (the alert budget).

Each phase starts from the best weights of the one before, has a warm-up and cosine schedule of its own, and is a
`Trainer` with a checkpoint of its own: a run that was killed goes through finished phases without a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from riskdistill.config.training import PhasesConfig, TrainingConfig
from riskdistill.features import Encoded
from riskdistill.models.alignment import AlignmentObjective, Feedback, Traffic
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.pretraining import PretrainingObjective, unlabelled
from riskdistill.models.training import Judge, Objective, Progress, Trainer, Training, TrainingRows

GENERAL, DOMAIN, ALIGNMENT = "general", "domain", "alignment"


@dataclass(frozen=True)
class PhasedTraining:
    """A teacher trained in phases.

    Attributes:
        model: the network that was kept, in evaluation mode.
        phases: what each phase did, by name, in order. The score of the general phase is minus its loss on held-out
            rows, that of the others is the judge's.
        kept: whose weights were kept: the better of domain and alignment.
    """

    model: EventTransformer
    phases: dict[str, Training]
    kept: str


@dataclass(frozen=True)
class Recipe:
    """What the phases learn from.

    Attributes:
        rows: labelled rows of the training period.
        validation: rows and labels (0 or 1) for early stopping.
        traffic: what `rows` stand for, and the alert budget.
        unlabelled: rows of the training period for the general phase; None takes those of `rows`.
        feedback: investigators' verdicts of the training period.
        judge: of domain and alignment, in place of PR-AUC on the validation rows.
    """

    rows: TrainingRows
    validation: tuple[Encoded, NDArray[np.bool_]]
    traffic: Traffic
    unlabelled: Encoded | None = None
    feedback: Feedback | None = None
    judge: Judge | None = None
    folder: Path | None = field(default=None, kw_only=True)  # of the checkpoints; None keeps nothing
    progress: Progress | None = field(default=None, kw_only=True)


def train_in_phases(
    name: str, model: EventTransformer, recipe: Recipe, phases: PhasesConfig, training: TrainingConfig
) -> PhasedTraining:
    """Train `model`, its edges set, in the phases whose share of the steps is above 0.

    Args:
        name: what is being trained, for progress and messages.
        training: of the domain phase; the others take from it what their own sections do not tell.

    Raises:
        TrainingError: see `Trainer`.
    """
    done: dict[str, Training] = {}
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for phase, share in ((GENERAL, phases.general), (DOMAIN, phases.domain), (ALIGNMENT, phases.alignment)):
        if share == 0:
            continue
        torch.manual_seed(training.seed)  # the heads of an objective begin alike in every run
        rows, objective, config, judge = _phase(phase, model, recipe, phases, training)
        config = within(share * phases.steps, rows, config)
        done[phase] = Trainer(
            f"{name} ({phase} phase)",
            model,
            rows,
            recipe.validation,
            config,
            checkpoint=None if recipe.folder is None else recipe.folder / f"{phase}.pt",
            progress=recipe.progress,
            judge=judge,
        ).run(objective)
        weights[phase] = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    judged = [phase for phase in (DOMAIN, ALIGNMENT) if phase in done]
    kept = max(judged, key=lambda phase: done[phase].best_score) if judged else GENERAL
    model.load_state_dict(weights[kept])
    return PhasedTraining(model, done, kept)


def within(steps: float, rows: TrainingRows, config: TrainingConfig) -> TrainingConfig:
    """Epochs, and rows of each, that make about `steps` steps: whole epochs, or one of fewer rows."""
    wanted = max(1, round(steps)) * config.batch_size * config.accumulation
    if wanted < rows.in_an_epoch(config):
        return config.model_copy(update={"epochs": 1, "rows_per_epoch": wanted})
    return config.model_copy(update={"epochs": round(wanted / rows.in_an_epoch(config))})


def _phase(
    phase: str, model: EventTransformer, recipe: Recipe, phases: PhasesConfig, training: TrainingConfig
) -> tuple[TrainingRows, Objective, TrainingConfig, Judge | None]:
    """Rows, objective, settings and judge of one phase."""
    if phase == GENERAL:
        return _general(model, recipe, phases, training)
    labels = LabelObjective(
        recipe.rows,
        label_smoothing=training.label_smoothing,
        mixup=training.mixup,
        adversarial=training.adversarial,
        scheme_power=training.scheme_power,
    )
    if phase == DOMAIN:
        return recipe.rows, labels, training, recipe.judge
    aligned = AlignmentObjective(recipe.rows, labels, phases.aligning, recipe.traffic, recipe.feedback)
    gentler = {"learning_rate": phases.aligning.learning_rate, "curriculum": "none"}
    return recipe.rows, aligned, training.model_copy(update=gentler), recipe.judge


def _general(
    model: EventTransformer, recipe: Recipe, phases: PhasesConfig, training: TrainingConfig
) -> tuple[TrainingRows, Objective, TrainingConfig, Judge]:
    config = phases.pretraining
    encoded = recipe.rows.encoded if recipe.unlabelled is None else recipe.unlabelled
    rows = unlabelled(encoded, config.rows, training.seed)
    objective = PretrainingObjective(model, rows, config)
    own = {"batch_size": config.batch_size, "learning_rate": config.learning_rate, "curriculum": "none"}
    judge = partial(objective.judge, held_out=recipe.validation[0])
    return rows, objective, training.model_copy(update=own), judge
