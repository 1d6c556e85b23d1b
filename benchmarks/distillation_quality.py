"""Teachers against their peers, students against their teachers: PR-AUC on the last fifth by time.

Intervals are of 95 %: whole schemes and single normal rows are drawn, and seeds, alike for all models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from distillation_world import ENSEMBLE, Scores, World
from feature_data import SETS, Measurement

from riskdistill.evaluation.comparison import Comparison
from riskdistill.evaluation.ranking import alert_probability, alerts_within, calibration_error
from riskdistill.models.calibration import Calibrator
from riskdistill.models.training import Training, score_logits

ABSOLUTE: Final = {"amlworld": 0.92, "amlsim": 0.97}  # bars of the teacher's PR-AUC
AGAINST_PEER: Final = {"amlgentex": 1.8}
PEER, OURS = "LightGBM on snapml features", "LightGBM on our features"
BASELINE: Final = "LightGBM, as a run tunes it"  # on our features and what is known, on half of validation


@dataclass(frozen=True)
class Fold:
    """What one model scores on the calibration fold and the test period, as log-odds or logits."""

    calibration: Scores
    test: Scores


def quality(world: World) -> list[Measurement]:
    """All models of one data set on the same draws of its test period."""
    taught = [world.study.taught(seed) for seed in world.options.seeds]
    alone = [world.study.untaught(seed) for seed in world.options.seeds]
    runs: dict[str, list[Scores]] = {name: [scores] for name, scores in world.members.items()}
    runs["student"] = [world.of_network(one) for one in taught]
    runs["student without teacher"] = [world.of_network(one) for one in alone]
    runs[BASELINE] = [world.teachers.baseline.score_logits(world.dataset.test.encoded.context)]
    pairs = (
        (ENSEMBLE, BASELINE, "difference", None),
        ("student", ENSEMBLE, "ratio", 0.99),
        ("student", "student without teacher", "difference", 0.0),
        ("student", BASELINE, "ratio", 1.0),
    )
    return [*_told(world, runs, pairs), *_student(world, f"{SETS[world.name]}:", taught)]


def peers(world: World) -> list[Measurement]:
    """The ensemble against LightGBM on the peer's features and on ours, tuned alike on all labels of validation."""
    runs: dict[str, list[Scores]] = {
        ENSEMBLE: [world.members[ENSEMBLE]],
        OURS: list(world.ours.scores),
        PEER: list(world.theirs.scores),
    }
    pairs = (
        (ENSEMBLE, PEER, "ratio", AGAINST_PEER.get(world.name)),
        (ENSEMBLE, OURS, "difference", 0.0 if world.name == "amlgentex" else None),
    )
    return _told(world, runs, pairs)


def _told(
    world: World, runs: dict[str, list[Scores]], pairs: Sequence[tuple[str, str, str, float | None]]
) -> list[Measurement]:
    """PR-AUC of every run, and pairs of them with their bars."""
    found, label = world.resampled(runs), f"{SETS[world.name]}:"
    rows = []
    for name in runs:
        bar = ABSOLUTE.get(world.name) if name == ENSEMBLE else None
        estimate = found.estimate(name)
        detail = f"95 % {_middle(estimate.interval)}; seeds {', '.join(f'{v:.3f}' for v in found.measured[name])}"
        rows.append(Measurement(f"{label} {name}", estimate.value, "PR-AUC", bar, detail=detail))
    return [
        *rows,
        *(_compared(label, found.compare(first, second), kind, bar) for first, second, kind, bar in pairs),
    ]


def _compared(label: str, found: Comparison, kind: str, bar: float | None) -> Measurement:
    """A ratio is held to its bar by its value, a difference by the lower end of its interval."""
    pair = found.first, found.second
    if kind == "ratio":
        detail = f"95 % {_middle(found.ratio_interval)}"
        return Measurement(f"{label} {' / '.join(pair)}", found.ratio, "x", bar, detail=detail)
    low = found.difference_interval[0]
    detail = f"difference {found.difference:+.4f}, 95 % {_middle(found.difference_interval)}; {found.verdict}"
    return Measurement(f"{label} {' - '.join(pair)}, lower end", low, "PR-AUC", bar, detail=detail)


def _student(world: World, label: str, taught: list[Training]) -> list[Measurement]:
    """Recall and calibration of students against the ensemble.

    Recall is told at the configuration's budget: where laundering is no rarity, 0.5 % of alerts would hold a few
    per cent of it at most, and every model would find the same.
    """
    fold, budget = world.later, world.config.evaluation.typology_budget
    test, teachers = world.dataset.test, world.teachers
    rows = fold.encoded
    trees = teachers.trees.score_logits(rows.context)
    event = score_logits(teachers.event, rows)[0] + teachers.shift
    scores = [Fold(teachers.ensemble.gate.combine(np.array([trees, event]), rows), world.members[ENSEMBLE])]
    scores += [Fold(score_logits(one.model, rows)[0], world.of_network(one)) for one in taught]
    errors, recalls = [], []
    for one in scores:
        calibrated = Calibrator.fit(one.calibration, fold.label)(one.test)
        errors.append(calibration_error(test.label, calibrated))
        alerted = alert_probability(one.test, alerts_within(budget, len(one.test)))
        recalls.append(float(alerted[test.label].sum() / test.label.sum()))
    worse = float(np.mean(errors[1:]) - errors[0])
    lost = float(recalls[0] - np.mean(recalls[1:]))
    return [
        Measurement(
            f"{label} recall lost at {budget:.1%} alerted",
            100 * lost,
            "points",
            1.0,
            "lower",
            f"ensemble {recalls[0]:.3f}, students {np.mean(recalls[1:]):.3f}",
        ),
        Measurement(
            f"{label} calibration error, student - ensemble",
            worse,
            "",
            0.005,
            "lower",
            f"ensemble {errors[0]:.4f}, students {np.mean(errors[1:]):.4f}",
        ),
    ]


def _middle(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"
