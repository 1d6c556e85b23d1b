"""What making a student smaller or shallower costs in PR-AUC: 8 bits, early exits, pruning with recovery."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from distillation_world import Scores, World
from feature_data import SETS, Measurement
from sklearn.metrics import average_precision_score

from pipelines.networks import stopping_rows
from riskdistill.config import PruningConfig
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.quantisation import quantise
from riskdistill.models.training import Trainer, validation_pr_auc
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import EarlyExitScorer
from riskdistill.student.exits import choose_rule, fit_exits
from riskdistill.student.pruning import importance, prune

_RANGES: Final = 1_024  # training rows from which the ranges of activations are taken
_RECOVERY_ROWS: Final = 40_000
_ALONE: Final = 200  # rows that are scored alone and together
_FOLDER: Final = "student_forms"
KEPT: Final = (0.75, 0.5)


def int8(world: World) -> list[Measurement]:
    """Static 8 bits after training, and with an epoch of training that rounds, against 32 bits."""
    student, label = world.study.taught(world.options.seeds[0]).model, f"{SETS[world.name]}:"
    judge = partial(validation_pr_auc, stopping_rows(world.dataset.validation.halves()[0], 7))
    rounded = quantise(student, world.dataset.train.encoded.take(slice(0, _RANGES)), judge)
    trained = _recovered(world, quantise(student, world.dataset.train.encoded.take(slice(0, _RANGES)), judge))
    full, found = _pr_auc(world, student, "fp32")[0], []
    for name, model in (("int8", rounded), ("int8, trained to round", trained)):
        value, scorer = _pr_auc(world, model, name.replace(", ", "_").replace(" ", "_"))
        bar = 0.002 if model is trained else None
        found.append(
            Measurement(
                f"{label} {name}, PR-AUC lost", full - value, "", bar, "lower", f"fp32 {full:.4f}, {value:.4f}"
            )
        )
        some = world.dataset.test.encoded.take(slice(0, _ALONE))
        together = scorer.score(some).logit
        alone = [scorer.score(some.take(slice(row, row + 1))).logit[0] for row in range(_ALONE)]
        apart = float(np.abs(together - np.array(alone)).max())
        found.append(Measurement(f"{label} {name}, alone against together", apart, "logits", 1e-6, "lower"))
    return found


def exits(world: World) -> list[Measurement]:
    """Rows leave after the first layer where an exit is sure; chosen on validation, judged on the test period."""
    student, test = world.study.taught(world.options.seeds[0]).model, world.dataset.test
    tuning, _ = world.dataset.validation.halves()
    exiting = fit_exits(student, world.dataset.train.encoded.take(slice(0, _RECOVERY_ROWS)))
    rule, _ = choose_rule(exiting, tuning.encoded, tuning.label, shift=world.teachers.shift)
    folder = world.folder / _FOLDER / "exits"
    export_exits(exiting, rule, folder, test.encoded.take(slice(0, 64)))
    scorer = EarlyExitScorer(folder, events_per_party=student.config.events_per_party)
    scored, layers = scorer.score(test.encoded)
    full = float(average_precision_score(test.label, world.of_network(world.study.taught(world.options.seeds[0]))))
    value = float(average_precision_score(test.label, scored.score))
    saved = 1 - float(layers.mean()) / len(student.encoder)
    label = f"{SETS[world.name]}: early exit,"
    return [
        Measurement(
            f"{label} layer evaluations saved", saved, "", 0.30, detail=f"{layers.mean():.2f} layers a row"
        ),
        Measurement(f"{label} PR-AUC lost", full - value, "", 0.002, "lower", f"whole {full:.4f}, {value:.4f}"),
    ]


def pruning(world: World) -> list[Measurement]:
    """Structured pruning by first-order importance, before and after recovery by distillation."""
    student, found = world.study.taught(world.options.seeds[0]).model, []
    full = _judged(world, student)
    for share in KEPT:
        objective = _objective(world)
        rows = np.random.default_rng(7).permutation(world.dataset.train.draw)
        batches = [rows[start : start + 256] for start in range(0, 20 * 256, 256)]
        kept = PruningConfig(heads=share, feedforward=share, context=share)
        pruned = prune(student, importance(student, objective, batches), kept)
        before = _judged(world, pruned)
        after = _judged(world, _recovered(world, pruned))
        sizes = f"{student.parameter_count():,} to {pruned.parameter_count():,} parameters"
        label = f"{SETS[world.name]}: {share:.0%} kept of heads, hidden units and context units"
        detail = f"{sizes}; whole {full:.4f}, before recovery {before:.4f}"
        found.append(Measurement(label, after, "PR-AUC", detail=detail))
    return found


def _objective(world: World) -> DistillationObjective:
    config = world.config
    answers = world.study.answers(config.student, config.distillation)
    return world.school.objective(config.student, config.student_training, config.distillation, answers)


def _recovered(world: World, model: EventTransformer) -> EventTransformer:
    """The same after one gentle epoch of distillation."""
    gentle = {"epochs": 1, "learning_rate": 3e-4, "rows_per_epoch": _RECOVERY_ROWS, "average_decay": 0.98}
    training = world.config.student_training.model_copy(update=gentle)
    stopping = stopping_rows(world.dataset.validation.halves()[0], training.seed)
    return Trainer("recovery", model, world.dataset.train, stopping, training).run(_objective(world)).model


def _judged(world: World, model: EventTransformer) -> float:
    """PR-AUC on the test period, as PyTorch scores it."""
    test = world.dataset.test
    return validation_pr_auc((test.encoded, test.label), model)


def _pr_auc(world: World, model: EventTransformer, name: str) -> tuple[float, OnnxScorer]:
    """PR-AUC on the test period, as ONNX Runtime scores it, and the scorer."""
    test = world.dataset.test
    path = world.folder / _FOLDER / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    export_onnx(model, path, test.encoded.take(slice(0, 64)))
    scorer = OnnxScorer(path, Calibrator())
    scores: Scores = scorer.score_all(test.encoded).logit
    return float(average_precision_score(test.label, scores)), scorer
