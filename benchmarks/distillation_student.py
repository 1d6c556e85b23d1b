"""What making a student smaller or shallower costs in PR-AUC: 8 bits, early exits, pruning with recovery."""

from __future__ import annotations

from typing import Final

import numpy as np
from distillation_world import Scores, World, difference
from feature_data import SETS, Measurement

from pipelines.compression import Compression
from riskdistill.config import PruningConfig
from riskdistill.evaluation.comparison import Comparison
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.training import validation_pr_auc
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import EarlyExitScorer

_ALONE: Final = 200  # rows that are scored alone and together
_FOLDER: Final = "student_forms"
_SEEDS: Final = 3  # of the students that are rounded or leave early
LOST: Final = 0.002  # of PR-AUC, at most
LAYERS: Final = (1, 2, 3)
KEPT: Final = (0.75, 0.5)


def int8(world: World) -> list[Measurement]:
    """Static 8 bits as a run makes them, and trained to round in any case, against 32 bits; paired over seeds."""
    forms: dict[str, list[Scores]] = {"fp32": [], "int8": [], "int8, trained to round": []}
    apart = dict.fromkeys(forms, 0.0)
    for seed in world.options.seeds[:_SEEDS]:
        student, shrinking = world.study.taught(seed).model, compression(world)
        made = (
            student,
            shrinking.in_8_bits(student),
            shrinking.recovered(f"student-int8-{seed}", shrinking.rounded(student)),
        )
        for number, (name, model) in enumerate(zip(forms, made, strict=True)):
            scorer = _exported(world, model, f"form_{number}")
            forms[name].append(scorer.score_all(world.dataset.test.encoded).logit)
            apart[name] = max(apart[name], _alone_against_together(world, scorer))
    found, label, rows = world.resampled(forms), f"{SETS[world.name]}:", []
    for name in list(forms)[1:]:
        rows.append(_lost(f"{label} {name}", found.compare(name, "fp32")))
        bar = f"{label} {name}, alone against together"
        rows.append(Measurement(bar, apart[name], "logits", 1e-6, "lower", "the most of all seeds"))
    return rows


def exits(world: World) -> list[Measurement]:
    """Students of one to three layers, and what leaving early, by a rule chosen on validation, saves and costs."""
    test, label = world.dataset.test.encoded, f"{SETS[world.name]}:"
    runs: dict[str, list[Scores]] = {}
    share: dict[str, list[float]] = {}
    for layers in LAYERS:
        size = world.config.student.model_copy(update={"layers": layers})
        deep = world.config.model_copy(update={"student": size})
        for seed in world.options.seeds[:_SEEDS]:
            name = "student" if size == world.config.student else f"layers_{layers}"
            trained = world.study.taught(seed, deep, name)
            runs.setdefault(_whole(layers), []).append(world.of_network(trained))
            if layers > 1:
                folder = world.folder / _FOLDER / f"exits_{layers}_{seed}"
                chosen = compression(world).exits(trained.model)
                export_exits(chosen.student, chosen.rule, folder, test.take(slice(0, 64)))
                scored, passed = EarlyExitScorer(folder, Calibrator()).score_by_layers(test)
                runs.setdefault(_leaving(layers), []).append(scored.score)
                share.setdefault(_leaving(layers), []).append(float(passed.mean()) / layers)
    found, rows = world.resampled(runs), []
    for name in runs:
        against = found.compare(name, _whole(1))
        detail = "" if name == _whole(1) else f"against one layer: {difference(against)}"
        rows.append(Measurement(f"{label} {name}", found.estimate(name).value, "PR-AUC", detail=detail))
    for layers in LAYERS[1:]:
        name, evaluated = _leaving(layers), np.array(share[_leaving(layers)])
        detail = f"{layers * evaluated.mean():.2f} of {layers} layers a row; {1 - 1 / layers:.0%} is the most"
        rows.append(Measurement(f"{label} {name}, layers saved", 1 - evaluated.mean(), "", 0.30, detail=detail))
        rows.append(_lost(f"{label} {name}", found.compare(name, _whole(layers))))
    return rows


def _whole(layers: int) -> str:
    return f"student of {layers} layer{'s' if layers > 1 else ''}"


def _leaving(layers: int) -> str:
    return f"{_whole(layers)} with early exits"


def _lost(name: str, against: Comparison) -> Measurement:
    """What is held to the bar is the loss itself; its interval stands beside."""
    detail = f"{against.first} - {against.second}: {difference(against)}, {against.seeds} seeds"
    return Measurement(f"{name}, PR-AUC lost", -against.difference, "", LOST, "lower", detail)


def pruning(world: World) -> list[Measurement]:
    """Structured pruning by first-order importance, before and after recovery by distillation."""
    student, found = world.study.taught(world.options.seeds[0]).model, []
    full = _judged(world, student)
    for share in KEPT:
        shrinking = compression(world)
        pruned = shrinking.pruned(student, PruningConfig(heads=share, feedforward=share, context=share))
        before = _judged(world, pruned)
        after = _judged(world, shrinking.recovered(f"student-pruned-{share}", pruned))
        sizes = f"{student.parameter_count():,} to {pruned.parameter_count():,} parameters"
        label = f"{SETS[world.name]}: {share:.0%} kept of heads, hidden units and context units"
        detail = f"{sizes}; whole {full:.4f}, before recovery {before:.4f}"
        found.append(Measurement(label, after, "PR-AUC", detail=detail))
    return found


def compression(world: World) -> Compression:
    """As in `riskdistill run`."""
    return Compression(world.school, world.config, world.study.answers(world.config))


def _judged(world: World, model: EventTransformer) -> float:
    """PR-AUC on the test period, as PyTorch scores it."""
    test = world.dataset.test
    return validation_pr_auc((test.encoded, test.label), model)


def _exported(world: World, model: EventTransformer, name: str) -> OnnxScorer:
    """As ONNX Runtime scores it."""
    path = world.folder / _FOLDER / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    export_onnx(model, path, world.dataset.test.encoded.take(slice(0, 64)))
    return OnnxScorer(path, Calibrator())


def _alone_against_together(world: World, scorer: OnnxScorer) -> float:
    """By how much a logit moves, at most, where a row is scored among others."""
    some = world.dataset.test.encoded.take(slice(0, _ALONE))
    alone = [scorer.score(some.take(slice(row, row + 1))).logit[0] for row in range(_ALONE)]
    return float(np.abs(scorer.score(some).logit - np.array(alone)).max())
