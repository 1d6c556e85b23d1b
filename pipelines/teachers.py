"""The teachers of a run: boosted trees, the event transformer, and both as one ensemble.

boosted trees (baseline, chosen by validation) → the same without each block of time → event transformers
→ gate of the ensemble, fitted on the earlier half of validation → what it says of the training rows

Where a text teacher is configured, it joins in what is taught (`pipelines.text_teacher`), not in what is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.networks import Workshop
from pipelines.text_teacher import Consulted, Others, losses_told, teach_with_text, wanted_of_text
from riskdistill.config import AnswersFrom, ExperimentConfig, TrainingConfig
from riskdistill.evaluation.metrics import TEACHER
from riskdistill.models.bins import Bins
from riskdistill.models.boosted_trees import BoostedTrees, fit_trees
from riskdistill.models.calibration import prior_shift
from riskdistill.models.committee import Committee, Network
from riskdistill.models.cross_fitting import CrossFittedTrees, cross_fit
from riskdistill.models.ensemble import EnsembleTeacher, Gate
from riskdistill.models.ensemble_scorer import TREES, save_served
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.teacher import EventTeacher, TreesTeacher, Wanted


@dataclass(frozen=True)
class Teachers:
    """What was fitted.

    Attributes:
        baseline: the single boosted-tree model that everything is compared with.
        trees: fitted without each block of time.
        event: the event transformer, or several of other seeds as one.
        ensemble: of the trees and the event transformer, which is served for the bypass.
        shift: brings the event transformer's logits to natural prevalence.
        taught: float32 [rows of the mix], the ensemble's log-odds at natural prevalence, by whose trees answer. The
            event transformer answers rows that it has learned from, surer than it would new ones; a text teacher is
            heard on those that it was asked about, where the configured trees answer.
        text: the text teacher, where there is one, whose states teach besides those of the event transformer.
    """

    baseline: BoostedTrees
    trees: CrossFittedTrees
    event: Network
    ensemble: EnsembleTeacher
    shift: float
    taught: Mapping[AnswersFrom, NDArray[np.float32]]
    text: Consulted | None = None

    @property
    def names(self) -> list[str]:
        """Of the event transformer's networks: their folders below `models`."""
        return teacher_names(len(self.event.all) if isinstance(self.event, Committee) else 1)

    @property
    def parameters(self) -> int:
        """Trained numbers of all members."""
        return self.trees.parameters + self.event.parameter_count()

    def save(self, folder: Path, dataset: str) -> None:
        """Write trees and gate as a bundle holds them, beside the event transformer's `teacher.onnx`."""
        paths = [folder / TREES.format(number) for number in range(len(self.trees.members))]
        for member, path in zip(self.trees.members, paths, strict=True):
            member.save(path, dataset=dataset)
        save_served(self.ensemble.gate, self.shift, folder)


def fit_teachers(config: ExperimentConfig, workshop: Workshop) -> Teachers:
    """Fit all of them; what an earlier, stopped run finished is used, but for the baseline, which takes minutes."""
    dataset = workshop.dataset
    baseline, trees = _trees(config, workshop)
    shift = prior_shift(dataset.prevalence, dataset.mixed_prevalence)
    event = _event(config, workshop, trees)

    members = TreesTeacher(trees, "boosted_trees"), EventTeacher(event, shift, "event_transformer")
    of_event = workshop.answers(members[1], config.student, config.distillation)  # as students will ask
    step = workshop.steps.step("ensemble of teachers")
    tuning, _ = dataset.validation.halves()
    known = np.array([member.answer(tuning.encoded, Wanted()).logit for member in members])
    gate = Gate.fit([member.name for member in members], known, tuning.encoded, tuning.label)
    ensemble = EnsembleTeacher(members, gate)
    rows = dataset.train.encoded
    told: dict[AnswersFrom, NDArray[np.float64]] = {
        "all_trees": trees.score_logits(rows.context, threads=0),  # as many as there are cores
        "unseen_trees": trees.out_of_fold(rows.context, dataset.mixed_from, threads=0),
    }
    mix = {name: np.array([logit, of_event.logit]) for name, logit in told.items()}
    taught = {name: gate.combine(logits, rows).astype(np.float32) for name, logits in mix.items()}
    step.done(losses_told({"weighted by transaction": gate.loss, "constant": gate.constant_loss}))
    text = None
    if config.text_teacher is not None:
        others = Others(gate, known, mix[config.distillation.answers])
        wanted = wanted_of_text(config.distillation, config.student)  # as students will ask
        text = teach_with_text(config.text_teacher, workshop, others, wanted)
        taught[config.distillation.answers] = text.taught
    return Teachers(baseline, trees, event, ensemble, shift, taught, text)


def fit_baseline(config: ExperimentConfig, workshop: Workshop) -> BoostedTrees:
    """The single boosted-tree model that everything is compared with."""
    dataset, out, steps = workshop.dataset, workshop.out, workshop.steps
    tuning, _ = dataset.validation.halves()
    step = steps.step("boosted trees")
    baseline = fit_trees(
        (dataset.train_context, dataset.train_label),
        (tuning.encoded.context, tuning.label),
        config.boosted_trees,
        seed=config.seed,
        progress=step.at,
    )
    baseline.save(out / "models" / "boosted_trees.txt", dataset=dataset.fingerprint)
    step.done(f"validation PR-AUC {baseline.validation_pr_auc:.3f}")
    return baseline


def _trees(config: ExperimentConfig, workshop: Workshop) -> tuple[BoostedTrees, CrossFittedTrees]:
    dataset, out, steps = workshop.dataset, workshop.out, workshop.steps
    baseline = fit_baseline(config, workshop)
    step = steps.step("boosted trees, cross-fitted")
    trees = cross_fit(
        (dataset.train_context, dataset.train_label),
        baseline,
        seed=config.seed,
        dataset=dataset.fingerprint,
        folder=out / "checkpoints",
        progress=step.at,
    )
    step.done(f"{len(trees.members)} without a block of time each")
    return baseline, trees


def _event(config: ExperimentConfig, workshop: Workshop, trees: CrossFittedTrees) -> Network:
    """The event transformers, their numbers cut where the trees split."""
    bins = Bins.of_thresholds(workshop.dataset.train_context, trees.thresholds(), config.teacher.pieces)
    members = [
        _member(
            name, config, config.training.model_copy(update={"seed": config.training.seed + number}), workshop, bins
        )
        for number, name in enumerate(teacher_names(config.teacher.members))
    ]
    return Committee(members) if len(members) > 1 else members[0]


def teacher_names(members: int) -> list[str]:
    """What the teacher's networks are called, and their folders below `models`."""
    return [TEACHER, *(f"{TEACHER}_{number}" for number in range(2, members + 1))]


def _member(
    name: str, config: ExperimentConfig, training: TrainingConfig, workshop: Workshop, bins: Bins
) -> EventTransformer:
    size, train = config.teacher.network, workshop.dataset.train
    if config.phases is not None:
        budget = config.serving.review.share or config.evaluation.typology_budget
        return workshop.train_in_phases(name, size, training, config.phases, bins, budget).model
    objective = LabelObjective(
        train,
        label_smoothing=training.label_smoothing,
        mixup=training.mixup,
        adversarial=training.adversarial,
        scheme_power=training.scheme_power,
    )
    return workshop.train(name, size, training, objective, bins).model
