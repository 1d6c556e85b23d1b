"""What each term, schedule and size is worth: the same teachers and rows, one thing changed at a time."""

from __future__ import annotations

from distillation_world import World
from feature_data import SETS, Measurement

from pipelines.recipes import FULL, NONE, recipes


def ablation(world: World) -> list[Measurement]:
    """Every recipe against the configured one and against no teacher, paired over two seeds."""
    rows = []
    for line in world.short_study.ablation(recipes(world.config)):
        low, high = line.against_full.difference_interval
        detail = f"against {FULL} {line.against_full.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        low, high = line.against_none.difference_interval
        detail += f"; against {NONE} {line.against_none.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append(Measurement(f"{SETS[world.name]}: {line.recipe}", line.pr_auc.value, "PR-AUC", detail=detail))
    return rows


def retention(world: World) -> list[Measurement]:
    """PR-AUC of students of five sizes as a share of the ensemble's, over two seeds."""
    rows = []
    for point in world.short_study.retention():
        kept = point.against_teacher
        low, high = kept.ratio_interval
        detail = f"{point.compression:.0f} x fewer parameters; 95 % {low:.3f} to {high:.3f}"
        rows.append(Measurement(f"{SETS[world.name]}: {kept.first}", kept.ratio, "of the ensemble", detail=detail))
    return rows
