"""What each term, schedule and size is worth: the same teachers and rows, one thing changed at a time.

Recipes are what a user would choose among, so they are judged on the later half of validation, as `riskdistill
study` judges them, and their intervals hold for all of them together. Nothing is chosen by what a size keeps, so
sizes are told on the test period too, each interval by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from distillation_world import World
from feature_data import SETS, Measurement
from simultaneous import differences

from pipelines.recipes import FULL, NONE, recipes
from riskdistill.config import ExperimentConfig
from riskdistill.models.training import Training

ATTENTION: Final = "attention_relations"
HEAVIER: Final = (10, 50)  # times the configured weight of attention relations


def ablation(world: World) -> list[Measurement]:
    """Every recipe against the configured one, paired over two seeds, all intervals at once."""
    study, period = world.short_study, world.later
    heavier = {f"{ATTENTION.replace('_', ' ')} x {times}": _heavier(world.config, times) for times in HEAVIER}
    trained = {
        FULL: [study.taught(seed) for seed in study.seeds],
        NONE: [study.untaught(seed) for seed in study.seeds],
    }
    for number, (name, config) in enumerate((recipes(world.config) | heavier).items()):
        trained[name] = [study.taught(seed, config, f"recipe_{number}") for seed in study.seeds]
    runs = {name: [world.of_network(one, period) for one in seeds] for name, seeds in trained.items()}
    found = world.resampled(runs, period)
    others = [name for name in trained if name != FULL]
    gains = differences(found, others, FULL)
    told = {name: [f"against {FULL} {gain}{'' if gain.shown else ': not shown'}"] for name, gain in gains.items()}
    for name in (FULL, *heavier):
        told.setdefault(name, []).append(f"gradient: {_shares(trained[name])}")
    return [
        Measurement(
            f"{SETS[world.name]}: {name}",
            found.estimate(name).value,
            "PR-AUC",
            detail="; ".join(told[name]),
        )
        for name in trained
    ]


def _heavier(config: ExperimentConfig, times: int) -> ExperimentConfig:
    """With so many times the weight of attention relations."""
    distillation = config.distillation
    terms = tuple(
        term.model_copy(update={"weight": times * term.weight}) if term.name == ATTENTION else term
        for term in distillation.terms
    )
    return config.model_copy(update={"distillation": distillation.model_copy(update={"terms": terms})})


def _shares(trained: list[Training]) -> str:
    """Each term's share of the gradient norms: the mean of all epochs and seeds, and attention's range."""
    epochs = [epoch.gradient_share for one in trained for epoch in one.epochs]
    means = {name: np.mean([shares[name] for shares in epochs]) for name in epochs[0]}
    attention = [shares[ATTENTION] for shares in epochs]
    told = ", ".join(f"{name.replace('_', ' ')} {mean:.1%}" for name, mean in means.items())
    return f"{told} ({min(attention):.1%} to {max(attention):.1%})"


def retention(world: World) -> list[Measurement]:
    """PR-AUC of students of five sizes as a share of the ensemble's, over two seeds."""
    rows = []
    for when, period in (("later half of validation", world.later), ("test", world.dataset.test)):
        for point in replace(world.short_study, period=period).retention():
            kept = point.against_teacher
            low, high = kept.ratio_interval
            name = f"{SETS[world.name]}, {when}: {kept.first}"
            detail = f"{point.compression:.0f} x fewer parameters; 95 % {low:.3f} to {high:.3f}; {kept.seeds} seeds"
            rows.append(Measurement(name, kept.ratio, "of the ensemble", detail=detail))
    return rows
