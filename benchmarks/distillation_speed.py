"""What models cost when they serve, one row and batches of 32; and what a step costs.

Serving is told in processor time of one thread: time on the clock would measure what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from distillation_student import compression
from distillation_world import World
from feature_data import SETS, Measurement
from machine import one_core

from riskdistill.config import DistillationConfig
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.ensemble_scorer import ONNX, EnsembleScorer
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer

BATCH: Final = 32
STUDENTS: Final = ("student", "student in 8 bits")
ENSEMBLE: Final = "ensemble with its gate"
TREES: Final = "LightGBM on our features"
_SINGLE: Final = 1_000
_BATCHES: Final = 60
_STEPS: Final = 30
_STEP_ROWS: Final = 256


def speed(world: World) -> list[Measurement]:
    """Single rows and batches of the student in 32 and in 8 bits, the teacher as it is served, and single trees."""
    score, rows = _served(world), world.dataset.test.encoded
    with one_core():
        single = {name: _microseconds(one, rows, 1, _SINGLE) for name, one in score.items()}
        batched = {name: _microseconds(one, rows, BATCH, _BATCHES) for name, one in score.items()}
    label, found = f"{SETS[world.name]}:", []
    for name in score:
        found.append(Measurement(f"{label} {name}, one row", single[name], "µs", better="lower"))
        found.append(Measurement(f"{label} {name}, {BATCH} rows", BATCH / batched[name] * 1e6, "rows/s"))
    for student in STUDENTS:
        ratio = single[student] / single[TREES]
        found.append(Measurement(f"{label} one row, {student} / {TREES}", ratio, "x", 3.0, "lower"))
        for teacher, bar in (("event teacher", None), (ENSEMBLE, 40.0)):
            times = batched[teacher] / batched[student]
            found.append(Measurement(f"{label} {BATCH} rows, {student} against {teacher}", times, "x", bar))
    return found


def _served(world: World) -> dict[str, Callable[[Encoded], object]]:
    """Every model as a bundle serves it; the ensemble with its trees and its gate."""
    rows, folder = world.dataset.test.encoded, world.folder / "served"
    folder.mkdir(exist_ok=True)
    student = world.study.taught(world.options.seeds[0]).model
    networks = {
        STUDENTS[0]: ("student.onnx", student),
        STUDENTS[1]: ("student_int8.onnx", compression(world).in_8_bits(student)),
        "event teacher": (ONNX, world.teachers.event),
    }
    score: dict[str, Callable[[Encoded], object]] = {}
    for name, (file, network) in networks.items():
        export_onnx(network, folder / file, rows.take(slice(0, 64)))
        score[name] = OnnxScorer(folder / file, Calibrator()).score
    fingerprint, baseline = world.dataset.fingerprint, world.teachers.baseline
    world.teachers.save(folder, fingerprint)
    score[ENSEMBLE] = EnsembleScorer(folder, Calibrator(), dataset=fingerprint).score
    score[TREES] = lambda some: baseline.score_logits(some.context)
    return score


def step(world: World) -> list[Measurement]:
    """Time of one step of the student: attention relations against logits alone, both from the cache."""
    attention = DistillationConfig(preset="logits_and_attention")
    losses = {
        "logits alone": DistillationConfig(terms=attention.terms[:1]),
        "with attention relations": attention,
    }
    times = {name: _step(world, loss) for name, loss in losses.items()}
    label = f"{SETS[world.name]}: a step of {_STEP_ROWS} rows,"
    found = [Measurement(f"{label} {name}", 1e3 * took, "ms", better="lower") for name, took in times.items()]
    ratio = times["with attention relations"] / times["logits alone"]
    return [*found, Measurement(f"{label} with relations / logits alone", ratio, "x", 1.25, "lower")]


def _step(world: World, config: DistillationConfig) -> float:
    """Seconds of forward and backward: the median of many."""
    model = world.study.taught(world.options.seeds[0]).model
    answers = world.study.answers(world.config.model_copy(update={"distillation": config}))
    objective = world.school.objective(world.config.student, world.config.student_training, config, answers)
    drawn = np.random.default_rng(0).permutation(world.dataset.train.draw)
    model.train()
    took = []
    for number in range(_STEPS):
        rows = np.resize(drawn[number * _STEP_ROWS :], _STEP_ROWS)
        started = time.perf_counter()
        sum(objective.loss(model, rows, 0).values()).backward()  # type: ignore[union-attr]
        took.append(time.perf_counter() - started)
    model.train(False)
    return float(np.median(took[3:]))


def _microseconds(score: Callable[[Encoded], object], rows: Encoded, size: int, calls: int) -> float:
    """Processor time of one call on `size` rows, of all threads: the median of `calls`, after some to warm up."""
    batches = [rows.take(slice(start * size, (start + 1) * size)) for start in range(min(calls, len(rows) // size))]
    for batch in batches[:10]:
        score(batch)
    took = []
    for batch in batches:
        started = time.process_time_ns()
        score(batch)
        took.append(time.process_time_ns() - started)
    return float(np.median(took)) / 1e3
