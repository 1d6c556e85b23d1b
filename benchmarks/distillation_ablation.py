"""What each term, schedule and size is worth: the same teachers and rows, one thing changed at a time."""

from __future__ import annotations

from typing import Any, Final

from distillation_world import Scores, World
from feature_data import SETS, Measurement

from riskdistill.config import DistillationConfig, StudentConfig

FULL: Final = "as configured"
NONE: Final = "no teacher"
LOGITS: Final = [{"name": "logits", "weight": 0.7}]


def _with(name: str, weight: float, **more: Any) -> dict[str, Any]:
    return {"terms": [*LOGITS, {"name": name, "weight": weight, **more}]}


RECIPES: Final[dict[str, dict[str, Any]]] = {
    "logits alone": {"terms": LOGITS},
    "logits + attention relations": _with("attention_relations", 0.3),
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
    "dynamic weights": {"weights": "dynamic"},
    "gradient norms balanced": {"weights": "gradient_norms"},
    "surest half of each class": {"selection": {"confident": 0.5}},
    "hard rows mined by entropy": {"mining": {"share": 0.3}},
    "hard rows mined by disagreement": {"mining": {"share": 0.3, "by": "disagreement"}},
}
# (width, layers, context width, pieces): from large to small
SIZES: Final = ((64, 2, 96, 1_600), (48, 2, 48, 1_200), (32, 2, 24, 800), (16, 1, 16, 600), (8, 1, 8, 500))


def ablation(world: World) -> list[Measurement]:
    """Every recipe against the configured one and against no teacher, paired over seeds."""
    seeds = world.options.seeds[:3]
    runs: dict[str, list[Scores]] = {
        FULL: [world.of_network(world.taught(seed)) for seed in seeds],
        NONE: [world.of_network(world.untaught(seed)) for seed in seeds],
    }
    for number, (name, changes) in enumerate(RECIPES.items()):
        changed = DistillationConfig.model_validate(changes)
        runs[name] = [
            world.of_network(world.taught(seed, distillation=changed, name=f"recipe_{number}")) for seed in seeds
        ]
    found = world.resampled(runs)
    rows = []
    for name in runs:
        full, none = found.compare(name, FULL), found.compare(name, NONE)
        low, high = full.difference_interval
        detail = f"against {FULL} {full.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        low, high = none.difference_interval
        detail += f"; against {NONE} {none.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        value = found.estimate(name).value
        rows.append(Measurement(f"{SETS[world.name]}: {name}", value, "PR-AUC", detail=detail))
    return rows


def retention(world: World) -> list[Measurement]:
    """PR-AUC of students of five sizes as a share of the ensemble's."""
    seeds = world.options.seeds[:3]
    runs: dict[str, list[Scores]] = {"ensemble": [world.members["ensemble"]]}
    compression = {}
    for width, layers, context, pieces in SIZES:
        size = StudentConfig(width=width, layers=layers, context_width=context, pieces=pieces)
        name = f"width {width}, {layers} layers, context {context}"
        trained = [world.taught(seed, size=size, name=f"size_{width}_{context}") for seed in seeds]
        compression[name] = world.teachers.parameters / trained[0].model.parameter_count()
        runs[name] = [world.of_network(one) for one in trained]
    found = world.resampled(runs)
    rows = []
    for name, times in compression.items():
        kept = found.compare(name, "ensemble")
        low, high = kept.ratio_interval
        detail = f"{times:.0f} x fewer parameters; 95 % {low:.3f} to {high:.3f}"
        rows.append(Measurement(f"{SETS[world.name]}: {name}", kept.ratio, "of the ensemble", detail=detail))
    return rows
