"""A whole run in seconds: the smallest networks that are still trained, distilled, exported and calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monitoring.profile import build_profile, draw_sample
from riskdistill.bundle import Bundle, BundleParts, KnownRates, Thresholds, write_bundle
from riskdistill.config import ExperimentConfig, ModelConfig
from riskdistill.data.rates import Rates
from riskdistill.dataset import Dataset
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.features import Encoded
from riskdistill.models.bins import Bins
from riskdistill.models.calibration import Calibrator, prior_shift
from riskdistill.models.event_transformer import EventTransformer, untrained
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.teacher import EventTeacher
from riskdistill.models.training import Trainer, score_logits

# Heads, width, depth and tokens differ between the two, as they do in earnest.
CONFIG = ExperimentConfig.model_validate(
    {
        "name": "tiny",
        "features": {"events_per_party": 8},
        "mix": {"max_rows": 1_000},
        "teacher": {"width": 32, "layers": 2, "heads": 4, "events_per_party": 8, "context_width": 32}
        | {"pieces": 2_000, "feature_dropout": 0.0},
        "student": {"width": 16, "layers": 1, "heads": 2, "events_per_party": 4, "context_width": 16}
        | {"pieces": 1_000, "feature_dropout": 0.0},
        "training": {"epochs": 2, "batch_size": 128},
        "student_training": {"epochs": 2, "batch_size": 128, "learning_rate": 1e-3},
        "distillation": {"relation_heads": 4},
    }
)


def configured(**sections: Any) -> ExperimentConfig:
    """The tiny experiment with other sections."""
    return ExperimentConfig.model_validate({**CONFIG.model_dump(), **sections})


@dataclass(frozen=True)
class TinyRun:
    teacher: EventTransformer
    student: EventTransformer
    cache: TeacherCache
    onnx: dict[str, Path]
    bundle: Bundle


def network(dataset: Dataset, size: ModelConfig, seed: int = 7) -> EventTransformer:
    """An untrained network that reads numbers between quantiles of the training rows."""
    torch.set_num_threads(1)
    bins = Bins.of_quantiles(dataset.train.encoded.context, size.pieces)
    return untrained(
        size,
        bins,
        dataset.spec,
        dataset.train.encoded.events,
        typologies=dataset.typologies,
        dataset_fingerprint=dataset.fingerprint,
        seed=seed,
    )


def train(dataset: Dataset, folder: Path) -> TinyRun:
    """Teacher, student and bundle, below `folder`."""
    validation = dataset.validation.encoded, dataset.validation.label
    teacher = network(dataset, CONFIG.teacher.network)
    labels = LabelObjective(dataset.train, label_smoothing=0.05)
    Trainer("teacher", teacher, dataset.train, validation, CONFIG.training).run(labels)
    wanted = wanted_by(CONFIG.distillation, CONFIG.student.events_per_party)
    cache = ask(EventTeacher(teacher, 0.0), dataset.train.encoded, wanted)  # logits stay on the mix's scale
    student = network(dataset, CONFIG.student)
    terms = DistillationObjective(dataset.train, cache, CONFIG.distillation, epochs=2, label_smoothing=0.05)
    Trainer("student", student, dataset.train, validation, CONFIG.student_training).run(terms)
    models = {"student": student, "teacher": teacher}
    onnx = {role: folder / f"{role}.onnx" for role in models}
    for role, model in models.items():
        export_onnx(model, onnx[role], dataset.test.encoded)
    shift = prior_shift(dataset.prevalence, dataset.mixed_prevalence)
    calibrators = {
        role: Calibrator.fit(score_logits(model, validation[0])[0], validation[1], shift=shift)
        for role, model in models.items()
    }
    bundle = write_bundle(
        folder / "bundle", bundle_parts(dataset, calibrators, onnx["student"], folder), list(onnx.values())
    )
    return TinyRun(teacher, student, cache, onnx, bundle)


def bundle_parts(dataset: Dataset, calibrators: dict[str, Calibrator], student: Path, folder: Path) -> BundleParts:
    """All of a bundle but the models; thresholds at quantiles of the student's own scores."""
    rows: Encoded = dataset.validation.encoded
    score = OnnxScorer(student, calibrators["student"]).score_all(rows).score
    low, review, high, hold = np.quantile(score, (0.5, 0.9, 0.95, 0.98)).tolist()
    thresholds = Thresholds(review=review, hold=hold, uncertain_low=low, uncertain_high=high, high_risk=hold)
    profile = build_profile(
        rows.context,
        dataset.spec.names,
        score,
        alert_rate=float((score >= review).mean()),
        bypass_rate=float(np.mean([thresholds.bypass(value) is not None for value in score])),
        hours=(dataset.validation.end - dataset.validation.start).total_seconds() / 3_600,
    )
    draw_sample(rows.context, dataset.spec.names, score).to_parquet(folder / "reference.parquet")
    known = np.where(np.isnan(dataset.train_context).all(axis=0), np.float32(0), dataset.train_context)
    lower, typical, upper = np.nanquantile(known, (0.25, 0.5, 0.75), axis=0).astype(np.float32)
    return BundleParts(
        name="tiny",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        dataset_fingerprint=dataset.fingerprint,
        spec=dataset.spec,
        rates=KnownRates.of(Rates.fixed(), datetime(2026, 1, 1, tzinfo=UTC)),
        typologies=dataset.typologies,
        parameters={"student": 1, "teacher": 2},
        thresholds=thresholds,
        calibrators=calibrators,
        typical=typical,
        spread=upper - lower,
        profile=profile.model_dump(mode="json"),
        reference=folder / "reference.parquet",
        model_card="# tiny",
    )
