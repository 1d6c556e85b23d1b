"""What making a student smaller or shallower costs in PR-AUC: 8 bits, early exits, pruning with recovery."""

from __future__ import annotations

from typing import Final

import numpy as np
from distillation_world import Scores, World
from feature_data import SETS, Measurement
from sklearn.metrics import average_precision_score

from pipelines.compression import Compression
from riskdistill.config import PruningConfig
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.training import validation_pr_auc
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import EarlyExitScorer

_ALONE: Final = 200  # rows that are scored alone and together
_FOLDER: Final = "student_forms"
KEPT: Final = (0.75, 0.5)


def int8(world: World) -> list[Measurement]:
    """Static 8 bits as a run makes them, and trained to round in any case, against 32 bits."""
    student, label = world.study.taught(world.options.seeds[0]).model, f"{SETS[world.name]}:"
    compression = _compression(world)
    served = compression.in_8_bits(student)
    trained = compression.recovered("student-int8", compression.rounded(student))
    full, found = _pr_auc(world, student, "fp32")[0], []
    for name, model, bar in (("int8", served, 0.002), ("int8, trained to round", trained, None)):
        value, scorer = _pr_auc(world, model, name.replace(", ", "_").replace(" ", "_"))
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
    """A student of two layers, which rows leave early where an exit is sure; chosen on validation."""
    size, test = world.config.student.model_copy(update={"layers": 2}), world.dataset.test
    deep = world.config.model_copy(update={"student": size})
    trained = world.study.taught(world.options.seeds[0], deep, "two_layers")
    student = trained.model
    folder = world.folder / _FOLDER / "exits"
    chosen = _compression(world).exits(student)
    export_exits(chosen.student, chosen.rule, folder, test.encoded.take(slice(0, 64)))
    scored, layers = EarlyExitScorer(folder, Calibrator()).score_by_layers(test.encoded)
    full = float(average_precision_score(test.label, world.of_network(trained)))
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
        compression = _compression(world)
        pruned = compression.pruned(student, PruningConfig(heads=share, feedforward=share, context=share))
        before = _judged(world, pruned)
        after = _judged(world, compression.recovered(f"student-pruned-{share}", pruned))
        sizes = f"{student.parameter_count():,} to {pruned.parameter_count():,} parameters"
        label = f"{SETS[world.name]}: {share:.0%} kept of heads, hidden units and context units"
        detail = f"{sizes}; whole {full:.4f}, before recovery {before:.4f}"
        found.append(Measurement(label, after, "PR-AUC", detail=detail))
    return found


def _compression(world: World) -> Compression:
    """As in `riskdistill run`."""
    return Compression(world.school, world.config, world.study.answers(world.config))


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
