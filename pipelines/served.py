"""A run's models as they are served: exported, calibrated on rows that nothing was chosen on, timed alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.compression import Student
from pipelines.teachers import Teachers
from riskdistill.config import EvaluationConfig
from riskdistill.dataset import Dataset, Period
from riskdistill.evaluation.metrics import STUDENT, TEACHER, TREES, ModelFacts, ScoredPeriod
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.ensemble_scorer import GATE, ONNX, EnsembleScorer, trees_of
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer, Scorer
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import EarlyExitScorer


@dataclass(frozen=True)
class Served:
    """What was trained, and how it scores.

    Attributes:
        students: by name.
        scorers: of the students and the ensemble, calibrated.
        calibrators: of those and of the baseline's trees.
        files: what a bundle holds of them: the teacher's, and those of the student that it taught.
    """

    teachers: Teachers
    students: Mapping[str, Student]
    scorers: Mapping[str, Scorer]
    calibrators: Mapping[str, Calibrator]
    files: Sequence[Path]

    def score(self, name: str, period: Period) -> ScoredPeriod:
        """The scores of all models, the baseline's too."""
        scores = {model: scorer.score_all(period.encoded).score for model, scorer in self.scorers.items()}
        scores[TREES] = self.calibrators[TREES](self.teachers.baseline.score_logits(period.encoded.context))
        return ScoredPeriod(name, period.label, period.typology, scores)

    def facts(self, rows: Encoded, config: EvaluationConfig, trees: Path) -> dict[str, ModelFacts]:
        """Size and speed: the same rows in the same batches, one after another, on one thread.

        Args:
            trees: file of the baseline.
        """
        students, baseline = self.students, self.teachers.baseline
        facts = {
            name: facts_of(
                scorer,
                students[name].parameters if name in students else self.teachers.parameters,
                rows,
                config,
            )
            for name, scorer in self.scorers.items()
        }
        facts[TREES] = ModelFacts(
            parameters=baseline.parameters,
            bytes=trees.stat().st_size,
            rows_per_second=measure_speed(rows, config, lambda batch: baseline.score_logits(batch.context)),
        )
        return facts


def serve(dataset: Dataset, teachers: Teachers, students: Mapping[str, Student], folder: Path) -> Served:
    """Export all models into `folder`, each network checked against PyTorch on real rows, and calibrate them.

    All are calibrated on the same rows, the later half of validation, on which nothing was chosen. A plain network
    answers on the scale of the mix; the ensemble's gate and the exits' calibrators took that back when they were
    fitted, on the earlier half.
    """
    sample = dataset.test.encoded.take(slice(0, 64))
    scorers: dict[str, Scorer] = {}
    files: list[Path] = []
    for name, student in students.items():
        scorers[name], own = _exported(name, student, folder, sample)
        files += own if name == STUDENT else ()
    export_onnx(teachers.event, folder / ONNX, sample)
    teachers.save(folder, dataset.fingerprint)
    scorers[TEACHER] = EnsembleScorer(folder, Calibrator(), dataset=dataset.fingerprint)
    files += (folder / ONNX, folder / GATE, *trees_of(folder))
    _, fold = dataset.validation.halves()
    calibrators = {}
    for name, scorer in scorers.items():
        shift = teachers.shift if isinstance(scorer, OnnxScorer) else 0.0
        calibrators[name] = Calibrator.fit(scorer.score_all(fold.encoded).logit, fold.label, shift=shift)
        scorer.calibrator = calibrators[name]
    calibrators[TREES] = Calibrator.fit(teachers.baseline.score_logits(fold.encoded.context), fold.label)
    return Served(teachers, students, scorers, calibrators, files)


def _exported(name: str, student: Student, folder: Path, sample: Encoded) -> tuple[Scorer, Sequence[Path]]:
    """A student's scorer, not calibrated yet, and its files."""
    if student.exits is None:
        path = folder / f"{name}.onnx"
        export_onnx(student.model, path, sample)
        return OnnxScorer(path, Calibrator()), (path,)
    export_exits(student.exits.student, student.exits.rule, folder, sample)
    exiting = EarlyExitScorer(folder, Calibrator())
    return exiting, exiting.files


def facts_of(scorer: Scorer, parameters: int, rows: Encoded, config: EvaluationConfig) -> ModelFacts:
    """What a scorer costs on `rows`, and what its early exits save."""
    return ModelFacts(
        parameters=parameters,
        bytes=scorer.bytes,
        rows_per_second=measure_speed(rows, config, scorer.score),
        layers_saved=scorer.layers_saved(rows) if isinstance(scorer, EarlyExitScorer) else None,
    )


def measure_speed(rows: Encoded, config: EvaluationConfig, score: Callable[[Encoded], object]) -> float:
    """Rows per second of one model, batch after batch: the median over three passes, after one to warm up."""
    rows = rows.take(slice(0, config.timing_rows))
    starts = range(0, len(rows), config.batch_size)
    batches = [rows.take(slice(start, start + config.batch_size)) for start in starts]
    score(batches[0])
    speeds = []
    for _ in range(3):
        started = time.perf_counter()
        for batch in batches:
            score(batch)
        speeds.append(len(rows) / (time.perf_counter() - started))
    return float(np.median(speeds))
